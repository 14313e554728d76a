"""Whether more data would help: quick heads on nested parts of the training set, and the power law
through their errors.

Error falls with the number of samples as `a + b · n^-c` (Hestness et al., "Deep Learning Scaling is
Predictable, Empirically", 2017); of the laws compared by Viering and Loog ("The Shape of Learning
Curves", 2022) it is among those that extrapolate best. How far it can be trusted here is measured
by `python -m bench.diagnosis`.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)  # of the training set
DRAWS = 5  # orders in which the smaller parts are drawn
FEWEST = 1  # images of the smallest part, per class on average
MOST = 20_000  # training images; beyond, the heads are not quick any more
RESAMPLED = 200  # times, for the interval
WITHIN = (5.0, 95.0)  # percentiles of the interval
EXPONENTS = np.linspace(0.1, 1.0, 10)  # c of the law; those in print lie between 0.07 and 0.7
PENALTY = (
    0.01  # sklearn's C, on standardised features: strong, as there are more of them than images
)

Reals = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Errors on valid by the size of the part that was learned from, and where they lead."""

    sizes: tuple[int, ...]  # training images, ascending; the last one is the whole set
    errors: tuple[float, ...]  # mean share of valid that was wrong, 0 to 1
    doubled: float  # expected error with twice the training set
    interval: tuple[float, float]  # of that error, 90 %
    fall: tuple[float, float]  # 90 % interval of the error now less the error then


def measure(
    train: Reals, truth: Places, valid: Reals, valid_truth: Places, *, seed: int
) -> Curve | None:
    """The learning curve of a linear head; None where the set is too small, or too large to try.

    The interval comes from drawing anew which images of valid are asked, and which of the orders of
    train they are asked of.

    Args:
        train, valid: features of a body that has not seen the labels: float32, (n, width).
        truth, valid_truth: places among the classes.
    """
    classes = len(np.unique(truth))
    if len(truth) * SHARES[0] < FEWEST * classes or len(truth) > MOST or len(valid_truth) == 0:
        return None
    train, valid = standardised(train, train), standardised(valid, train)
    sizes = tuple(round(share * len(truth)) for share in SHARES)
    chance = np.random.default_rng(seed)
    # (draw, size, image of valid): whether it was wrong. The whole set is the same in every draw.
    wrong = np.empty((DRAWS, len(sizes), len(valid_truth)), bool)
    whole = _wrong(train, truth, valid, valid_truth)
    for draw in range(DRAWS):
        order = _stratified(truth, chance)
        for place, size in enumerate(sizes[:-1]):
            part = order[:size]
            wrong[draw, place] = _wrong(train[part], truth[part], valid, valid_truth)
        wrong[draw, -1] = whole
    return _extrapolated(sizes, wrong, chance)


def standardised(features: Reals, like: Reals) -> Reals:
    """Features of mean 0 and deviation 1, as those of `like` are made to be."""
    made: Reals = (features - like.mean(axis=0)) / (like.std(axis=0) + 1e-6)
    return made


def head(features: Reals, truth: Places) -> Any:
    """A multinomial logistic regression, sklearn's; the same data give the same one."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings(), one_thread():
        warnings.simplefilter("ignore")  # one that has not converged is as good here
        return LogisticRegression(C=PENALTY, max_iter=100).fit(features, truth)


def one_thread() -> Any:
    """For algebra on matrices as thin as a head's, where threads hinder each other: with two a fit
    takes twice as long as with one; with sixteen the curve of 1,745 images took 19 s."""
    return threadpool_limits(1, user_api="blas")


def _wrong(train: Reals, truth: Places, valid: Reals, valid_truth: Places) -> npt.NDArray[np.bool_]:
    if len(np.unique(truth)) == 1:
        return np.asarray(valid_truth != truth[0])
    return np.asarray(head(train, truth).predict(valid) != valid_truth)


def _stratified(truth: Places, chance: np.random.Generator) -> Places:
    """An order whose every beginning holds the classes in their proportions, about."""
    position = np.empty(len(truth))
    for place in np.unique(truth):
        members = np.flatnonzero(truth == place)
        spread = (np.arange(len(members)) + chance.random()) / len(members)
        position[chance.permutation(members)] = spread
    return np.argsort(position, kind="stable")


def _extrapolated(
    sizes: tuple[int, ...], wrong: npt.NDArray[np.bool_], chance: np.random.Generator
) -> Curve:
    draws, _, images = wrong.shape
    found = np.empty((RESAMPLED, 2))  # error now, error with twice the data
    for turn in range(RESAMPLED):
        some = wrong[chance.integers(draws, size=draws)][:, :, chance.integers(images, size=images)]
        errors = some.mean(axis=(0, 2))
        found[turn] = errors[-1], _law(sizes, errors, 2 * sizes[-1])
    errors = wrong.mean(axis=(0, 2))
    low, high = np.percentile(found[:, 1], WITHIN)
    least, most = np.percentile(found[:, 0] - found[:, 1], WITHIN)
    return Curve(
        sizes=sizes,
        errors=tuple(float(error) for error in errors),
        doubled=_law(sizes, errors, 2 * sizes[-1]),
        interval=(float(low), float(high)),
        fall=(float(least), float(most)),
    )


def _law(sizes: tuple[int, ...], errors: npt.NDArray[np.float64], size: int) -> float:
    """The error at a size, by the power law nearest to those seen; a and b are not negative."""
    from scipy.optimize import nnls

    fits = []
    for exponent in EXPONENTS:
        terms = np.stack([np.ones(len(sizes)), np.array(sizes) ** -exponent], axis=1)
        (base, slope), distance = nnls(terms, errors)
        fits.append((float(distance), float(base + slope * size**-exponent)))
    return min(fits)[1]
