"""The rate finder: a sweep of the learning rate, and what is made of it.

The sweep is fastai's (after Smith, "Cyclical Learning Rates for Training Neural Networks", 2017).
"""

import math
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from training.ranks import ALONE, Ranks

FALLBACK_RATE = 3e-3  # the course's, for a head on a pretrained body
CHOSEN_FROM = ("valley", "minimum")
STEPS = 100  # fewer make the suggestions unstable
DIVERGED = 4  # times the lowest loss: there fastai ends a sweep
SUGGESTED_WITHIN = (1e-5, 1e-1)  # what a sweep says beyond this is not believed


@dataclass(frozen=True, kw_only=True)
class Finder:
    """The rate finder's sweep and what was made of it."""

    rates: list[float]
    losses: list[float]  # smoothed, nats
    suggestions: dict[str, float]
    chosen: float
    why: str


def find_rate(
    learner: Any, heard: Callable[[float], None] = lambda _: None, ranks: Ranks = ALONE
) -> Finder:
    """Sweep the rate and choose the geometric mean of what fastai's valley and minimum suggest.

    The valley lies early on the slope, a tenth of the rate with the lowest loss late on it; halfway
    between them is where heads did best. Measured on trashnet-160, three seeds, losses on valid:
    0.483 (SqueezeNet) and 0.510 (MobileNetV2) around this mean, 0.509 and 0.530 at the median of
    valley, steep and minimum.

    Weights and optimizer are as before; the random state is not.

    Args:
        heard: the share of the sweep that is done, 0 to 1; may end it by raising.
        ranks: processes that train together: all take the same steps, and the first one's rate.
    """
    from training.learner import Sweeping

    sweeping = Sweeping(STEPS, heard)
    weights = {key: value.clone() for key, value in learner.model.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fastai reads a deprecated corner of NumPy here
        with learner.no_bar(), learner.no_logging(), learner.added_cbs(sweeping):
            # Of several processes none may stop alone: the others would wait for it for ever.
            learner.lr_find(num_it=STEPS, show_plot=False, suggest_funcs=None, stop_div=ranks.alone)
    learner.model.load_state_dict(weights)
    learner.opt.clear_state()
    sweeping.raise_caught()
    recorder = learner.recorder
    rates, losses = _until_diverged(
        [float(rate) for rate in recorder.lrs], [float(loss) for loss in recorder.losses]
    )
    suggestions = _suggested(rates, losses)
    if not suggestions:
        chosen, why = FALLBACK_RATE, "the sweep suggests nothing usable: the course's 3e-3"
    else:
        used = {k: v for k, v in suggestions.items() if k in CHOSEN_FROM} or suggestions
        chosen = statistics.geometric_mean(used.values())
        why = "geometric mean of " + " and ".join(f"{k} {v:.1e}" for k, v in used.items())
    found = Finder(rates=rates, losses=losses, suggestions=suggestions, chosen=chosen, why=why)
    told: Finder = ranks.told(found)
    return told


def _until_diverged(rates: list[float], losses: list[float]) -> tuple[list[float], list[float]]:
    """The sweep up to where fastai ends it, at four times the lowest loss, or to the first loss
    that is no number."""
    lowest = math.inf
    for place, loss in enumerate(losses):
        if not math.isfinite(loss):
            return rates[:place], losses[:place]
        if loss > DIVERGED * lowest:
            return rates[: place + 1], losses[: place + 1]
        lowest = min(lowest, loss)
    return rates, losses


def _suggested(rates: list[float], losses: list[float]) -> dict[str, float]:
    """What fastai's rules make of a sweep, those that can and that stay within reason."""
    from fastai.callback.schedule import minimum, steep, valley

    # As fastai does: without the first tenth, nor the end where it diverges.
    judged = slice(STEPS // 10, -5)
    swept = torch.tensor(rates[judged]), torch.tensor(losses[judged])
    suggestions: dict[str, float] = {}
    for suggest in (valley, steep, minimum):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                rate = float(suggest(*swept, STEPS)[0])
        except (IndexError, ValueError, RuntimeError):
            continue  # a short or early diverging sweep has no valley, or no slope
        if math.isfinite(rate) and SUGGESTED_WITHIN[0] <= rate <= SUGGESTED_WITHIN[1]:
            suggestions[suggest.__name__] = rate
    return suggestions
