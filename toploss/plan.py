"""The complete settings of one training: what is kept with its run and its version."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from toploss.blobs import sha256
from toploss.errors import BadInput, OutOfRange
from toploss.home import Home
from toploss.settings import Settings

DOWNLOADED = "default"  # ImageNet weights, fetched by torchvision
FOLDS = 5  # where they cost seconds
SCRATCH = "none"  # random weights; nothing is frozen
FRESH_S = 12 * 3600.0  # after which a weights file is written anew


class Start(StrEnum):
    """What a retraining begins with."""

    COLD = "cold"  # what the very first training began with
    SHRINK = "shrink-perturb"  # between that and production's network
    FRESH_HEAD = "fresh-head"  # production's body


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Equal plans on equal snapshots, by equal code and threads, give equal models."""

    arch: str  # torchvision's or timm's name
    weights: str  # DOWNLOADED, SCRATCH, or the path of a weights file in the storage
    size: int  # side of the images in pixels
    batch_size: int
    epochs_head: int  # stage one: the head alone (from scratch: all layers)
    epochs_all: int  # stage two: all layers
    lr: float | None  # stage one's peak rate; None: the rate finder's
    seed: int
    flip: bool  # training images are mirrored at random
    balance: bool = False  # training images are drawn so that every class comes as often
    cache: bool = True  # stage one learns from features that the frozen body made once
    # For held-out losses of the whole pool; 0: validation losses only; None: 5 where a pretrained
    # body makes them cheap or `full_folds` says how, else 0.
    folds: int | None = None
    full_folds: bool | None = None  # the whole recipe for each fold; None: from scratch alone
    start: str | None = None  # path in the storage of a network of ours to go on from
    warm: Start | None = None  # how much of it is taken; None: all, as it is
    onward: bool = False  # it has come through stage one, which is not done again
    part: int | None = None  # images that go through the network at once; None: the batch

    @classmethod
    def from_settings(cls, settings: Settings) -> "Plan":
        """The defaults of `toploss train`."""
        return cls(
            arch=settings.train_arch,
            weights=settings.train_weights,
            size=settings.train_size,
            batch_size=settings.train_batch_size,
            epochs_head=settings.train_epochs_head,
            epochs_all=settings.train_epochs_all,
            lr=None if settings.train_lr == "auto" else float(settings.train_lr),
            seed=settings.train_seed,
            flip=settings.train_flip,
            balance=settings.train_balance,
            cache=settings.train_cache,
            folds=settings.train_folds,
            full_folds=settings.train_full_folds,
        )

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Plan":
        """From `as_json`, of an earlier release too: what it did not know has its default."""
        known = {field.name: data[field.name] for field in fields(cls) if field.name in data}
        if known.get("warm") is not None:
            known["warm"] = Start(known["warm"])
        return cls(**known)

    def but(self, **changed: Any) -> "Plan":
        """The same with some settings changed; None leaves one as it is, and an `lr` of "auto" is
        the rate finder's.

        Raises:
            BadInput: no such setting. OutOfRange: a value that is not allowed.
        """
        unknown = set(changed) - {field.name for field in fields(self)}
        if unknown:
            raise BadInput(
                f"{sorted(unknown)[0]!r} is no setting of a training; "
                f"there are {', '.join(field.name for field in fields(self))}"
            )
        given = {key: value for key, value in changed.items() if value is not None}
        if given.get("lr") == "auto":
            given["lr"] = None
        plan = replace(self, **given)
        plan.check()
        return plan

    def again(self, start: Start, weights: str) -> "Plan":
        """The plan of a retraining, made of production's.

        Args:
            weights: path in the storage of production's network.
        """
        if start is not Start.COLD:
            return replace(self, start=weights, warm=start, onward=False)
        return self.anew()

    def anew(self) -> "Plan":
        """The same recipe from its very beginning, with nothing of an earlier network."""
        return replace(self, start=None, warm=None, onward=False)

    def equals(self, other: "Plan") -> bool:
        """Whether the other would make the same of the same data. In how many parts a batch went
        through the network is no choice of anybody's."""
        return replace(self, part=None) == replace(other, part=None)

    def check(self) -> None:
        """Raises OutOfRange, naming what is out of range."""
        for key, lowest, highest in (
            ("size", 8, 2048),
            ("batch_size", 2, 65_536),
            ("epochs_head", 0, 10_000),
            ("epochs_all", 0, 10_000),
            ("seed", 0, 2**32 - 1),
        ):
            value = getattr(self, key)
            if not lowest <= value <= highest:
                raise OutOfRange(f"{key} {value} is not between {lowest} and {highest}; correct it")
        if self.epochs_head + self.epochs_all == 0:
            raise OutOfRange("both stages have 0 epochs; give at least one to a stage")
        if self.folds is not None and (self.folds == 1 or not 0 <= self.folds <= 100):
            raise OutOfRange(f"folds {self.folds} is neither 0 nor between 2 and 100; correct it")
        if self.lr is not None and not 0 < self.lr <= 10:
            raise OutOfRange(
                f"lr {self.lr:g} is not above 0 and at most 10; correct it or say auto"
            )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def stored(self, home: Home) -> "Plan":
        """The plan with a weights file of the user's put into the storage, where a later run, or
        one on another machine, finds the very same bytes.

        Raises:
            BadInput: there is no such file.
        """
        if self.weights in (DOWNLOADED, SCRATCH) or home.blobs.exists(self.weights):
            return self
        path = Path(self.weights).expanduser()
        if not path.is_file():
            raise BadInput(
                f"there is no weights file {self.weights!r}; "
                "give a .pth or .safetensors file, `default` or `none`"
            )
        data = path.read_bytes()
        folder = f"weights/{sha256(data)}"
        kept = f"{folder}/{path.name}"
        # One that lies there unused for long may be pruned at this moment: `toploss.retention`.
        since = time.time() - FRESH_S
        fresh = any(file.path == kept and file.at > since for file in home.blobs.below(folder))
        home.blobs.put(kept, data, known=fresh)
        return replace(self, weights=kept)

    @property
    def fold_count(self) -> int:
        """How many folds there are; 0: none."""
        if self.folds is None:
            return 0 if self.from_scratch and self.full_folds is None else FOLDS
        return self.folds

    @property
    def trains_folds(self) -> bool:
        """Whether each fold is judged by the whole recipe: a random body's features say little."""
        return self.from_scratch if self.full_folds is None else self.full_folds

    @property
    def head_epochs(self) -> int:
        """Epochs of stage one that are to be done."""
        return 0 if self.onward else self.epochs_head

    @property
    def from_scratch(self) -> bool:
        return self.weights == SCRATCH


def origins(settings: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The networks of ours that a training went on from: how (`Start`, `as-it-is`, or `weights`
    where they took the place of pretrained ones), `versions` or `runs`, and its name there.

    Args:
        settings: of `Plan.as_json`.
    """
    for key in ("start", "weights"):
        kind, name = f"{settings.get(key) or ''}//".split("/")[:2]
        if kind in ("versions", "runs"):
            yield (settings.get("warm") or "as-it-is") if key == "start" else key, kind, name
