"""What a review gains: wrong labels found, and accuracy once it is trained again, by the order that
the samples are reviewed in.

One in ten labels of train and valid is made wrong, test is left as it is. A run learns from that
and scores the pool by folds. Then somebody who knows every true label answers over HTTP: in the
order of the list; at random; by fastai's own `top_losses`, of the validation set of the same model.
At each point the data as they stand are learned anew, by the same recipe and seed.

`trashnet-160` and SqueezeNet's ImageNet weights are looked for in `shared/` beside the project;
without them the digits alone are measured. `--keep` keeps what is trained, for the next time.
"""

import csv
import hashlib
import json
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
from sqlalchemy import select

import training
from bench import gain_plot, label_errors, subjects
from bench.common import machine, options, title, write
from bench.reviewer import Reviewer
from bench.serving import servers
from bench.subjects import Subject
from demo import digits
from toploss import models, schema, snapshots
from toploss.blobs import image_path
from toploss.home import Home
from toploss.settings import read_settings
from toploss.snapshots import Row
from training import lesson, memory
from training.data import Material, loaders
from training.follower import Unheard

SEEDS = (0, 1, 2)
RATE = 0.1  # of the labels of train and valid are wrong
POINTS = (0.05, 0.1, 0.2)  # shares of the pool, after which it is trained again
LIST, RANDOM, FASTAI = "list", "random", "fastai"
RECIPE = {"epochs_head": 3, "epochs_all": 3, "lr": 3e-3}
DIGITS, PHOTOS = "digits", "trashnet-160"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A data set with wrong labels in it, and what is kept of it."""

    data: str
    seed: int  # of the planting, of the trainings, and of the random order
    subject: Subject  # under the true labels
    folds: int
    wrong: dict[str, str]  # the planted errors: sample → the label it is given
    folder: Path  # the home of the first run; the accuracies so far

    @property
    def truth(self) -> dict[str, str]:
        """By sample of train and valid."""
        return {row.id: row.label for row in self.subject.snapshot.rows if row.split != "test"}

    @property
    def noisy(self) -> list[Row]:
        rows = self.subject.snapshot.rows
        return [replace(row, label=self.wrong.get(row.id, row.label)) for row in rows]


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Where a review stands when it is trained again."""

    reviewed: int
    rows: list[Row]  # the data as they stand
    estimate: dict[str, Any] | None


def measure(quick: bool, keep: Path, told: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Every case; `told` hears the figures so far, after each.

    Args:
        keep: a folder for what has been trained, found again by the next measurement.
    """
    memory.keep_freed()
    figures: dict[str, Any] = {"quick": quick, "machine": machine(), "cases": []}
    names = [DIGITS]
    if quick:
        figures["left_out"] = f"{PHOTOS}: with --quick"
    elif not (subjects.TRASHNET.is_dir() and label_errors.SQUEEZENET.is_file()):
        figures["left_out"] = f"{PHOTOS}: it, or SqueezeNet's weights, are not there"
    else:
        names.append(PHOTOS)
    with tempfile.TemporaryDirectory(prefix="toploss-bench-") as scratch:
        known = {name: _subject(name, Path(scratch)) for name in names}
        for seed in SEEDS[:1] if quick else SEEDS:
            for name in names:
                case = planted(known[name], name, seed, keep, folds=2 if quick else 5)
                figures["cases"].append(_measured(case, POINTS[1:2] if quick else POINTS))
                told(figures)
        for subject in known.values():
            subject.home.db.close()
    return figures


def _subject(name: str, folder: Path) -> Subject:
    """The data set under its true labels."""
    if name == PHOTOS:
        subject = subjects.trashnet(folder, "squeezenet1_0", size=128)
        return replace(subject, plan=subject.plan.but(**RECIPE))
    subject = subjects.digits(folder)  # the demo's, with errors of its own
    with (folder / digits.PLANTED).open() as table:
        true = {row["id"]: row["true"] for row in csv.DictReader(table)}
    rows = [replace(row, label=true.get(row.id, row.label)) for row in subject.snapshot.rows]
    return replace(subject, snapshot=replace(subject.snapshot, rows=tuple(rows)))


def planted(subject: Subject, name: str, seed: int, keep: Path, *, folds: int) -> Case:
    snapshot = subject.snapshot
    pool = [row for row in snapshot.rows if row.split != "test"]
    truth = snapshots.places(pool, snapshot.labels)
    given = label_errors.plant(truth, len(snapshot.labels), "symmetric", RATE, seed)
    return Case(
        data=name,
        seed=seed,
        subject=replace(subject, plan=subject.plan.but(seed=seed)),
        folds=folds,
        wrong={
            row.id: snapshot.labels[now]
            for row, now, was in zip(pool, given, truth, strict=True)
            if now != was
        },
        folder=keep / f"{name}-{seed}-{folds}",
    )


def _measured(case: Case, points: Sequence[float]) -> dict[str, Any]:
    noisy = _learned(case)
    by_loss = _by_fastai(case, noisy)
    by_chance = np.random.default_rng([case.seed, 5]).permutation(sorted(case.truth)).tolist()
    orders: dict[str, Callable[[Reviewer], Iterator[str]]] = {
        LIST: Reviewer.down_the_list,
        RANDOM: lambda reviewer: reviewer.through(by_chance),
        FASTAI: lambda reviewer: reviewer.through(by_loss),
    }
    figures: dict[str, Any] = {
        "data": case.data,
        "seed": case.seed,
        "pool": len(case.truth),
        "planted": len(case.wrong),
        "valid": len(by_loss),
        "test": len(case.subject.snapshot.of_split("test")),
        "planted_in_valid": len(case.wrong.keys() & set(by_loss)),
        "accuracy_before": accuracy(case, case.noisy),
        "accuracy_clean": accuracy(case, case.subject.snapshot.rows),
        "orders": {},
    }
    for order, answers in orders.items():
        found, stops = _reviewed(case, noisy, answers, points)
        figures["orders"][order] = {
            **counted(found, len(case.wrong)),
            "stops": [
                {
                    "reviewed": stop.reviewed,
                    "found": sum(found[: stop.reviewed]),
                    "accuracy": accuracy(case, stop.rows),
                    "estimate": stop.estimate,
                }
                for stop in stops
            ],
        }
        print(f"{case.data} {case.seed} {order} {figures['orders'][order]['stops']}", flush=True)
        if order == FASTAI:  # all of its validation set, and that learned from as well
            taught = [
                replace(row, split="train") if row.split == "valid" else row
                for row in stops[-1].rows
            ]
            figures["accuracy_with_valid"] = accuracy(case, taught) if len(points) > 1 else None
    return figures


def _learned(case: Case) -> Path:
    """The home of a run that learned from the noisy labels and scored the pool by folds."""
    done, part = case.folder / "home", case.folder / "part"
    if done.is_dir():
        return done
    shutil.rmtree(part, ignore_errors=True)
    theirs, plan = case.subject.home, case.subject.plan
    with theirs.db.read() as connection:
        ids = connection.execute(select(schema.samples.c.id).order_by(schema.samples.c.seq))
        given = {row.id: row.label for row in case.noisy}
        came = [sample for sample in ids.scalars() if sample in given]
    images = [f"{theirs.blobs.root}/{image_path(sample)}" for sample in came]
    labels = [given[sample] for sample in came]
    home = Home.open(read_settings(home=part))
    training.from_df(pd.DataFrame({"image": images, "label": labels}), home=home)
    settings = plan.as_json() | {"folds": case.folds}
    if not plan.from_scratch:
        settings["weights"] = str(label_errors.SQUEEZENET)
    result = training.fit(home=home, **settings)
    _keep(case, case.noisy, result.metrics["test"]["accuracy"])
    with home.db.read() as connection:
        assert list(snapshots.taking_part(connection)) == case.noisy
    home.db.close()
    part.rename(done)
    return done


def _by_fastai(case: Case, learned: Path) -> list[str]:
    """The validation set by fastai's own top losses of the first run's network."""
    from fastai.vision.all import CrossEntropyLossFlat, Interpretation, Learner

    home = Home.open(read_settings(home=learned))
    version = models.get(home, models.PRODUCTION)
    plan = replace(case.subject.plan, start=f"{version.path}/weights.safetensors")
    threads = home.settings.thread_count
    net = lesson.build(home, plan, case.subject.snapshot.labels, threads=threads)
    home.db.close()
    material = _material(case, case.noisy)
    learner = Learner(loaders(material, plan, "cpu"), net, loss_func=CrossEntropyLossFlat())
    with learner.no_bar():
        _, places = Interpretation.from_learner(learner).top_losses()
    return [material.valid[place].id for place in places.tolist()]


def _reviewed(
    case: Case,
    learned: Path,
    answers: Callable[[Reviewer], Iterator[str]],
    points: Sequence[float],
) -> tuple[list[bool], list[Stop]]:
    """Of each answer, whether it put a planted error right; and what stood at every point. A review
    that runs out of samples before the last point stops there."""
    most = round(points[-1] * len(case.truth))
    ends = {round(point * len(case.truth)) for point in points}
    found: list[bool] = []
    stops: list[Stop] = []
    with tempfile.TemporaryDirectory(prefix="toploss-bench-") as scratch:
        copy = Path(scratch) / "home"
        shutil.copytree(learned, copy)
        home = Home.open(read_settings(home=copy))
        with (
            servers.ours(copy, Path(scratch)) as address,
            httpx.Client(base_url=address, timeout=60) as client,
        ):
            reviewer = Reviewer(client=client, truth=case.truth)

            def stop() -> None:
                with home.db.read() as connection:
                    rows = list(snapshots.taking_part(connection))
                told = reviewer.estimate()
                stops.append(Stop(reviewed=len(found), rows=rows, estimate=told))

            for sample in islice(answers(reviewer), most):
                found.append(sample in case.wrong)
                if len(found) in ends:
                    stop()
            if len(found) not in ends:
                stop()
        home.db.close()
    return found, stops


def counted(found: Sequence[bool], planted: int) -> dict[str, Any]:
    """The share of the planted errors that as many answers have found, and where they were met."""
    return {
        "answers": len(found),
        "found_at_n": sum(found[:planted]) / planted,
        "found_by": [number for number, hit in enumerate(found, start=1) if hit],
    }


def accuracy(case: Case, rows: Sequence[Row]) -> float:
    """On test, of what learns from these; what was learned from before is not learned again. On
    the CPU equal training samples give equal networks, whatever valid says."""
    if (known := _kept(case).get(_taught(rows))) is not None:
        return known
    subject = case.subject
    threads = subject.home.settings.thread_count
    material = _material(case, rows)
    made = lesson.learn(subject.home, material, subject.plan, Unheard(), threads=threads)
    return _keep(case, rows, subject.judged(made.network))


def _kept(case: Case) -> dict[str, float]:
    """Accuracies by what was learned from."""
    file = case.folder / "accuracies.json"
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def _keep(case: Case, rows: Sequence[Row], reached: float) -> float:
    known = _kept(case) | {_taught(rows): reached}
    part = case.folder / "accuracies.part"
    part.write_text(json.dumps(known))
    part.replace(case.folder / "accuracies.json")
    print(f"{case.data} {case.seed} accuracy {reached:.4f}", flush=True)
    return reached


def _taught(rows: Sequence[Row]) -> str:
    """A name for the training samples and their labels."""
    train = [[row.id, row.label] for row in rows if row.split == "train"]
    return hashlib.sha256(json.dumps(train).encode()).hexdigest()


def _material(case: Case, rows: Sequence[Row]) -> Material:
    train = [row for row in rows if row.split == "train"]
    valid = [row for row in rows if row.split == "valid"]
    subject = case.subject
    return Material(
        pictures=subject.pictures,
        labels=subject.snapshot.labels,
        train=train,
        valid=valid or subject.snapshot.of_split("valid"),
    )


def table(figures: dict[str, Any]) -> str:
    """Means over the seeds, with their spread."""
    lines = [f"left out: {figures['left_out']}"] if "left_out" in figures else []
    for data in dict.fromkeys(case["data"] for case in figures["cases"]):
        cases = [case for case in figures["cases"] if case["data"] == data]
        lines += [
            f"{data:13} {name:20} {_spread([case[name] for case in cases])}"
            for name in ("accuracy_before", "accuracy_clean", "accuracy_with_valid")
        ]
        for order in (LIST, RANDOM, FASTAI):
            each = [case["orders"][order] for case in cases]
            at_n = _spread([one["found_at_n"] for one in each])
            lines.append(f"{data:13} {order:7} found at n     {at_n}")
            for stops in zip(*(one["stops"] for one in each), strict=False):
                reviewed = "/".join(str(stop["reviewed"]) for stop in stops)
                found = _spread([stop["found"] for stop in stops], digits=0)
                reached = _spread([stop["accuracy"] for stop in stops])
                lines.append(
                    f"{data:13} {order:7} {reviewed:14} found {found:12} accuracy {reached}"
                )
            lines += [f"{data:13} {order:7} {_judged(case, order)}" for case in cases]
    return "\n".join(lines)


def _judged(case: dict[str, Any], order: str) -> str:
    """What the service said of the wrong labels that were left, beside what was."""
    told = []
    for stop in case["orders"][order]["stops"]:
        said, left = stop["estimate"], case["planted"] - stop["found"]
        if said is not None:
            interval = f"{said['low']:.0f} to {said['high']:.0f}"
            missed = "" if said["low"] <= left <= said["high"] else ", missed"
            told.append(f"{said['errors']:.0f} ({interval}) said of {left}{missed}")
    return f"seed {case['seed']}: left {'; '.join(told) or 'nothing said'}"


def _spread(values: Sequence[float | None], digits: int = 3) -> str:
    there = [value for value in values if value is not None]
    if not there:
        return "-"
    apart = statistics.stdev(there) if len(there) > 1 else 0.0
    return f"{statistics.fmean(there):.{digits}f} ± {apart:.{digits}f}"


def main() -> None:
    parser = options("gain", "digits, one seed, one point, two folds")
    parser.add_argument("--plot", type=Path, help="draw them into this file, .svg or .png")
    parser.add_argument("--keep", type=Path, help="keep what is trained here, use what is there")
    args = parser.parse_args()

    def told(figures: dict[str, Any]) -> None:
        """After each case."""
        write(args, figures)
        if args.plot:
            gain_plot.draw(figures, args.plot)

    with tempfile.TemporaryDirectory(prefix="toploss-kept-") as nowhere:
        figures = measure(args.quick, args.keep or Path(nowhere), told)
    print(title(parser, args))
    print(table(figures))


if __name__ == "__main__":
    main()
