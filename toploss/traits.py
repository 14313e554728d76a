"""What of an answer is watched for drift, beside the class: a few numbers, each put into one of a
few bins that held-out images fill about equally.

Univariate comparisons of what a network makes of an image find a drift as well as anything that
looks at all of it at once. (Rabanser, Günnemann and Lipton, "Failing Loudly", 2019.)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from toploss import novelty
from toploss.novelty import Bank

MOST_BINS = 10
IN_A_BIN = 10  # held-out images at least, or there are fewer bins
DIRECTIONS = 4  # that training images differ most in
LOOKED_AT = 1000  # training images for these; of 512 features that takes a second
FLAT = 1e-3  # of the largest spread: where images differ less, it is rounding that differs

Reals = npt.NDArray[np.float32]
Bins = npt.NDArray[np.uint8]  # (n, traits): in which bin each is


@dataclass(frozen=True, kw_only=True)
class Traits:
    """How an answer is put into bins."""

    directions: Reals  # (k, f), rows of length 1
    edges: Reals  # (2 + k, bins − 1), ascending; what is missing is infinite

    @property
    def names(self) -> tuple[str, ...]:
        return names(len(self.directions))

    def bins(self, features: Reals, unlike: Reals, confidence: Reals) -> Bins:
        """
        Args:
            features: (n, 2f), pooled, as the network gives them.
            unlike: (n,), as `novelty.score` has it.
            confidence: (n,), calibrated, of the likeliest class.
        """
        values = _values(self.directions, features, unlike, confidence)
        found: Bins = (values[:, :, None] > self.edges).sum(axis=2, dtype=np.uint8)
        return found

    def as_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {"directions": self.directions, "edges": self.edges}


def names(directions: int) -> tuple[str, ...]:
    """What the traits are called, in their order."""
    return "novelty", "confidence", *(f"direction {n}" for n in range(1, directions + 1))


def learn(bank: Bank, features: Reals, confidence: Reals) -> tuple[Traits, Bins]:
    """The traits, and the bins of these images.

    Args:
        bank: training images, whose directions are looked along.
        features, confidence: of held-out images, as `Traits.bins` takes them.
    """
    unlike = novelty.score(features, bank)
    directions = _principal(bank.features[:LOOKED_AT])  # the bank has all classes in turn
    values = _values(directions, features, unlike, confidence)
    number = int(np.clip(len(values) // IN_A_BIN, 2, MOST_BINS))
    edges = np.full((values.shape[1], number - 1), np.inf, np.float32)
    for row, column in zip(edges, values.T, strict=True):
        found = np.unique(np.quantile(column, np.arange(1, number) / number))
        row[: len(found)] = found  # fewer where many images have the same value
    traits = Traits(directions=directions, edges=edges)
    return traits, traits.bins(features, unlike, confidence)


def read(path: Path) -> Traits:
    """From a version's file, whose hash was checked."""
    from safetensors.numpy import load_file

    return Traits(**load_file(path))


def _values(directions: Reals, features: Reals, unlike: Reals, confidence: Reals) -> Reals:
    along = novelty.directions(features) @ directions.T
    return np.column_stack([unlike, confidence, along])


def _principal(features: Reals) -> Reals:
    """The directions that rows differ most in, each with its largest number above 0."""
    _, spreads, found = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    kept: Reals = found[:DIRECTIONS][spreads[:DIRECTIONS] > FLAT * max(float(spreads[0]), FLAT)]
    signs = np.sign(np.take_along_axis(kept, np.abs(kept).argmax(axis=1)[:, None], axis=1))
    principal: Reals = np.ascontiguousarray(kept * signs, np.float32)
    return principal
