"""How far a confidence can be believed: one temperature, and the table that shows it.

(Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", 2017.)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import softmax

from toploss.intervals import Interval, wilson

WITHIN = (0.05, 20.0)  # beyond, it is no calibration any more
# How far from 1 a temperature is expected, in its logarithm, before anything was seen: with few
# samples, or none that is wrong, what was expected stands. Measured in docs/calibration.md.
EXPECTED_WITHIN = 0.25
MOST_WRONG = 0.2  # share of labels that may be put down to mistakes
BINS = 10
TINY = float(np.finfo(np.float32).tiny)  # instead of a probability of 0, which has no logarithm

Places = npt.NDArray[np.intp]
Reals = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The answers whose confidence fell between two bounds."""

    low: float  # above this confidence
    high: float  # up to this one
    count: int
    confidence: float  # mean
    accuracy: float
    interval: Interval  # 95 %, of the accuracy


def temperature(logits: Reals, truth: Places) -> float:
    """The number that divides logits so that they explain held-out labels best.

    The order of the classes, and so the accuracy, stays. Above 1 the model was too sure of itself.
    Beside the temperature it estimates the share of labels that are wrong, any class being as
    likely: cross-entropy alone would make a good model doubt itself for each wrong label.

    Args:
        logits: (n, classes), of samples that the model did not learn from. Logarithms of
            probabilities do as well: a row's constant does not matter.

    Returns:
        Within `WITHIN`; near 1 where there is little to go by, and 1 for no sample at all.
    """
    logits, rows = logits.astype(np.float64), np.arange(len(truth))

    def surprise(at: npt.NDArray[np.float64]) -> float:
        log_t, wrong = at
        right = softmax(logits / np.exp(log_t), axis=1)[rows, truth]
        explained = np.log((1 - wrong) * right + wrong / logits.shape[1] + TINY)
        return float((log_t / EXPECTED_WITHIN) ** 2 / 2 - explained.sum())

    found = minimize(
        surprise,
        x0=(0.0, 0.02),
        method="L-BFGS-B",
        bounds=(tuple(np.log(WITHIN)), (0.0, MOST_WRONG)),
    )
    return float(np.exp(found.x[0]))


def scaled(probabilities: Reals, temperature: float) -> Reals:
    """The probabilities of the same logits divided by the temperature: float32, (n, classes)."""
    logs = np.log(np.maximum(probabilities, TINY))
    shares: Reals = softmax(logs / temperature, axis=1).astype(np.float32)
    return shares


def reliability(probabilities: Reals, truth: Places, bins: int = BINS) -> list[Bin]:
    """What came true of each confidence, in bins of equal width, lowest first; without those that
    are empty."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    hits = probabilities.argmax(axis=1) == truth
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    table = []
    for number in np.unique(place):
        members = place == number
        count, right = int(members.sum()), int(hits[members].sum())
        table.append(
            Bin(
                low=float(number / bins),
                high=float((number + 1) / bins),
                count=count,
                confidence=float(confidence[members].mean()),
                accuracy=right / count,
                interval=wilson(right, count),
            )
        )
    return table


def lean(table: list[Bin]) -> float:
    """Mean confidence less accuracy, -1 to 1: above 0 the model is too sure of itself."""
    size = sum(row.count for row in table)
    return sum(row.count * (row.confidence - row.accuracy) for row in table) / size


def expected_calibration_error(table: list[Bin]) -> float:
    """Mean distance of confidence and accuracy over the samples, 0 to 1."""
    size = sum(row.count for row in table)
    return sum(row.count * abs(row.confidence - row.accuracy) for row in table) / size
