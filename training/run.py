"""The story of one run: from a frozen snapshot to a version, judged by the gate."""

import argparse
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors

from toploss import __version__, artifact, losses, models, network, runs, snapshots
from toploss.engine import Engine, OnnxEngine, Probabilities
from toploss.errors import BadData, BadInput, Cancelled, Fenced, Stale, ToplossError
from toploss.home import Home
from toploss.ids import new_id
from toploss.network import Network
from toploss.plan import DOWNLOADED, Plan
from toploss.preprocess import Preprocessing
from toploss.processes import follow_parent, identity
from toploss.runs import Lease, RunState
from toploss.schema import versions
from toploss.snapshots import Row, Snapshot
from training import evaluation, export, gate, randomness, recipe, report
from training.data import Pictures, loaders
from training.diary import Diary, Pulse
from training.gate import Judgement
from training.recipe import Trained

log = logging.getLogger("toploss.run")

PARITY_IMAGES = 64
BAD_DATA = 42  # exit code of a launched training that no new attempt can heal


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended."""

    run: str
    version: str
    fingerprint: str
    metrics: dict[str, dict[str, float]]
    history: list[dict[str, Any]]
    gate: dict[str, Any]  # the judgement, with `promoted` and `generation`


def execute(
    home: Home, lease: Lease, *, watch: Callable[[str, float], None] = lambda *_: None
) -> Result:
    """Do the run that this lease is for, to its end: a version and a verdict.

    Args:
        watch: hears the stage and how much of it is done, 0 to 1.

    Raises:
        ToplossError: the run has ended as failed or cancelled, with the reason; nothing of it is
            visible. Fenced: another attempt owns it, and nothing was written.
    """
    handler = _log_to(home, lease)
    try:
        with Pulse(home, lease) as pulse:
            return _story(home, lease, Diary(home, lease, pulse, watch))
    except Fenced:
        raise
    except (Cancelled, KeyboardInterrupt) as exc:
        _end(home, lease, RunState.CANCELLED, str(exc) or "interrupted")
        raise
    except ToplossError as exc:
        # Into the run's log alone: whoever asked for the run is told by the error.
        handler.handle(log.makeRecord(log.name, logging.ERROR, "", 0, str(exc), (), None))
        _end(home, lease, RunState.FAILED, str(exc))
        raise
    except BaseException as exc:
        log.exception("the run has failed")
        _end(home, lease, RunState.FAILED, str(exc) or repr(exc))
        raise
    finally:
        logging.getLogger("toploss").removeHandler(handler)
        handler.close()


def _story(home: Home, lease: Lease, diary: Diary) -> Result:
    started = time.time()
    plan = runs.take_up(home, lease, owner=identity()).stored(home)
    threads, device = home.settings.thread_count, _device(home)
    diary.enter("snapshot")
    snapshot = snapshots.freeze(home)
    runs.note(home, lease, fingerprint=snapshot.fingerprint, plan=plan.as_json())
    log.info("%s", _counted(snapshot, plan, device, threads))
    randomness.seed(plan.seed, threads)
    diary.enter("decode")
    pictures = Pictures(home, plan.size)
    pictures.warm(snapshot.rows, threads, lambda done: diary.step(done / len(snapshot.rows)))
    dls = loaders(pictures, snapshot, plan, device)
    net = network.build(plan.arch, len(snapshot.labels), weights=_weights(home, plan))
    trained = recipe.train(
        net, dls, plan, diary, lambda stage, n: _checkpoint(home, lease, stage, n)
    )

    diary.enter("evaluate")
    preprocessing = Preprocessing(size=plan.size)
    model = evaluation.reference(net, preprocessing, device)
    found = {split: _judged(model, pictures, snapshot, split) for split in ("valid", "test")}
    metrics = {split: measured for split, (_, measured) in found.items()}
    diary.enter("export")
    with tempfile.TemporaryDirectory(prefix="toploss-") as scratch:
        folder = Path(scratch)
        version = new_id()
        draft = _draft(home, version, lease, plan, snapshot, trained, metrics, threads)
        valid = snapshot.of_split("valid")[:PARITY_IMAGES]
        draft["parity"], engine = export.write(
            net,
            folder,
            {**draft, "parity": {"tolerance": export.TOLERANCE}},
            pictures.stack(valid),
            found["valid"][0][: len(valid)],
            threads=threads,
        )
        diary.enter("gate")
        judgement, generation = _gate(home, engine, snapshot, pictures)
        log.info("gate: %s: %s", judgement.verdict, judgement.reason)
        draft["gate"] = judgement.as_json()
        diary.enter("publish")
        sealed = artifact.seal(folder, draft)
        table = evaluation.confusion(
            found["test"][0], evaluation.places(snapshot.of_split("test"), snapshot.labels)
        )
        page = report.page(draft, trained, table)
        (folder / artifact.REPORT).write_text(page, encoding="utf-8")
        artifact.publish(home, folder, f"versions/{version}")
        verdict = _settle(
            home, lease, draft, sealed, snapshot, found["valid"][0], judgement, generation
        )
    log.info("done in %.0f s: version %s, %s", time.time() - started, version, verdict["outcome"])
    return Result(
        run=lease.run,
        version=version,
        fingerprint=snapshot.fingerprint,
        metrics=metrics,
        history=trained.as_json(),
        gate=verdict,
    )


def _settle(
    home: Home,
    lease: Lease,
    manifest: dict[str, Any],
    sealed: str,
    snapshot: Snapshot,
    held_out: Probabilities,
    judgement: Judgement,
    generation: int,
) -> dict[str, Any]:
    """Make the version, its scores, the verdict and the promotion visible, all at once."""
    version = manifest["version"]
    with home.db.write() as connection:
        asked = runs.owned(connection, lease)
        connection.execute(
            versions.insert().values(
                name=version,
                run_id=lease.run,
                path=f"versions/{version}",
                manifest_sha256=sealed,
                manifest=manifest,
                class_ids=list(snapshot.class_ids),
                created_at=time.time(),
            )
        )
        valid = [row.id for row in snapshot.of_split("valid")]
        losses.keep(connection, version, valid, held_out)
        snapshots.settle(home, connection, snapshot.fingerprint)
        verdict = judgement.as_json() | {"promoted": False, "generation": None}
        if not gate.promotes(judgement, home.settings.gate_cannot_tell):
            verdict["outcome"] = "not promoted: the gate said no"
        elif not asked.promote:
            verdict["outcome"] = "not promoted: not asked to"
        else:
            try:
                alias = models.move(
                    connection,
                    version,
                    reason=judgement.reason,
                    actor=f"run {lease.run}",
                    expected=generation,
                )
                verdict |= {
                    "promoted": True,
                    "generation": alias.generation,
                    "outcome": f"promoted to production, generation {alias.generation}",
                }
            except Stale as exc:
                verdict["outcome"] = f"not promoted: {exc}"
        runs.finish(
            connection,
            lease,
            RunState.SUCCEEDED,
            version=version,
            metrics=manifest["metrics"],
            gate=verdict,
            stage="done",
        )
    return verdict


def _gate(
    home: Home, candidate: Engine, snapshot: Snapshot, pictures: Pictures
) -> tuple[Judgement, int]:
    """Candidate against production on the frozen holdout under today's labels, each by the engine
    that serves; with the generation that it was compared with (0: none)."""
    alias = models.production(home)
    rows = snapshot.of_split("test")
    if alias is None:
        truth = evaluation.places(rows, snapshot.labels)
        found = evaluation.predicted(candidate.probabilities, pictures, rows)
        return gate.first(found.argmax(axis=1) == truth, truth), 0
    with tempfile.TemporaryDirectory(prefix="toploss-") as scratch:
        version = models.get(home, alias.version)
        loaded = artifact.fetch(home, version, Path(scratch))
        production = OnnxEngine(loaded, threads=home.settings.thread_count)
        ours = _as_learned(home, alias.version, snapshot)
        shared = [row for row in rows if row.label in ours]
        hits = _hits(candidate, pictures, shared, snapshot.labels)
        other = Pictures(home, loaded.preprocessing.size)
        renamed = [Row(**{**vars(row), "label": ours[row.label]}) for row in shared]
        theirs = _hits(production, other, renamed, loaded.labels)
    margin = home.settings.gate_margin
    return gate.compare(hits, theirs, margin=margin, against=alias.version), alias.generation


def _as_learned(home: Home, version: str, snapshot: Snapshot) -> dict[str, str]:
    """Today's label → the name under which that version learned the class; ids tell them apart."""
    with home.db.read() as connection:
        ids = connection.execute(versions.select().where(versions.c.name == version)).one()
    names = dict(zip(ids.class_ids, ids.manifest["labels"], strict=True))
    today = zip(snapshot.class_ids, snapshot.labels, strict=True)
    return {label: names[class_id] for class_id, label in today if class_id in names}


def _hits(engine: Engine, pictures: Pictures, rows: list[Row], labels: tuple[str, ...]) -> Any:
    if not rows:
        return evaluation.places(rows, labels) == 0
    found = evaluation.predicted(engine.probabilities, pictures, rows)
    return found.argmax(axis=1) == evaluation.places(rows, labels)


def _judged(
    model: evaluation.Model, pictures: Pictures, snapshot: Snapshot, split: str
) -> tuple[Probabilities, dict[str, float]]:
    rows = snapshot.of_split(split)
    found = evaluation.predicted(model, pictures, rows)
    measured = evaluation.metrics(found, evaluation.places(rows, snapshot.labels))
    log.info("%s: accuracy %.4f, loss %.4f", split, measured["accuracy"], measured["loss"])
    return found, measured


def _weights(home: Home, plan: Plan) -> dict[str, Any] | None:
    """The pretrained tensors that the plan names. Raises BadInput: not to be had, or no weights."""
    if plan.from_scratch:
        return None
    if plan.weights == DOWNLOADED:
        return network.downloaded_weights(plan.arch)
    return network.read_weights(home.blobs.get(plan.weights), plan.weights)


def _checkpoint(home: Home, lease: Lease, stage: str, net: Network) -> None:
    """A named checkpoint under the run: `runs/<id>/stage-1.safetensors`, the latest attempt's."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "weights"
        export.write_weights(net, file)
        home.blobs.put(checkpoint_path(lease.run, stage), file.read_bytes())


def load_checkpoint(home: Home, run: str, stage: str, net: Network) -> None:
    """Load a run's `stage-1` or `stage-2` into a network of its architecture and classes."""
    net.load_state_dict(load_tensors(home.blobs.get(checkpoint_path(run, stage))))


def checkpoint_path(run: str, stage: str) -> str:
    return f"runs/{run}/{stage}.safetensors"


def _draft(
    home: Home,
    version: str,
    lease: Lease,
    plan: Plan,
    snapshot: Snapshot,
    trained: Trained,
    metrics: dict[str, dict[str, float]],
    threads: int,
) -> dict[str, Any]:
    """The manifest, but for what only the artifact and the gate can tell."""
    return {
        "name": home.settings.name,
        "version": version,
        "run": lease.run,
        "trained_at": time.time(),
        "labels": list(snapshot.labels),
        "architecture": plan.arch,
        "preprocessing": Preprocessing(size=plan.size).as_json(),
        "snapshot": {"fingerprint": snapshot.fingerprint, "counts": snapshot.counts},
        "seed": plan.seed,
        "threads": threads,
        "settings": plan.as_json() | {"rate": trained.rate},
        "code": {"toploss": __version__},
        "libraries": _libraries(),
        "metrics": metrics,
    }


def _libraries() -> dict[str, str]:
    from importlib.metadata import version

    names = ("torch", "torchvision", "fastai", "onnx", "onnxruntime", "numpy", "pillow")
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}}


def _counted(snapshot: Snapshot, plan: Plan, device: str, threads: int) -> str:
    splits = ", ".join(f"{sum(c.values())} {split}" for split, c in snapshot.counts.items())
    return (
        f"{splits} in {len(snapshot.labels)} classes (snapshot {snapshot.fingerprint[:12]}); "
        f"{plan.arch} at {plan.size} px, weights {plan.weights}, seed {plan.seed}, "
        f"{device} with {threads} threads"
    )


def _device(home: Home) -> str:
    import torch

    wanted = home.settings.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise BadInput("TOPLOSS_DEVICE=cuda, but PyTorch sees no GPU; set auto or cpu")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _end(home: Home, lease: Lease, state: RunState, error: str) -> None:
    with home.db.write() as connection:
        try:
            runs.finish(connection, lease, state, error=error)
        except Fenced:
            log.warning("the run is another attempt's by now")


def _log_to(home: Home, lease: Lease) -> logging.Handler:
    path = runs.log_path(lease.run, lease.fence)
    handler = logging.FileHandler(home.blobs.local(path), encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("toploss")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    runs.note(home, lease, log=path)
    return handler


def main() -> int:
    """What a launcher starts: one attempt at a run, tied to its parent's life."""
    parser = argparse.ArgumentParser(prog="python -m training.run")
    parser.add_argument("run")
    parser.add_argument("--fence", type=int, required=True)
    parser.add_argument("--parent", type=int, help="process id of who launched it")
    args = parser.parse_args()
    follow_parent(lambda: os._exit(1), parent=args.parent)
    os.nice(10)  # a service beside us goes first
    # A polite end is the dispatcher's to record; a cancelled run ends by its heartbeat.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    try:
        execute(Home.open(), Lease(run=args.run, fence=args.fence))
    except (BadData, BadInput) as exc:
        print(exc, file=sys.stderr)
        return BAD_DATA
    except ToplossError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
