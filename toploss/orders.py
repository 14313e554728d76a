"""Orders of suspicion: from held-out probabilities to a number for each sample, higher first.

Plain functions of arrays; what they are given must be held out, or memorised errors hide. Each
number is finite, whatever the probabilities, and also where a class has no sample.
"""

from enum import StrEnum

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float32]  # (n, classes), rows sum to 1
Labels = npt.NDArray[np.intp]  # (n,), the given labels as places among the classes
Scores = npt.NDArray[np.float64]  # (n,), higher is more suspicious

NEAREST = 20  # neighbours that vote
LOWEST = np.finfo(np.float32).tiny  # what a probability that rounded to 0 counts as


class Order(StrEnum):
    """What the review list can be ordered by."""

    LOSS = "loss"
    MARGIN = "margin"
    COMBINED = "combined"
    CONFIDENT_WRONG = "confident-wrong"
    NEIGHBOURS = "neighbours"


def loss(probabilities: Probabilities, labels: Labels) -> Scores:
    """Cross-entropy of the given label, in nats, 0 to 87. cleanlab's self-confidence, reversed."""
    nats: Scores = -np.log(np.clip(_own(probabilities, labels), LOWEST, 1.0))
    return nats


def margin(probabilities: Probabilities, labels: Labels) -> Scores:
    """How far another class stands above the given one, −2 to 2, once each has paid its threshold.

    A class's threshold is its mean probability over the samples that carry its label, so that one
    which the model is shy of is not suspected as a whole. (Northcutt, Jiang and Chuang, "Confident
    Learning", JAIR 2021; the adjustment is cleanlab's.) A class without samples pays 1, and so
    stands above no other.
    """
    own = _own(probabilities, labels)
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=own, minlength=classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)
    others = probabilities - thresholds
    others[np.arange(len(labels)), labels] = -np.inf
    above: Scores = others.max(axis=1, initial=-1.0) - (own - thresholds[labels])
    return above


def combined(*scores: Scores) -> Scores:
    """Mean rank over several orders, above 0 to 1; equal scores share the mean of their ranks."""
    mean: Scores = np.mean([_ranks(each) for each in scores], axis=0)
    return mean


def confident_wrong(probabilities: Probabilities, labels: Labels) -> Scores:
    """Confidence where another class is predicted, 0 to 1; below 0 where the label is predicted,
    the surer the lower. The course's "most confident and wrong"."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    own = _own(probabilities, labels)
    suspicion: Scores = np.where(own < confidence, confidence, -confidence)
    return suspicion


def neighbours(votes: Probabilities, labels: Labels) -> Scores:
    """Share of the nearest neighbours, by weight, that carry another label: 0 to 1.

    Args:
        votes: of `nearest`.
    """
    return 1.0 - _own(votes, labels)


def nearest(
    features: npt.NDArray[np.float32],
    known: npt.NDArray[np.float32],
    known_labels: Labels,
    classes: int,
    *,
    number: int = NEAREST,
) -> Probabilities:
    """What the nearest known samples say a sample is: float32, (n, classes), rows sum to 1.

    Nearness is the cosine of features about the known ones' mean; each of the nearest votes with
    it. Held out only if neither a sample nor its near-duplicates are among the known ones.

    Args:
        features: float32, (n, f), of the samples in question.
        known: float32, (m, f), of the samples that vote; at least one.
    """
    number = min(number, len(known))
    centre = known.mean(axis=0)
    known = _unit(known - centre)
    votes = np.zeros((len(features), classes), np.float32)
    for start in range(0, len(features), 1024):  # so many rows of cosines at once in memory
        cosines = _unit(features[start : start + 1024] - centre) @ known.T
        close = np.argpartition(-cosines, number - 1, axis=1)[:, :number]
        weights = np.maximum(np.take_along_axis(cosines, close, axis=1), 1e-6)
        rows = np.arange(start, start + len(cosines))[:, None]
        np.add.at(votes, (rows, known_labels[close]), weights)
    shares: Probabilities = votes / votes.sum(axis=1, keepdims=True)
    return shares


def ranked(scores: Scores) -> npt.NDArray[np.intp]:
    """Places of the samples, most suspicious first; equal ones in the order that they came in."""
    return np.argsort(-scores, kind="stable")


def _own(probabilities: Probabilities, labels: Labels) -> Scores:
    """Each sample's probability of its given label."""
    own: Scores = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return own


def _ranks(scores: Scores) -> Scores:
    """Above 0 to 1; equal scores share the mean of their ranks."""
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    shared: Scores = (counts.cumsum() - (counts - 1) / 2) / max(len(scores), 1)
    return shared[which]


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of length 1; those of length 0 stay."""
    unit: npt.NDArray[np.float32] = rows / np.maximum(
        np.linalg.norm(rows, axis=1, keepdims=True), LOWEST
    )
    return unit
