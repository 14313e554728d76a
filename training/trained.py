"""What a training leaves beside the network: its course, in numbers."""

from dataclasses import asdict, dataclass, field
from typing import Any

from training.finder import FALLBACK_RATE, Finder

STAGE_ONE, STAGE_TWO = "stage-1", "stage-2"


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What an epoch showed; losses in nats, accuracies 0 to 1."""

    stage: str
    epoch: int  # within the stage, from 1
    train_loss: float  # mean over its steps: augmented, under dropout, while the weights move
    valid_loss: float
    accuracy: float  # on valid
    plain_loss: float  # on a fixed part of train, in eval mode, unaugmented
    plain_accuracy: float


@dataclass
class Trained:
    """The course of a training so far."""

    history: list[Epoch] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of every step, augmented, under dropout
    updates: list[float] = field(default_factory=list)  # ‖Δw‖/‖w‖ of the head, at sampled steps
    finder: Finder | None = None
    rate: float = FALLBACK_RATE  # stage one's peak
    part: int | None = None  # images that go through the network at once; None: a batch
    cached: bool = False  # stage one learned from cached features

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(epoch) for epoch in self.history]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Trained":
        """From what `asdict` makes of it."""
        finder = data["finder"]
        return cls(
            **{
                **data,
                "history": [Epoch(**epoch) for epoch in data["history"]],
                "finder": None if finder is None else Finder(**finder),
            }
        )
