"""Two models on the same images: how far apart their shares of right answers are, and how surely.

Tango's score test and interval for a difference of paired proportions ("Equivalence test and
confidence interval for the difference in proportions for the paired-sample design", 1998), which
holds where discordant answers are few, with a continuity correction of half an image. Images of one
group of near-duplicates are no independent evidence: the counts are divided by the design effect
that the groups' sums show (Rao and Scott, "A simple method for the analysis of clustered binary
data", 1992). docs/benchmarks.md has the methods that were measured beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, norm

SURE = 0.95  # of each bound by itself
POWER = 0.8  # with which `needed` samples tell

# Few discordant images say little of how alike near-duplicates are: as many images more, all of
# whose near-duplicates are answered alike, are counted in. Of 1, 2, 4 and 8 the fewest with
# which no layout of groups that was measured exceeds the 5 % (docs/benchmarks.md).
PRESUMED = 8

Reals = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Paired:
    """The counts of a comparison; of many at once, where they are arrays of one shape."""

    samples: Any  # at least one
    gained: Any  # that the candidate alone has right
    lost: Any  # that production alone has right
    design: Any = 1.0  # the design effect, at least 1: so many samples are worth one

    @classmethod
    def of(cls, candidate: Flags, production: Flags, groups: Places) -> "Paired":
        """
        Args:
            candidate, production: whether each is right, (n,).
            groups: of near-duplicates, by number, (n,).
        """
        apart = candidate.astype(np.intp) - production
        _, groups = np.unique(groups, return_inverse=True)
        sums, sizes = np.bincount(groups, weights=apart), np.bincount(groups)
        gained, lost = int((apart > 0).sum()), int((apart < 0).sum())
        squares, crossed = float(sums @ sums), float(sums @ sizes)
        return cls.grouped(gained, lost, squares, crossed, sizes)

    @classmethod
    def grouped(
        cls, gained: Any, lost: Any, squares: Any, crossed: Any, sizes: npt.NDArray[Any]
    ) -> "Paired":
        """
        Args:
            squares: of the groups' sums (gained less lost in each), added up.
            crossed: each group's sum times its size, added up.
            sizes: images of each, (groups,).
        """
        samples, size_squares = int(sizes.sum()), float((sizes.astype(float) ** 2).sum())
        mean = (gained - lost) / samples
        clustered = squares - 2 * mean * crossed + mean**2 * size_squares
        alone = gained + lost - samples * mean**2
        most = size_squares / samples  # the effect, were all of a group answered alike
        design = np.maximum((clustered + PRESUMED * most) / (alone + PRESUMED), 1.0)
        return cls(samples=samples, gained=gained, lost=lost, design=design)

    @property
    def difference(self) -> Any:
        """Candidate's share less production's."""
        return (self.gained - self.lost) / self.samples

    def above(self, value: Any) -> Any:
        """p of the hypothesis that the true difference is `value` or less; −1 to 1."""
        return norm.sf(self._score(value))

    def below(self, value: Any) -> Any:
        """p of the hypothesis that the true difference is `value` or more."""
        return self._swapped.above(-np.asarray(value))

    def lower(self, sure: float = SURE) -> Any:
        """What the true difference is above, with so much certainty: what `above` refuses."""
        return _crossing(self._score, norm.ppf(sure), np.shape(self.gained))

    def upper(self, sure: float = SURE) -> Any:
        """What it is below, with so much certainty."""
        return -self._swapped.lower(sure)

    def mcnemar(self) -> Any:
        """Exact, two-sided p of McNemar's hypothesis that neither model is better: binomial."""
        fewer, apart = np.minimum(self.gained, self.lost), self.gained + self.lost
        return np.minimum(1.0, 2 * binom.cdf(fewer, apart, 0.5))

    def needed(self, value: float) -> float:
        """Samples with which it would be told, four times of five, on which side of `value` the
        true difference is, were it as seen; infinite, where it was seen at `value`.

        (z₀.₉₅ · σ₀ + z₀.₈ · σ)² · design effect / distance²; σ is an image's standard deviation,
        σ₀ that by which the hypothesis is refused. (Nam, "Establishing equivalence of two
        treatments and sample size requirements in matched-pairs design", 1997.)
        """
        seen = float(self.difference)
        if abs(seen - value) < 1e-9:
            return float("inf")
        refused = norm.ppf(SURE) * np.sqrt(self._variance(value))
        spread = (self.gained + self.lost) / self.samples - seen**2
        by_chance = norm.ppf(POWER) * np.sqrt(max(spread, 0.0))
        return float((refused + by_chance) ** 2 * self.design / (seen - value) ** 2)

    @cached_property
    def _swapped(self) -> "Paired":
        return Paired(samples=self.samples, gained=self.lost, lost=self.gained, design=self.design)

    def _score(self, value: Any) -> Any:
        """Standard deviations that the counts, as many as they are worth, are above `value`."""
        samples = self.samples / self.design
        apart = (self.gained - self.lost) / self.design - samples * value - 0.5
        return apart / np.sqrt(np.maximum(samples * self._variance(value), 1e-9))

    def _variance(self, value: Any) -> Any:
        """Of one image's difference, were the true mean `value`: by the likeliest rate of losses
        under that, which solves a quadratic equation."""
        n, gained, lost = self.samples, self.gained, self.lost
        linear = gained + lost + (gained - lost - 2 * n) * value
        under = np.maximum(linear**2 + 8 * n * lost * value * (1 - value), 0)
        losses = np.maximum((linear + np.sqrt(under)) / (4 * n), np.maximum(0, -np.asarray(value)))
        return 2 * losses + value - value**2


def _crossing(score: Callable[[Any], Any], wanted: float, shape: tuple[int, ...]) -> Any:
    """Where a score that falls from −1 to 1 comes down to what is wanted; −1 when it is less
    everywhere. By halves."""
    low, high = np.full(shape, -1.0), np.full(shape, 1.0)
    for _ in range(50):
        middle = (low + high) / 2
        beyond = score(middle) > wanted
        low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
    return low if shape else float(low)


def holm(chances: npt.NDArray[np.float64], error: float = 1 - SURE) -> Flags:
    """Which of several hypotheses fall, with at most `error` that any of them falls wrongly, (n,).

    (Holm, "A simple sequentially rejective multiple test procedure", 1979.)

    Args:
        chances: their p, (n,).
    """
    order = np.argsort(chances)
    bounds = error / np.arange(len(chances), 0, -1)
    falls = np.logical_and.accumulate(chances[order] < bounds)
    fallen = np.zeros(len(chances), bool)
    fallen[order[falls]] = True
    return fallen
