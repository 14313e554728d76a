"""How long a training still takes: by its own progress in the stage that it is in, and by what the
last one of its kind took for those that follow. Of the first one of a kind only the stage is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SURE = 0.05  # share of a stage that says how long the whole takes


@dataclass(kw_only=True)
class Forecast:
    """Of one attempt; times are seconds of a monotonic clock."""

    samples: int  # that it learns and is judged on
    before: Mapping[str, float] = field(default_factory=dict)  # seconds by stage, in their order
    took: dict[str, float] = field(default_factory=dict)  # likewise, of the stages that are over
    stage: str = ""
    began: float = 0.0
    share: float = 0.0  # of the stage that is done, 0 to 1

    @classmethod
    def after(cls, pace: Mapping[str, Any] | None, samples: int) -> "Forecast":
        """
        Args:
            pace: of the last training of its kind, as `told` has it.
        """
        if not pace or not pace.get("samples"):
            return cls(samples=samples)
        scale = samples / pace["samples"]
        stages = {name: seconds * scale for name, seconds in pace["stages"].items()}
        return cls(samples=samples, before=stages)

    def enter(self, stage: str, now: float) -> None:
        """The stage before is over."""
        if self.stage:
            self.took[self.stage] = self.took.get(self.stage, 0.0) + now - self.began
        self.stage, self.began, self.share = stage, now, 0.0

    def stage_left(self, now: float) -> float | None:
        """Seconds of the stage that it is in."""
        spent = now - self.began
        if self.share >= SURE:
            return spent * (1 - self.share) / self.share
        if self.stage in self.before:
            return max(0.0, self.before[self.stage] - spent)
        return None

    def left(self, now: float) -> float | None:
        """Seconds of the whole run."""
        here = self.stage_left(now)
        if here is None or self.stage not in self.before:
            return None
        stages = list(self.before)
        return here + sum(self.before[name] for name in stages[stages.index(self.stage) + 1 :])

    def told(self, now: float) -> dict[str, Any]:
        """As it is kept with the run."""
        return {
            "samples": self.samples,
            "stages": {name: round(seconds, 2) for name, seconds in self.took.items()},
            "stage_left_s": self.stage_left(now),
            "left_s": self.left(now),
        }
