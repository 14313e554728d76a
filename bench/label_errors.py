"""How many planted label errors each way of scoring, and each order, brings to the top.

Labels of train and valid are made wrong, then looked for: by the validation loss alone, by the
losses of a model that learned from the errors, by held-out folds; cleanlab is given the very same
probabilities. `trashnet-160` and SqueezeNet's ImageNet weights are looked for in `shared/` beside
the project; without them the digits alone are measured.
"""

import csv
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.common import machine, options, title, write
from bench.subjects import TRASHNET, WEIGHTS
from demo import digits
from toploss import orders, snapshots
from toploss.engine import softmax
from toploss.home import Home
from toploss.orders import Labels, Order, Probabilities, Scores
from toploss.plan import Plan
from toploss.settings import read_settings
from toploss.snapshots import Row

SQUEEZENET = WEIGHTS / "squeezenet1_0.pth"

FOLDS = 5
SEEDS = (0, 1, 2)
VALIDATION, IN_SAMPLE, FROZEN, FULL = "validation", "in-sample", "frozen-folds", "full-folds"
FROM_SCRATCH = {
    "arch": "resnet18",
    "weights": "none",
    "size": 32,
    "batch_size": 32,
    "flip": False,
}
PRETRAINED = {"arch": "squeezenet1_0", "weights": str(SQUEEZENET), "size": 128}
EPOCHS = {"epochs_head": 3, "epochs_all": 3, "lr": 3e-3, "folds": FOLDS}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Errors planted in a data set."""

    data: str
    noise: str  # symmetric: any other class; pair: the next one
    rate: float  # share of the samples of train and valid
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data}-{self.noise}-{self.rate:.0%}-{self.seed}".replace("%", "")


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set without planted errors, and how a network learns it."""

    home: Home
    plan: Plan
    labels: tuple[str, ...]
    rows: list[Row]  # of train and valid, under their true labels
    pictures: Any


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What models say of samples, some of them mislabelled."""

    probabilities: Probabilities
    votes: Probabilities
    given: Labels  # (n,), the label that each is filed under
    wrong: npt.NDArray[np.bool_]  # (n,), whether it was planted
    seconds: float


def measure(quick: bool, keep: Path, only: str) -> dict[str, Any]:
    """Judge every case by every way of scoring and every order; means over the seeds.

    Args:
        keep: where the probabilities are kept, and found again by the next measurement.
        only: cases whose names begin so.
    """
    judged: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    sets: dict[str, DataSet] = {}
    with tempfile.TemporaryDirectory(prefix="toploss-bench-") as scratch:
        for case, how in _cases(quick):
            if not case.name.startswith(only):
                continue
            scored = _kept(
                keep / f"{case.name}-{how}.npz",
                lambda: _score(_data_set(sets, case.data, Path(scratch)), case, how),  # noqa: B023 — called at once
            )
            for order, found in _found(scored).items():
                row = (case.data, case.noise, case.rate, how, order)
                judged.setdefault(row, []).append(found | {"seconds": scored.seconds})
            best = judged[case.data, case.noise, case.rate, how, Order.LOSS][-1]
            print(f"{case.name} {how}: {best['found_at_n']:.3f} found at n", flush=True)
        for data in sets.values():
            data.home.db.close()
    return {"rows": _rows(judged), "against_cleanlab": _against(judged)}


def _cases(quick: bool) -> Iterator[tuple[Case, str]]:
    """What is measured, the most telling first."""
    seeds = SEEDS[:1] if quick else SEEDS
    noises = (
        [("symmetric", 0.1)] if quick else list(product(("symmetric", "pair"), (0.1, 0.2, 0.05)))
    )
    for (noise, rate), seed, how in product(noises, seeds, (FULL, FROZEN, VALIDATION, IN_SAMPLE)):
        yield Case(data="digits", noise=noise, rate=rate, seed=seed), how
    if TRASHNET.is_dir() and SQUEEZENET.is_file():
        for (noise, rate), seed, how in product(noises, seeds, (FROZEN, VALIDATION, IN_SAMPLE)):
            if rate == 0.1:
                yield Case(data="trashnet-160", noise=noise, rate=rate, seed=seed), how
        if not quick:
            yield Case(data="trashnet-160", noise="symmetric", rate=0.1, seed=SEEDS[0]), FULL


def plant(truth: Labels, classes: int, noise: str, rate: float, seed: int) -> Labels:
    """The labels with a share of them wrong."""
    chance = np.random.default_rng(seed)
    wrong = chance.choice(len(truth), round(rate * len(truth)), replace=False)
    step = chance.integers(1, classes, len(wrong)) if noise == "symmetric" else 1
    given = truth.copy()
    given[wrong] = (truth[wrong] + step) % classes
    return given


def _data_set(sets: dict[str, DataSet], name: str, scratch: Path) -> DataSet:
    if name not in sets:
        sets[name] = (_digits if name == "digits" else _trashnet)(scratch)
    return sets[name]


def _digits(scratch: Path) -> DataSet:
    """The demo's, with its own planted errors put right."""
    folder = scratch / "digits"
    home = Home.open(read_settings(home=folder / "home"))
    digits.make(folder, split_seed=home.settings.split_seed, shares=home.settings.split)
    rows = csv.DictReader((folder / digits.PLANTED).open())
    true = {row["id"]: row["true"] for row in rows}
    return _taken_in(home, folder / digits.DATA, FROM_SCRATCH, true)


def _trashnet(scratch: Path) -> DataSet:
    home = Home.open(read_settings(home=scratch / "trashnet-160"))
    return _taken_in(home, TRASHNET, PRETRAINED, {})


def _taken_in(home: Home, images: Path, options: dict[str, Any], true: dict[str, str]) -> DataSet:
    import training
    from training.data import Pictures, preprocessing

    training.from_folder(images, home=home)
    plan = Plan.from_settings(home.settings).but(**EPOCHS, **options).stored(home)
    snapshot = snapshots.freeze(home)
    rows = [replace(row, label=true.get(row.id, row.label)) for row in snapshot.rows]
    return DataSet(
        home=home,
        plan=plan,
        labels=snapshot.labels,
        rows=[row for row in rows if row.split != "test"],
        pictures=Pictures(home, preprocessing(plan)),
    )


def _score(data: DataSet, case: Case, how: str) -> Scored:
    place = {label: number for number, label in enumerate(data.labels)}
    truth = np.array([place[row.label] for row in data.rows], np.intp)
    given = plant(truth, len(data.labels), case.noise, case.rate, case.seed)
    rows = [
        replace(row, label=data.labels[label]) for row, label in zip(data.rows, given, strict=True)
    ]
    began = time.monotonic()
    judge = {VALIDATION: _on_valid, IN_SAMPLE: _in_sample}.get(how, _held_out(how))
    ids, probabilities, votes = judge(data, rows)
    at = {row.id: number for number, row in enumerate(rows)}
    judged = [at[sample] for sample in ids]
    return Scored(
        probabilities=probabilities,
        votes=votes,
        given=given[judged],
        wrong=(given != truth)[judged],
        seconds=time.monotonic() - began,
    )


Judged = tuple[Sequence[str], Probabilities, Probabilities]  # ids, probabilities, votes


def _held_out(how: str) -> Callable[[DataSet, list[Row]], Judged]:
    def judge(data: DataSet, rows: list[Row]) -> Judged:
        from training import folds, lesson

        threads = data.home.settings.thread_count
        held_out = folds.score(
            data.pictures,
            rows,
            data.labels,
            data.plan.but(full_folds=how == FULL),
            build=lambda: lesson.build(data.home, data.plan, data.labels, threads=threads),
        )
        pool = [row for row in rows if row.split != "test"]
        labels = snapshots.places(pool, data.labels)
        votes = held_out.neighbours.votes(labels, len(data.labels))
        return held_out.ids, held_out.probabilities, votes

    return judge


def _on_valid(data: DataSet, rows: list[Row]) -> Judged:
    """What a plain training shows: the validation losses."""
    train, valid = ([row for row in rows if row.split == split] for split in ("train", "valid"))
    return _by_one(data, train, valid)


def _in_sample(data: DataSet, rows: list[Row]) -> Judged:
    """The losses of the very samples that the model learned from."""
    return _by_one(data, rows, rows)


def _by_one(data: DataSet, learned: list[Row], judged: list[Row]) -> Judged:
    import torch

    from training import features, folds, lesson
    from training.data import Material

    material = Material(
        pictures=data.pictures, labels=data.labels, train=learned, valid=judged[:100]
    )
    threads = data.home.settings.thread_count
    follower = folds.Progress(data.plan, lambda _: None)
    net = lesson.learn(data.home, material, data.plan, follower, threads=threads).network
    made, known = (features.pooled(net, data.pictures, rows, "cpu") for rows in (judged, learned))
    with torch.inference_mode():
        probabilities = softmax(net.head(torch.from_numpy(made)).numpy())
    labels = snapshots.places(learned, data.labels)
    votes = orders.nearest(made, known).votes(labels, len(data.labels))
    return [row.id for row in judged], probabilities, votes


def _kept(file: Path, make: Callable[[], Scored]) -> Scored:
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part.npz")
        np.savez(part, **vars(make()))
        part.replace(file)
    with np.load(file) as kept:
        return Scored(**{key: kept[key][()] for key in kept})


def _found(scored: Scored) -> dict[str, dict[str, float]]:
    """By order: the share of the planted errors among as many top samples, and twice as many."""
    from sklearn.metrics import average_precision_score

    number = int(scored.wrong.sum())
    found = {}
    for order, scores in (_ours(scored) | _cleanlab(scored)).items():
        hits = scored.wrong[orders.ranked(scores)]
        found[order] = {
            "found_at_n": float(hits[:number].mean()),
            "found_at_2n": float(hits[: 2 * number].sum() / number),
            "average_precision": float(average_precision_score(scored.wrong, scores)),
        }
    return found


def _ours(scored: Scored) -> dict[str, Scores]:
    loss = orders.loss(scored.probabilities, scored.given)
    margin = orders.margin(scored.probabilities, scored.given)
    return {
        Order.LOSS: loss,
        Order.MARGIN: margin,
        Order.COMBINED: orders.combined(loss, margin),
        Order.CONFIDENT_WRONG: orders.confident_wrong(scored.probabilities, scored.given),
        Order.NEIGHBOURS: orders.neighbours(scored.votes, scored.given),
    }


def _cleanlab(scored: Scored) -> dict[str, Scores]:
    """cleanlab's quality scores, turned round; and its issues first, the others behind them."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    given = scored.given, scored.probabilities
    by_method: dict[str, Scores] = {
        f"cleanlab-{method}".replace("_", "-"): -get_label_quality_scores(*given, method=method)
        for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
    }
    adjusted = get_label_quality_scores(*given, method="normalized_margin", adjust_pred_probs=True)
    issues = find_label_issues(*given, n_jobs=1).astype(float)
    return by_method | {
        "cleanlab-adjusted-margin": -adjusted,
        "cleanlab-issues": issues + by_method["cleanlab-self-confidence"],
    }


def _rows(judged: dict[tuple[Any, ...], list[dict[str, float]]]) -> list[dict[str, Any]]:
    keys = ("data", "noise", "rate", "scores", "order")
    return [
        dict(zip(keys, row, strict=True))
        | {key: float(np.mean([each[key] for each in seeds])) for key in seeds[0]}
        | {"seeds": len(seeds)}
        for row, seeds in judged.items()
    ]


def _against(judged: dict[tuple[Any, ...], list[dict[str, float]]]) -> dict[str, float]:
    """Our first order's share found at n above each of cleanlab's: mean over the held-out cases."""
    above: dict[str, list[float]] = {}
    for (*case, order), seeds in judged.items():
        if order.startswith("cleanlab") and case[-1] in (FROZEN, FULL):
            ours = judged[*case, Order.LOSS]
            above.setdefault(order, []).extend(
                mine["found_at_n"] - theirs["found_at_n"]
                for mine, theirs in zip(ours, seeds, strict=True)
            )
    return {order: float(np.mean(each)) for order, each in above.items()}


def _table(figures: dict[str, Any]) -> str:
    lines = [
        f"{row['data']:13} {row['noise']:10} {row['rate']:4.0%} {row['scores']:13} "
        f"{row['order']:36} {row['found_at_n']:.3f} {row['found_at_2n']:.3f} "
        f"{row['average_precision']:.3f} {row['seconds']:6.0f} s"
        for row in figures["rows"]
    ]
    against = [
        f"loss above {order}: {mean:+.3f}" for order, mean in figures["against_cleanlab"].items()
    ]
    return "\n".join([*lines, *against])


if __name__ == "__main__":
    parser = options("label_errors", "one seed, 10 % symmetric noise")
    parser.add_argument("--keep", type=Path, help="keep the probabilities here, use what is there")
    parser.add_argument("--only", default="", help="cases whose names begin so, like digits-pair")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="toploss-kept-") as nowhere:
        figures = measure(args.quick, args.keep or Path(nowhere), args.only)
    print(title(parser, args))
    print(_table(figures))
    write(args, {"quick": args.quick, "machine": machine(), **figures})
