"""Which of the answered images are worth a reviewer's look: a share of them, whatever the model."""

import random
from bisect import bisect_left, bisect_right, insort
from collections import deque

from toploss.answers import Answer
from toploss.captures import Why

RECENT = 2000  # answers that a new one is compared with
BY_CHANCE = 0.25  # of what is kept: says what traffic looks like, whatever the model thinks of it
# Images above the rate that may be kept at a time, where many strange ones come together.
AT_A_TIME = 20


class Recent:
    """The last values of something, and where a new one stands among them."""

    def __init__(self) -> None:
        self._sorted: list[float] = []
        self._order: deque[float] = deque()

    def rank(self, value: float) -> float:
        """Where the value stands, 0 (lowest) to 1; then it is one of them.

        Equal values are put in order by chance, so that the rank of one that is like the others is
        evenly spread from the first answer on, also among few (Vovk, Gammerman and Shafer,
        "Algorithmic Learning in a Random World", 2005: smoothed p-values).
        """
        lower = bisect_left(self._sorted, value)
        equal = bisect_right(self._sorted, value, lo=lower) - lower
        rank = (lower + random.random() * (equal + 1)) / (len(self._sorted) + 1)  # noqa: S311  # no secret
        insort(self._sorted, value)
        self._order.append(value)
        if len(self._order) > RECENT:
            del self._sorted[bisect_left(self._sorted, self._order.popleft())]
        return rank


class Choice:
    """Takes a share of the answers: a quarter of it by chance; the rest, what stands lowest by
    margin or highest by novelty among the last answers of the same version. Before there are many
    it goes by the few there are. Used by the event loop alone."""

    def __init__(self, rate: float) -> None:
        """
        Args:
            rate: share of the answers, 0 to 1.
        """
        self._rate = rate
        self._by_chance = rate * BY_CHANCE
        self._interesting = (rate - self._by_chance) / (1 - self._by_chance)
        self._room = float(AT_A_TIME)  # images that may be kept just now
        self._begin("")

    def of(self, answer: Answer, version: str) -> Why | None:
        """Why an image is kept; None: it is not."""
        if version != self._version:  # another model's margins say nothing about this one's
            self._begin(version)
        self._room = min(AT_A_TIME, self._room + self._rate)
        unsure = self._margins.rank(margin(answer))
        strange = 1.0 if answer.novelty is None else self._novelties.rank(-answer.novelty)
        interesting = self._both.rank(min(unsure, strange)) < self._interesting
        if random.random() < self._by_chance:  # noqa: S311  # no secret
            self._room -= 1
            return Why.RANDOM
        if not interesting or self._room < 1:
            return None
        self._room -= 1
        return Why.MARGIN if unsure <= strange else Why.NOVELTY

    def _begin(self, version: str) -> None:
        self._version = version
        self._margins, self._novelties, self._both = Recent(), Recent(), Recent()


def margin(answer: Answer) -> float:
    """How far the likeliest class stands above the next one, 0 to 1."""
    first, *others = answer.guesses
    return first.confidence - others[0].confidence if others else 1.0
