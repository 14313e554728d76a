"""What a retraining had best begin with: accuracy on test and seconds, cold and warm.

Production learned from the first six in ten of the training images; then the rest has come, and a
network is trained on all of them: from where the very first one began (cold), from production's
body under a new head, from halfway between the two (shrink and perturb), or from production's
network as it is; with as many epochs as a cold start has, and with fewer.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from bench import subjects
from bench.common import main, options
from bench.subjects import Subject
from toploss.network import Network
from toploss.plan import Plan, Start
from toploss.settings import available_cores
from training import lesson, memory
from training.data import Material
from training.follower import Unheard

SEEDS = (0, 1, 2)
KNOWN = 0.6  # share of the training images that production learned from
AS_IT_IS = "as it is"
WAYS = (Start.COLD, Start.FRESH_HEAD, Start.SHRINK, AS_IT_IS)
# Epochs of both stages: those of a cold start, and fewer.
EPOCHS = {"digits": ((3, 3), (2, 1)), "trashnet-160": ((4, 4), (2, 2))}
SIZE = 96  # pixels of the photographs


def measure(quick: bool, only: str) -> dict[str, Any]:
    memory.keep_freed()
    seeds = SEEDS[:1] if quick else SEEDS
    rows = []
    with tempfile.TemporaryDirectory(prefix="toploss-bench-") as scratch:
        for data, subject in _subjects(Path(scratch), quick):
            if data.startswith(only):
                rows += [row for seed in seeds for row in _retrained(data, subject, seed)]
    return {"rows": rows, "means": _means(rows)}


def _subjects(folder: Path, quick: bool) -> Iterator[tuple[str, Subject]]:
    yield "digits", subjects.digits(folder)
    if subjects.TRASHNET.is_dir() and not quick:
        yield "trashnet-160", subjects.trashnet(folder, "squeezenet1_0", size=SIZE)


def _retrained(data: str, subject: Subject, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each way of beginning, and number of epochs."""
    (head, both), *_ = EPOCHS[data]
    plan = replace(subject.plan, seed=seed, epochs_head=head, epochs_all=both)
    everything = subject.material
    known = replace(everything, train=everything.train[: int(KNOWN * len(everything.train))])
    production, _ = _trained(subject, known, plan)
    kept = f"bench/production-{seed}.safetensors"
    state = {key: value.contiguous() for key, value in production.state_dict().items()}
    subject.home.blobs.put(kept, save(state))
    yield _row(data, seed, "production", (head, both), 0.0, subject.judged(production))
    for head, both in EPOCHS[data]:
        for way in WAYS:
            ours = replace(plan, seed=seed + 100, epochs_head=head, epochs_all=both)
            warm = replace(ours, start=kept) if way == AS_IT_IS else ours.again(Start(way), kept)
            net, seconds = _trained(subject, everything, warm)
            yield _row(data, seed, way, (head, both), seconds, subject.judged(net))


def _trained(subject: Subject, material: Material, plan: Plan) -> tuple[Network, float]:
    began = time.monotonic()
    learned = lesson.learn(subject.home, material, plan, Unheard(), threads=available_cores())
    return learned.network, time.monotonic() - began


def _row(
    data: str, seed: int, way: str, epochs: tuple[int, int], seconds: float, accuracy: float
) -> dict[str, Any]:
    told = "{} and {}".format(*epochs)
    print(f"{data} seed {seed} {way} {told}: {accuracy:.4f} {seconds:.0f} s", flush=True)
    return {
        "data": data,
        "seed": seed,
        "start": str(way),
        "epochs": told,
        "accuracy": accuracy,
        "seconds": round(seconds, 1),
    }


def _means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Over the seeds: accuracy, and what it has above the cold start's with as many epochs."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["data"], row["epochs"], row["start"]), []).append(row)
    return {
        " ".join(key): {
            "accuracy": statistics.fmean(row["accuracy"] for row in group),
            "above_cold": statistics.fmean(
                row["accuracy"] - cold["accuracy"]
                for row, cold in zip(group, groups[*key[:2], Start.COLD], strict=True)
            ),
            "seconds": statistics.fmean(row["seconds"] for row in group),
        }
        for key, group in groups.items()
    }


if __name__ == "__main__":
    parser = options("warm_start", "one seed, the digits alone")
    parser.add_argument("--only", default="", help="data sets whose names begin so")
    main(parser, lambda args: measure(args.quick, args.only))
