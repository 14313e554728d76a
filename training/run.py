"""The story of one run: from a frozen snapshot to a version, judged by the gate."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from toploss import architectures, artifact, attempts, erasure, records, runs, settling, snapshots
from toploss.attempts import Lease
from toploss.engine import Engine
from toploss.errors import BadData, BadInput, Cancelled, ToplossError
from toploss.home import Home
from toploss.plan import Plan
from toploss.processes import come_last, die_with_parent, follow_parent, identity
from toploss.snapshots import Snapshot
from toploss.states import BAD_DATA as BAD_DATA
from training import (
    diagnosis,
    ending,
    export,
    lesson,
    manifest,
    memory,
    patience,
    ranks,
    report,
    trial,
)
from training.appraisal import Appraisal, appraise, pictured
from training.checkpoints import Checkpoints
from training.data import Pictures, preprocessing
from training.diary import Diary
from training.evidence import Evidence
from training.lesson import Learned, hardware
from training.pulse import Pulse
from training.recipe import Diverged, Place
from training.settlement import settle

log = logging.getLogger("toploss.run")

PARITY_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a run ended."""

    run: str
    version: str
    fingerprint: str
    metrics: dict[str, dict[str, float]]
    history: list[dict[str, Any]]
    diagnosis: list[dict[str, Any]]  # every rule's finding
    gate: dict[str, Any]  # the judgement, with `wanted`, `promoted` and `generation`


def execute(
    home: Home,
    lease: Lease,
    *,
    watch: Callable[[str, float], None] = lambda *_: None,
    launched: bool = False,
) -> Result:
    """Do the run that this lease is for, to its end: a version and a verdict.

    Args:
        watch: hears the stage and how much of it is done, 0 to 1.
        launched: the log goes to standard error, and whoever launched us keeps it.

    Raises:
        ToplossError: the run has ended as failed or cancelled, with the reason; nothing of it is
            visible. Fenced: another attempt owns it, and nothing was written.
    """
    with (
        ending.written(home, lease),
        ending.logged(home, lease, launched=launched),
        Pulse(home, lease) as pulse,
    ):
        try:
            return _story(home, lease, Diary(home, lease, pulse, watch))
        except Diverged as exc:
            _diverged(home, lease, exc)  # never raises: the run has to end
            raise


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """What a run plays in, from when its data are frozen."""

    plan: Plan
    snapshot: Snapshot
    pictures: Pictures
    checkpoints: Checkpoints
    place: Place
    threads: int


def _story(home: Home, lease: Lease, diary: Diary) -> Result:
    started = time.time()
    scene = _begin(home, lease, diary)
    plan, snapshot, pictures = scene.plan, scene.snapshot, scene.pictures
    diary.enter("decode")
    pictures.warm(snapshot.rows, scene.threads, lambda done: diary.step(done / len(snapshot.rows)))
    learned = lesson.learn(
        home,
        lesson.material(pictures, snapshot),
        plan,
        diary,
        keeper=scene.checkpoints,
        place=scene.place,
        threads=scene.threads,
    )
    ranks.leave()
    alone = replace(scene.place, ranks=ranks.ALONE)
    with threadpool_limits(scene.threads):  # NumPy's and SciPy's take every core of the machine
        found = appraise(learned, snapshot, pictures, plan, alone, diary)
    attempts.note(home, lease, diagnosis=found.told()["diagnosis"])
    with tempfile.TemporaryDirectory(prefix="toploss-") as scratch:
        draft, verdict = _publish(home, lease, diary, scene, learned, found, Path(scratch))
    scene.checkpoints.clear()
    with contextlib.suppress(ToplossError):  # the dispatcher does it, or the next who asks
        settling.finish(home)
        erasure.finish(home)
    took = time.time() - started
    log.info("done in %.0f s: version %s, %s", took, draft["version"], verdict["outcome"])
    return Result(
        run=lease.run,
        version=draft["version"],
        fingerprint=snapshot.fingerprint,
        metrics=found.metrics,
        history=learned.trained.as_json(),
        diagnosis=draft["diagnosis"],
        gate=verdict,
    )


def _begin(home: Home, lease: Lease, diary: Diary) -> _Scene:
    """Take the run up, with its data frozen; those who train along hear what is to be learned."""
    plan = records.parted(home, attempts.take_up(home, lease, owner=identity()).stored(home))
    plan.check()
    architectures.check(plan.arch, plan.size)
    device = hardware(home)
    company = ranks.join(device)
    threads = max(1, home.settings.thread_count // company.here)
    diary.enter("weights")
    lesson.check(home, plan)
    diary.enter("snapshot")
    checkpoints = Checkpoints(home, lease.run)
    moment = checkpoints.last()
    if moment is not None:
        diary.recall(moment.trained.history)
    snapshot = _snapshot(home, lease)
    attempts.note(home, lease, fingerprint=snapshot.fingerprint, plan=plan.as_json())
    _not_again(home, lease, snapshot.fingerprint, plan)
    log.info("run %s: %s", lease.run, manifest.summary(snapshot, plan, device, threads))
    said = {"plan": plan.as_json(), "fingerprint": snapshot.fingerprint}
    company.told(said | {"run": lease.run, "threads": threads})
    diary.expect(plan, len(snapshot.rows))
    return _Scene(
        plan=plan,
        snapshot=snapshot,
        pictures=Pictures(home, preprocessing(plan)),
        checkpoints=checkpoints,
        place=Place(device=device, workers=home.settings.train_workers, ranks=company),
        threads=threads,
    )


def _publish(
    home: Home,
    lease: Lease,
    diary: Diary,
    scene: _Scene,
    learned: Learned,
    found: Appraisal,
    folder: Path,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The version, made in a folder that is empty, judged and published: its manifest, and the
    verdict."""
    snapshot, pictures = scene.snapshot, scene.pictures
    diary.enter("export")
    draft = manifest.draft(
        home,
        run=lease.run,
        plan=scene.plan,
        snapshot=snapshot,
        trained=learned.trained,
        threads=scene.threads,
        device=scene.place.device,
    )
    draft |= found.told()
    draft["parity"], engine = _export(folder, draft, learned, found, snapshot, pictures)
    diary.enter("gate")
    candidate = trial.Candidate(
        name=draft["version"],
        loaded=artifact.unsealed(folder, draft),
        engine=engine,
        snapshot=snapshot,
    )
    judged = trial.judge(home, candidate, pictures)
    log.info("gate: %s: %s", judged.judgement.verdict, judged.judgement.reason)
    draft["gate"] = judged.judgement.as_json()
    diary.enter("publish")
    sealed = artifact.seal(folder, draft)
    _report(home, folder, draft, learned, found, snapshot)
    path = f"versions/{draft['version']}"
    patience.through(home, lambda: artifact.publish(home, folder, path), diary.check)
    verdict = settle(home, lease, draft, sealed, snapshot, found.opinion, judged, heard=diary.step)
    return draft, verdict


def _export(
    folder: Path,
    draft: dict[str, Any],
    learned: Learned,
    found: Appraisal,
    snapshot: Snapshot,
    pictures: Pictures,
) -> tuple[dict[str, Any], Engine]:
    """The artifact's files but for the manifest; its parity, and the engine that serves."""
    valid = snapshot.of_split("valid")[:PARITY_IMAGES]
    export.write_features(found.bank, folder / artifact.FEATURES)
    export.write_traits(found.traits, folder / artifact.TRAITS)
    return export.write(
        learned.network,
        folder,
        {**draft, "parity": {"tolerance": export.TOLERANCE}},
        pictures.stack(valid),
        found.valid[: len(valid)],
        [row.id for row in valid],
        threads=draft["threads"],
    )


def _report(
    home: Home,
    folder: Path,
    draft: dict[str, Any],
    learned: Learned,
    found: Appraisal,
    snapshot: Snapshot,
) -> None:
    """One page for people; a version without is better than none after hours of training."""
    try:
        page = report.page(
            report.Contents(
                manifest=draft,
                trained=learned.trained,
                probabilities=found.test,
                truth=snapshots.places(snapshot.of_split("test"), snapshot.labels),
                pictures=pictured(home, found, snapshot),
            )
        )
    except Exception:
        log.exception("the report could not be made; the version has none")
        return
    (folder / artifact.REPORT).write_text(page, encoding="utf-8")


def _snapshot(home: Home, lease: Lease) -> Snapshot:
    """Today's data; or those that an earlier attempt at this run has frozen. Raises BadData where
    some of them were erased since."""
    kept = records.show(home, lease.run)["fingerprint"]
    if kept is None:
        return snapshots.freeze(home)
    return erasure.none_of(home, snapshots.load(home, str(kept)))


def _not_again(home: Home, lease: Lease, fingerprint: str, plan: Plan) -> None:
    """Whoever asks for a run does not hash a million rows first: here, where the data are frozen,
    it shows whether it would make the same model once more.

    Raises:
        Cancelled: it would, and nobody sits before it or has asked for it even so. It has no
            verdict of its own, and nothing has failed.
    """
    with home.db.read() as connection:
        asked = records.find(connection, lease.run)
        done = runs.equal(connection, fingerprint, plan)
    if done is not None and not asked.foreground and not asked.forced:
        raise Cancelled(runs.nothing_new(done))


def _diverged(home: Home, lease: Lease, exc: Diverged) -> None:
    """A run that broke keeps what can be said of it."""
    try:
        run = records.show(home, lease.run)
        plan = Plan.from_json(run["settings"])
        snapshot = snapshots.load(home, run["fingerprint"])
        findings = diagnosis.diagnose(
            Evidence(
                labels=snapshot.labels,
                counts=tuple(snapshot.counts["train"].get(label, 0) for label in snapshot.labels),
                trained=exc.trained,
                from_scratch=plan.from_scratch,
                non_finite=True,
            )
        )
        attempts.note(home, lease, diagnosis=[finding.as_json() for finding in findings])
    except Exception:  # whatever it is, the run has yet to end
        log.exception("the diagnosis has failed")


def main() -> int:
    """What a launcher starts: one attempt at a run, tied to its parent's life."""
    parser = argparse.ArgumentParser(prog="python -m training.run")
    parser.add_argument("run")
    parser.add_argument("--fence", type=int, required=True)
    parser.add_argument("--parent", type=int, help="process id of who launched it")
    args = parser.parse_args()
    if args.parent:
        die_with_parent()
    follow_parent(lambda: os._exit(1), parent=args.parent)
    come_last()
    # A polite end is the dispatcher's to record; a cancelled run ends by its heartbeat.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    try:
        home = Home.open()
        memory.limit(home.settings.train_memory)
        memory.keep_freed()
        if ranks.first():
            execute(home, Lease(run=args.run, fence=args.fence), launched=True)
        else:
            lesson.assist(home)
    except (BadData, BadInput) as exc:
        print(exc, file=sys.stderr)
        return BAD_DATA
    except ToplossError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
