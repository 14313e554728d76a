"""Orders of suspicion: from held-out probabilities to a number for each sample, higher first.

Plain functions of arrays; what they are given must be held out, or memorised errors hide. Each
number is finite, whatever the probabilities, and also where a class has no sample.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float32]  # (n, classes), rows sum to 1
Labels = npt.NDArray[np.intp]  # (n,), the given labels as places among the classes
Scores = npt.NDArray[np.float64]  # (n,), higher is more suspicious

NEAREST = 20  # neighbours that vote
LEAST_VOTE = 1e-6  # of one that lies on the other side
KNOTS = 1025  # of a `Scale`
# What a probability that rounded to 0 counts as, or its loss were infinite, which neither JSON nor
# a mean can carry: the smallest ordinary float32. So no loss is above −log of it, 87.3 nats.
LOWEST = np.finfo(np.float32).tiny


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


def thresholds(probabilities: Probabilities, labels: Labels) -> Scores:
    """What each class asks of a sample before it is called one of it, (classes,), 0 to 1: its mean
    probability over the samples that carry its label. A class without samples asks for 1."""
    own = _own(probabilities, labels)
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=own, minlength=classes)
    asked: Scores = np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)
    return asked


def margin(probabilities: Probabilities, labels: Labels, asked: Scores | None = None) -> Scores:
    """How far another class stands above the given one, −2 to 2, once each has paid its threshold,
    so that a class which the model is shy of is not suspected as a whole. (Northcutt, Jiang and
    Chuang, "Confident Learning", JAIR 2021; the adjustment is cleanlab's.)

    Args:
        asked: the `thresholds`, where these samples are not all that there are.
    """
    if asked is None:
        asked = thresholds(probabilities, labels)
    others = probabilities - asked
    given = np.arange(len(labels)), labels
    own = others[given].copy()
    others[given] = -np.inf
    above: Scores = others.max(axis=1, initial=-1.0) - own
    return above


def combined(*scores: Scores) -> Scores:
    """Mean rank over several orders, above 0 to 1; equal scores share the mean of their ranks."""
    mean: Scores = np.mean([_ranks(each) for each in scores], axis=0)
    return mean


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What a pool says of one sample's numbers: where among its own they stand. With it a sample
    that comes later, or gets another label, is scored as if it had been there."""

    thresholds: Scores  # (classes,), of `thresholds`
    knots: tuple[Scores, Scores]  # the pool's quantiles of loss and margin, evenly from 0 to 1

    @classmethod
    def of(cls, probabilities: Probabilities, labels: Labels) -> "Scale":
        asked = thresholds(probabilities, labels)
        if not len(labels):  # nothing to compare with
            return cls(thresholds=asked, knots=(np.zeros(KNOTS), np.zeros(KNOTS)))
        shares = np.linspace(0, 1, KNOTS)
        pool = loss(probabilities, labels), margin(probabilities, labels, asked)
        by_loss, by_margin = (np.quantile(each, shares) for each in pool)
        return cls(thresholds=asked, knots=(by_loss, by_margin))

    def combined(self, loss: Scores, margin: Scores) -> Scores:
        """As the function of this name, up to the distance of two knots."""
        ranks = []
        for known, each in zip(self.knots, (loss, margin), strict=True):
            values, counts = np.unique(known, return_counts=True)
            middles = (
                counts.cumsum() - (counts + 1) / 2
            )  # equal scores share the mean of their ranks
            ranks.append(np.interp(each, values, middles / (KNOTS - 1)))
        mean: Scores = np.mean(ranks, axis=0)
        return mean


def confident_wrong(probabilities: Probabilities, labels: Labels) -> Scores:
    """Confidence where another class is predicted, 0 to 1; below 0 where the label is predicted,
    the surer the lower. The course's "most confident and wrong"."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    own = _own(probabilities, labels)
    suspicion: Scores = np.where(own < confidence, confidence, -confidence)
    return suspicion


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Of each of n samples the k nearest of those that are known, nearest first."""

    places: npt.NDArray[np.intp]  # (n, k), of the known ones
    cosines: npt.NDArray[np.float32]  # (n, k), -1 to 1

    def votes(self, known_labels: Labels, classes: int) -> Probabilities:
        """What they say a sample is: float32, (n, classes), rows sum to 1. Each votes for its label
        with its cosine."""
        votes = np.zeros((len(self.places), classes), np.float32)
        rows = np.arange(len(votes))[:, None]
        np.add.at(votes, (rows, known_labels[self.places]), np.maximum(self.cosines, LEAST_VOTE))
        shares: Probabilities = votes / votes.sum(axis=1, keepdims=True)
        return shares


def neighbours(votes: Probabilities, labels: Labels) -> Scores:
    """Share of the nearest neighbours, by weight, that carry another label: 0 to 1.

    Args:
        votes: of `Neighbours`.
    """
    return 1.0 - _own(votes, labels)


def nearest(
    features: npt.NDArray[np.float32], known: npt.NDArray[np.float32], *, number: int = NEAREST
) -> Neighbours:
    """The nearest known samples, by the cosine of features about the known ones' mean. Held out
    only if neither a sample nor its near-duplicates are among the known ones.

    Args:
        features: float32, (n, f), of the samples in question.
        known: float32, (m, f); at least one.
    """
    number = min(number, len(known))
    centre = known.mean(axis=0)
    known = _unit(known - centre)
    places = np.empty((len(features), number), np.intp)
    cosines = np.empty((len(features), number), np.float32)
    for start in range(0, len(features), 1024):  # so many rows of cosines at once in memory
        rows = slice(start, start + 1024)
        all_cosines = _unit(features[rows] - centre) @ known.T
        close = np.argpartition(-all_cosines, number - 1, axis=1)[:, :number]
        near = np.take_along_axis(all_cosines, close, axis=1)
        order = np.argsort(-near, axis=1, kind="stable")
        places[rows] = np.take_along_axis(close, order, axis=1)
        cosines[rows] = np.take_along_axis(near, order, axis=1)
    return Neighbours(places=places, cosines=cosines)


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
