"""Data sets and how they are learned, for measurements.

`trashnet-160` and ImageNet weights are looked for in `shared/` beside the project.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import training
from demo import digits as demo_digits
from toploss import snapshots
from toploss.home import Home
from toploss.network import Network
from toploss.plan import Plan
from toploss.settings import available_cores, read_settings
from toploss.snapshots import Snapshot
from training import evaluation, lesson
from training.data import Material, Pictures, preprocessing

SHARED = Path(__file__).parents[2] / "shared"
TRASHNET = SHARED / "data" / "trashnet-160"
WEIGHTS = SHARED / "weights"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A data set, and how it is learned."""

    home: Home
    snapshot: Snapshot
    plan: Plan
    pictures: Pictures

    @property
    def material(self) -> Material:
        return lesson.material(self.pictures, self.snapshot)

    def judged(self, net: Network) -> float:
        """Accuracy on test."""
        model = evaluation.reference(net, self.pictures.how, "cpu")
        rows = self.snapshot.of_split("test")
        found = evaluation.predicted(model, self.pictures, rows)
        return evaluation.metrics(found, snapshots.places(rows, self.snapshot.labels))["accuracy"]


def digits(folder: Path) -> Subject:
    home = Home.open(read_settings(home=folder / "digits"))
    demo_digits.make(folder, split_seed=home.settings.split_seed, shares=home.settings.split)
    training.from_folder(folder / demo_digits.DATA, home=home)
    return subject(
        home,
        arch="resnet18",
        weights="none",
        size=32,
        batch_size=32,
        epochs_head=3,
        epochs_all=3,
        lr=3e-3,
        flip=False,
    )


def trashnet(folder: Path, arch: str, size: int) -> Subject:
    home = Home.open(read_settings(home=folder / "trashnet-160"))
    training.from_folder(TRASHNET, home=home)
    return subject(home, arch=arch, weights=str(WEIGHTS / f"{arch}.pth"), size=size)


def subject(home: Home, **settings: Any) -> Subject:
    plan = Plan.from_settings(home.settings).but(**settings).stored(home)
    snapshot = snapshots.freeze(home)
    pictures = Pictures(home, preprocessing(plan))
    pictures.warm(snapshot.rows, available_cores(), lambda _: None)
    return Subject(home=home, snapshot=snapshot, plan=plan, pictures=pictures)
