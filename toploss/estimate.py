"""How many wrong labels are left among the samples that nobody has looked at yet.

A model's held-out loss says how likely a label is wrong: 1 − e^−loss, if the model could be taken
at its word. What reviewers found corrects the word, by one line on the scale of log odds (Platt,
"Probabilistic Outputs for Support Vector Machines", 1999), lower where the model would have given
the same label, however unsure it is. It is fitted to their decisions under a prior that the word
makes too much of it. The interval is that of the line's posterior (Laplace's approximation) and of
chance in the samples themselves. It stands and falls with the line: reviewers begin where the loss
is highest, so that what it says of the others is an extrapolation; docs/review.md says how it did.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LEAST = 20  # decisions, before anything is said
DRAWS = 200  # of the posterior
INTERVAL = (0.05, 0.95)
# Of the offset, the slope's logarithm, and what agreement adds: reviewers find fewer wrong labels
# than a model suspects, and never more where it suspects less.
PRIOR_MEAN = np.array([-2.0, 0.0, -2.0])
PRIOR_SPREAD = np.array([1.5, 0.35, 2.0])
STEPS = 50  # of Fisher's scoring; it needs about ten
FURTHEST = 12.0  # log odds


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Wrong labels among the samples that are left."""

    errors: float
    low: float  # 90 % lie between low and high
    high: float
    decisions: int  # that it rests on


@dataclass(frozen=True)
class Word:
    """What a model says of samples that it was held out from."""

    losses: Floats  # nats, (n,)
    agrees: Bools  # (n,), whether the label is the one that it would have given

    @property
    def log_odds(self) -> Floats:
        """Of a label's being wrong, by the model's word."""
        odds: Floats = np.log(np.expm1(np.maximum(self.losses, np.exp(-FURTHEST))))
        return np.minimum(odds, FURTHEST)


@dataclass(frozen=True)
class Left:
    """The samples that nobody has decided yet, or a sample of them."""

    word: Word
    weights: Floats  # (n,), how many samples each stands for


def remaining(decided: Word, wrong: Bools, left: Left) -> Estimate | None:
    """
    Args:
        decided: of samples that were, as they stood before.
        wrong: (n,), whether the label was found wrong.

    Returns:
        None for fewer than twenty decisions.
    """
    number = len(decided.losses)
    if number < LEAST:
        return None
    if not len(left.weights):
        return Estimate(errors=0.0, low=0.0, high=0.0, decisions=number)
    line, covariance = _line(decided, wrong.astype(np.float64))
    chance = np.random.default_rng(0)
    drawn = chance.multivariate_normal(line, covariance, DRAWS)
    shares = _shares(drawn, left.word)
    expected = shares @ left.weights
    spread = np.sqrt((shares * (1 - shares)) @ left.weights)
    low, high = np.quantile(expected + spread * chance.standard_normal(DRAWS), INTERVAL)
    most = float(left.weights.sum())
    return Estimate(
        errors=float(_shares(line[None], left.word)[0] @ left.weights),
        low=float(np.clip(low, 0.0, most)),
        high=float(np.clip(high, 0.0, most)),
        decisions=number,
    )


def _shares(lines: Floats, word: Word) -> Floats:
    """How likely each is wrong by each line, (lines, n)."""
    rise = np.exp(lines[:, 1:2]) * word.log_odds
    log_odds = lines[:, :1] + rise + lines[:, 2:] * word.agrees
    shares: Floats = 1 / (1 + np.exp(-np.clip(log_odds, -500, 500)))
    return shares


def _line(word: Word, wrong: Floats) -> tuple[Floats, Floats]:
    """Offset, logarithm of the slope, and what agreement adds, at the highest posterior; and their
    covariance."""
    x, agrees = word.log_odds, word.agrees.astype(np.float64)
    precision = np.diag(PRIOR_SPREAD**-2.0)
    line = PRIOR_MEAN.copy()
    for _ in range(STEPS):
        share = _shares(line[None], word)[0]
        design = np.stack([np.ones_like(x), np.exp(line[1]) * x, agrees], axis=1)
        slope = design.T @ (wrong - share) - precision @ (line - PRIOR_MEAN)
        information = (design * (share * (1 - share))[:, None]).T @ design + precision
        step = np.linalg.solve(information, slope)
        line = line + np.clip(step, -0.5, 0.5)
        if np.abs(step).max() < 1e-6:
            break
    covariance: Floats = np.linalg.inv(information)
    return line, covariance
