"""A follower that only moves a bar."""

from collections.abc import Callable

from training.follower import Unheard


class Watching(Unheard):
    """Hears the stage and how much of it is done, 0 to 1, and tells no more."""

    def __init__(self, watch: Callable[[str, float], None]) -> None:
        self._watch, self._stage = watch, ""

    def stage(self, name: str, epochs: int, rate: str) -> None:
        self._stage = name
        self._watch(name, 0.0)

    def step(self, done: float) -> None:
        self._watch(self._stage, done)
