"""The complete settings of one training: what is kept with its run and its version."""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from toploss.blobs import sha256
from toploss.errors import BadInput
from toploss.home import Home
from toploss.settings import Settings

DOWNLOADED = "default"  # ImageNet weights, fetched by torchvision
SCRATCH = "none"  # random weights; nothing is frozen


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Equal plans on equal snapshots, by equal code and threads, give equal models."""

    arch: str  # torchvision's name
    weights: str  # DOWNLOADED, SCRATCH, or the path of a weights file in the storage
    size: int  # side of the images in pixels
    batch_size: int
    epochs_head: int  # stage one: the head alone (from scratch: all layers)
    epochs_all: int  # stage two: all layers
    lr: float | None  # stage one's peak rate; None: the rate finder's
    seed: int
    flip: bool  # training images are mirrored at random

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
        )

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Plan":
        return cls(**{field.name: data[field.name] for field in fields(cls)})

    def but(self, **changed: Any) -> "Plan":
        """The same with some settings changed; None leaves one as it is, and an `lr` of "auto" is
        the rate finder's.

        Raises:
            BadInput: no such setting, or a value out of its range.
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

    def check(self) -> None:
        """Raises BadInput, naming what is out of range."""
        for key, lowest, highest in (
            ("size", 8, 2048),
            ("batch_size", 2, 65_536),
            ("epochs_head", 0, 10_000),
            ("epochs_all", 0, 10_000),
            ("seed", 0, 2**32 - 1),
        ):
            value = getattr(self, key)
            if not lowest <= value <= highest:
                raise BadInput(f"{key} {value} is not between {lowest} and {highest}; correct it")
        if self.epochs_head + self.epochs_all == 0:
            raise BadInput("both stages have 0 epochs; give at least one to a stage")
        if self.lr is not None and not 0 < self.lr <= 10:
            raise BadInput(f"lr {self.lr:g} is not above 0 and at most 10; correct it or say auto")

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
        kept = f"weights/{sha256(data)}/{path.name}"
        home.blobs.put(kept, data, known=True)
        return replace(self, weights=kept)

    @property
    def from_scratch(self) -> bool:
        return self.weights == SCRATCH
