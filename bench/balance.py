"""Whether drawing every class as often (`--balance`) helps where classes are of unequal size.

Every second class is thinned out in train and valid; test has the classes as they were. Small
trainings, as those of `bench.diagnosis`. Mean recall counts every class alike; the rare classes'
recall and the others' say who pays.
"""

import statistics
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from bench import faults, subjects
from bench.common import main, options
from bench.faults import HEALTHY, Case, Pool
from training import evaluation, memory, randomness, recipe
from training.data import Material
from training.follower import Unheard

SEEDS = (0, 1, 2)
RATIOS = (4, 10, 20)  # images of a common class to one of a rare one, about
IMAGES = 500  # of train
VALID = 100
FIGURES = ("accuracy", "mean_recall", "rare_recall", "other_recall")


def measure(quick: bool) -> dict[str, Any]:
    memory.keep_freed()
    pools = [faults.read_digits()]
    if subjects.TRASHNET.is_dir() and not quick:
        pools.append(faults.read_photos(subjects.TRASHNET, subjects.WEIGHTS / "squeezenet1_0.pth"))
    seeds = SEEDS[:1] if quick else SEEDS
    rows = [row for pool, ratio in product(pools, RATIOS) for row in _compared(pool, ratio, seeds)]
    return {"rows": rows}


def _compared(pool: Pool, ratio: int, seeds: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """With and without: means over the seeds, and their difference with its standard error."""
    found = {
        balance: [_trained(pool, ratio, seed, balance) for seed in seeds]
        for balance in (False, True)
    }
    row: dict[str, Any] = {"data": pool.name, "ratio": ratio, "seeds": len(seeds)}
    for figure in FIGURES:
        plain, balanced = ([each[figure] for each in found[way]] for way in (False, True))
        gains = [b - p for p, b in zip(plain, balanced, strict=True)]
        row[figure] = round(statistics.fmean(plain), 3)
        row[f"{figure}_gain"] = round(statistics.fmean(gains), 3)
        if len(gains) > 1:
            row[f"{figure}_gain_error"] = round(statistics.stdev(gains) / len(gains) ** 0.5, 3)
    print(row, flush=True)
    yield row


def _trained(pool: Pool, ratio: int, seed: int, balance: bool) -> dict[str, float]:
    chance = np.random.default_rng([seed, 11])
    order = chance.permutation(len(pool.truth))
    held = faults.HELD_OUT[pool.name]
    test, rest = order[:held], order[held:]
    rare = np.arange(len(pool.labels)) % 2 == 1
    rest = rest[~rare[pool.truth[rest]] | (chance.random(len(rest)) < 1 / ratio)]
    plan = replace(
        Case(data=pool.name, fault=HEALTHY, seed=seed, images=IMAGES).plan(), balance=balance
    )
    material = Material(
        pictures=faults.Held(pool),
        labels=pool.labels,
        train=pool.rows(rest[VALID : VALID + IMAGES], pool.truth, "train"),
        valid=pool.rows(rest[:VALID], pool.truth, "valid"),
    )
    randomness.seed(plan.seed, 1)
    net = pool.network()
    recipe.train(net, material, plan, Unheard())
    model = evaluation.reference(net, material.pictures.how, "cpu")
    answers = evaluation.predicted(
        model, material.pictures, pool.rows(test, pool.truth, "test")
    ).argmax(axis=1)
    truth = pool.truth[test]
    recalls = np.array([(answers[truth == label] == label).mean() for label in np.unique(truth)])
    return {
        "accuracy": float((answers == truth).mean()),
        "mean_recall": float(recalls.mean()),
        "rare_recall": float(recalls[rare].mean()),
        "other_recall": float(recalls[~rare].mean()),
    }


if __name__ == "__main__":
    main(options("balance", "one seed, the digits alone"), lambda args: measure(args.quick))
