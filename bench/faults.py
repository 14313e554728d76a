"""Small trainings with a fault planted, or with none, and what each leaves."""

import csv
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from demo import digits
from toploss import network
from toploss.network import Network
from toploss.plan import Plan
from toploss.preprocess import Limits, Preprocessing, decode
from toploss.settings import read_settings
from toploss.snapshots import Row
from training import evaluation, features, randomness, recipe
from training.data import Material, Pictures
from training.evidence import dead_share
from training.follower import Unheard

DIGITS, PHOTOS = "digits", "trashnet"
ARCH = {DIGITS: "resnet18", PHOTOS: "squeezenet1_0"}
SIZES = {DIGITS: 16, PHOTOS: 64}  # pixels
HELD_OUT = {DIGITS: 300, PHOTOS: 400}  # images of valid, and of test
TRAINED_ON = {DIGITS: (500, 800), PHOTOS: (600, 1200)}  # images of train, in healthy runs
LOOKED_AT = 256  # images on which dead channels are counted

HEALTHY = "healthy"
RATE_10, RATE_HIGH, RATE_LOW = "rate 10", "rate x100", "rate /100"
WRONG = ("10 % wrong", "30 % wrong", "50 % wrong")
IMBALANCE, FEW, MANY = "10:1", "5 % of the data", "too many epochs"
FAULTS = (RATE_10, RATE_HIGH, RATE_LOW, *WRONG, IMBALANCE, FEW, MANY)

Places = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One training."""

    data: str  # DIGITS or PHOTOS
    fault: str  # HEALTHY or one of FAULTS
    seed: int  # of the drawing, of the fault and of the training
    images: int  # of train

    @property
    def name(self) -> str:
        fault = "".join(c if c.isalnum() else "-" for c in self.fault)
        return f"{self.data}-{self.images}-{fault}-{self.seed}"

    def plan(self) -> Plan:
        """Digits from scratch at the course's rate, photographs at the rate finder's; rates that
        are wrong are 100 times the course's 3e-3, and a hundredth."""
        scratch = self.data == DIGITS
        healthy = Plan(
            arch=ARCH[self.data],
            weights="none" if scratch else "a file",
            size=SIZES[self.data],
            batch_size=32,
            epochs_head=3 if scratch else 4,
            epochs_all=3 if scratch else 1,
            lr=3e-3 if scratch else None,
            seed=self.seed,
            flip=not scratch,
        )
        changes: dict[str, dict[str, Any]] = {
            RATE_10: {"lr": 10.0, "epochs_head": 1, "epochs_all": 1},
            RATE_HIGH: {"lr": 0.3},
            RATE_LOW: {"lr": 3e-5},
            MANY: {"epochs_head": 100, "epochs_all": 3},
        }
        return replace(healthy, **changes.get(self.fault, {}))


def cases(seeds: Sequence[int], data: Sequence[str]) -> Iterator[Case]:
    """For each seed and data set four healthy ones, and every fault."""
    for seed in seeds:
        for name in data:
            small, large = TRAINED_ON[name]
            for place, images in enumerate((small, small, small, large)):
                yield Case(data=name, fault=HEALTHY, seed=seed + 100 * place, images=images)
            # Of the rare classes there are no more than 500 can be drawn with.
            sizes = {FEW: large // 20, MANY: 120, IMBALANCE: 500}
            for fault in FAULTS:
                # From scratch and augmented, thirty epochs of 120 digits overfitted nothing.
                if fault != MANY:
                    yield Case(data=name, fault=fault, seed=seed, images=sizes.get(fault, small))
                elif name == PHOTOS:
                    yield Case(data=name, fault=fault, seed=seed, images=sizes[MANY])
                    yield Case(data=name, fault=fault, seed=seed + 100, images=2 * sizes[MANY])


@dataclass(frozen=True)
class Pool:
    """A data set in memory."""

    name: str  # DIGITS or PHOTOS
    pictures: npt.NDArray[np.uint8]  # (n, 3, size, size)
    truth: Places  # (n,)
    labels: tuple[str, ...]
    weights: Path | None = None  # of the pretrained network; None: from scratch

    def network(self) -> Network:
        """From torch's random state."""
        file = self.weights
        known = None if file is None else network.read_weights(file.read_bytes(), file.name)
        return network.build(ARCH[self.name], len(self.labels), weights=known)

    def rows(self, places: Places, given: Places, split: str) -> list[Row]:
        """Samples, under the labels that they are given."""
        return [
            Row(id=str(p), label=self.labels[given[p]], split=split, group=str(p)) for p in places
        ]

    @cached_property
    def features(self) -> features.Features:
        """What the pretrained body makes of the pictures."""
        rows = self.rows(np.arange(len(self.truth)), self.truth, "")
        return features.pooled(self.network(), Held(self), rows, "cpu")


class Held(Pictures):
    """Pictures that lie in memory already."""

    def __init__(self, pool: Pool) -> None:
        self.how = Preprocessing(size=SIZES[pool.name])
        self._kept = {str(place): picture for place, picture in enumerate(pool.pictures)}


def read_digits() -> Pool:
    """The demo's digits, with the labels that are wrong on purpose put right."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settings = read_settings(home=folder)
        digits.make(folder, split_seed=settings.split_seed, shares=settings.split)
        with (folder / digits.PLANTED).open(newline="") as table:
            right = {row["name"]: row["true"] for row in csv.DictReader(table)}
        files = sorted((folder / digits.DATA).glob("*/*.png"), key=lambda file: file.name)
        return _read(DIGITS, files, [right.get(f.name, f.parent.name) for f in files], None)


def read_photos(folder: Path, weights: Path) -> Pool:
    files = sorted(folder.glob("*/*.jpg"))
    return _read(PHOTOS, files, [file.parent.name for file in files], weights)


def _read(name: str, files: Sequence[Path], truth: Sequence[str], weights: Path | None) -> Pool:
    labels = tuple(sorted(set(truth)))
    return Pool(
        name,
        np.stack([decode(file.read_bytes(), SIZES[name], Limits()) for file in files]),
        np.array([labels.index(label) for label in truth], np.intp),
        labels,
        weights,
    )


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The samples of a case: places in the pool, and the labels that they carry."""

    train: Places
    valid: Places
    test: Places
    given: Places  # of the whole pool


def draw(case: Case, pool: Pool) -> Drawn:
    """The case's splits, with its fault where that lies in the data."""
    chance = np.random.default_rng([case.seed, 7])
    order = chance.permutation(len(pool.truth))
    given = pool.truth.copy()
    if case.fault in WRONG:
        share = int(case.fault.split()[0]) / 100
        wrong = chance.random(len(given)) < share
        others = chance.integers(1, len(pool.labels), len(given))
        given[wrong] = (given[wrong] + others[wrong]) % len(pool.labels)
    if case.fault == IMBALANCE:
        rare = pool.truth[order] % 2 == 1
        order = order[~rare | (chance.random(len(order)) < 0.1)]
    held = HELD_OUT[case.data]
    return Drawn(
        train=order[2 * held : 2 * held + case.images],
        valid=order[:held],
        test=order[held : 2 * held],
        given=given,
    )


def train(case: Case, pool: Pool, folder: Path) -> None:
    """Train a case and keep what it left as `NAME.npz` and, last, `NAME.json`."""
    began = time.monotonic()
    drawn, plan = draw(case, pool), case.plan()
    material = Material(
        pictures=Held(pool),
        labels=pool.labels,
        train=pool.rows(drawn.train, drawn.given, "train"),
        valid=pool.rows(drawn.valid, drawn.given, "valid"),
    )
    randomness.seed(plan.seed, 1)
    net = pool.network()
    looked_at = material.pictures.stack(material.valid[:LOOKED_AT])
    told: dict[str, Any] = {
        "case": asdict(case),
        "dead_before": dead_share(net, looked_at, material.pictures.how),
        "non_finite": False,
    }
    kept: dict[str, Any] = {"train_truth": drawn.given[drawn.train]}
    try:
        trained = recipe.train(net, material, plan, Unheard())
    except recipe.Diverged as exc:
        trained, told["non_finite"] = exc.trained, True
    told |= {"trained": asdict(trained), "dead": dead_share(net, looked_at, material.pictures.how)}
    model = evaluation.reference(net, material.pictures.how, "cpu")
    for split, places in (("valid", drawn.valid), ("test", drawn.test)):
        rows = pool.rows(places, drawn.given, split)
        kept[f"{split}_probabilities"] = evaluation.predicted(model, material.pictures, rows)
        kept[f"{split}_truth"] = drawn.given[places]
    told["seconds"] = time.monotonic() - began
    np.savez(folder / f"{case.name}.npz", **kept)
    draft = folder / f"{case.name}.part"
    draft.write_text(json.dumps(told))
    os.replace(draft, folder / f"{case.name}.json")
