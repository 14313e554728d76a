"""How many labels are wrong, by what models say of samples that they did not learn from.

A held-out label is taken to be drawn either from the model's own answer, once that is as sure as it
should be, or, for a share of the samples, from all classes alike. That share is estimated: a weak
model's errors are explained by its doubt, so only labels that it was sure about count as wrong.
(The noise model of Natarajan et al., "Learning with Noisy Labels", 2013; temperature after Guo et
al., "On Calibration of Modern Neural Networks", 2017; the interval by profile likelihood.)
Mistakes between two classes that look alike are noise only so far as the model tells these apart.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toploss.intervals import Interval

LOG_TEMPERATURES = (-3.0, 3.0)
# What is tried: finely where there are few.
SHARES = np.concatenate([np.arange(0, 0.1, 0.0025), np.arange(0.1, 0.96, 0.02)])
DROP = 1.92  # of the log-likelihood, at the ends of a 95 % interval

Places = npt.NDArray[np.intp]
Reals = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The share of labels that are wrong, 0 to 1."""

    share: float
    interval: Interval  # 95 %


def estimate(probabilities: Reals, truth: Places) -> Noise:
    """The share of wrong labels among samples that were held out.

    Args:
        probabilities: (n, classes), rows sum to 1; calibrated or not, for the temperature is
            estimated beside the share.
        truth: (n,), their labels as places.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import softmax

    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).astype(np.float64)
    rows, classes = np.arange(len(truth)), probabilities.shape[1]

    def surprise(share: float) -> float:
        """Negative log-likelihood of the labels, at the temperature that suits the share best."""

        def at(log_temperature: float) -> float:
            answers = softmax(logits / np.exp(log_temperature), axis=1)[rows, truth]
            mixed = (1 - share) * answers + share / classes
            return -float(np.log(np.maximum(mixed, np.finfo(np.float64).tiny)).sum())

        return float(minimize_scalar(at, bounds=LOG_TEMPERATURES, method="bounded").fun)

    surprises = np.array([surprise(float(share)) for share in SHARES])
    likely = SHARES[surprises <= surprises.min() + DROP]
    # Of the labels that are drawn from all classes alike, some come out right.
    wrong = 1 - 1 / classes
    return Noise(
        share=float(SHARES[surprises.argmin()] * wrong),
        interval=(float(likely.min() * wrong), float(likely.max() * wrong)),
    )
