"""Whether a candidate may take production's place, judged on the frozen holdout."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

# How sure the first version must be to beat always naming the commonest class (one-sided).
BEYOND_DOUBT = 0.05


class Verdict(StrEnum):
    PROMOTE = "promote"
    REJECT = "reject"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The gate's verdict, in words and numbers."""

    verdict: Verdict
    reason: str
    holdout: int  # samples it rests on
    candidate: float | None  # accuracy on them
    production: float | None  # accuracy of the version that serves, on the same
    margin: float
    against: str | None = None  # that version

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def first(hits: npt.NDArray[np.bool_], truth: npt.NDArray[np.intp]) -> Judgement:
    """Nothing serves yet: the candidate must beat the majority class beyond doubt.

    Args:
        hits: whether the candidate is right, per holdout sample.
        truth: today's label of each, as a place among the classes.
    """
    size = len(hits)
    share = float(np.bincount(truth).max() / size)
    right = int(hits.sum())
    chance = float(binomtest(right, size, share, alternative="greater").pvalue)
    better = chance < BEYOND_DOUBT
    return Judgement(
        verdict=Verdict.PROMOTE if better else Verdict.REJECT,
        reason=(
            f"right on {right} of {size} holdout samples ({right / size:.3f}); always naming the "
            f"commonest class gives {share:.3f}"
            + (
                ", clearly less"
                if better
                else f", and chance alone does as well with probability {chance:.2f}"
            )
        ),
        holdout=size,
        candidate=right / size,
        production=None,
        margin=0.0,
    )


def compare(
    candidate: npt.NDArray[np.bool_],
    production: npt.NDArray[np.bool_],
    *,
    margin: float,
    against: str,
) -> Judgement:
    """The candidate against the version that serves, on the same holdout samples.

    Promoted when its accuracy is not more than `margin` below production's. A holdout without
    samples of classes that both know cannot tell.

    Args:
        candidate, production: whether each is right, per sample.
    """
    size = len(candidate)
    if size == 0:
        return Judgement(
            verdict=Verdict.CANNOT_TELL,
            reason="the holdout has no sample of a class that both versions know; add some",
            holdout=0,
            candidate=None,
            production=None,
            margin=margin,
            against=against,
        )
    new, old = float(candidate.mean()), float(production.mean())
    # In whole samples: 0.94 - 0.96 is a little less than -0.02 in floating point.
    lost = int(production.sum()) - int(candidate.sum())
    good = lost <= margin * size + 1e-9
    return Judgement(
        verdict=Verdict.PROMOTE if good else Verdict.REJECT,
        reason=(
            f"accuracy {new:.3f} against production's {old:.3f} on {size} holdout samples: "
            f"{new - old:+.3f}, "
            + (
                "not worse"
                if lost <= 0
                else f"{'within' if good else 'beyond'} the margin of {margin:g}"
            )
        ),
        holdout=size,
        candidate=new,
        production=old,
        margin=margin,
        against=against,
    )


def promotes(judgement: Judgement, cannot_tell: Literal["better", "hold", "promote"]) -> bool:
    """What follows from a verdict under the setting GATE_CANNOT_TELL."""
    if judgement.verdict is not Verdict.CANNOT_TELL:
        return judgement.verdict is Verdict.PROMOTE
    if cannot_tell == "better":
        return (
            judgement.candidate is not None
            and judgement.production is not None
            and judgement.candidate >= judgement.production
        )
    return cannot_tell == "promote"
