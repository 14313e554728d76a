"""Who hears how a training goes."""

from typing import Protocol

from training.finder import Finder
from training.trained import Epoch


class Follower(Protocol):
    """Hears how a training goes, and may end it by raising."""

    def stage(self, name: str, epochs: int, rate: str) -> None: ...

    def step(self, done: float) -> None:
        """After every batch; `done` is the share of the stage, 0 to 1."""

    def epoch(self, epoch: Epoch) -> None: ...

    def finder(self, finder: Finder) -> None: ...

    def parted(self, images: int) -> None:
        """Memory was short: so many images go through the network at once from now on."""


class Unheard:
    """A follower that keeps all to itself."""

    def stage(self, name: str, epochs: int, rate: str) -> None:
        pass

    def step(self, done: float) -> None:
        pass

    def epoch(self, epoch: Epoch) -> None:
        pass

    def finder(self, finder: Finder) -> None:
        pass

    def parted(self, images: int) -> None:
        pass
