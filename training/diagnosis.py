"""What is the matter with a training: a table of rules, each verdict with its evidence.

The rules are transparent on purpose: a threshold, where it comes from, and what would change the
verdict. How often each is right, and how often it cries over a healthy run, is measured by
`python -m bench.diagnosis`; docs/diagnosis.md is the table for readers.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from training import rules
from training.evidence import Evidence
from training.rules import Numbers, Verdict

OURS = "ours, settled by bench.diagnosis"


class Severity(StrEnum):
    """How much it matters, if it is found."""

    ERROR = "error"  # the network is of no use
    WARNING = "warning"  # it is worse than it could be
    ADVICE = "advice"  # nothing is wrong, but there is something to gain


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One rule's verdict on one training."""

    rule: str  # stable id
    verdict: Verdict
    severity: Severity  # of the fault, whether found or not
    words: str  # the evidence in a sentence or two
    numbers: Numbers  # the evidence
    threshold: str
    source: str  # of the threshold
    remedy: str  # what to do about it, or what it takes to tell; empty if clear

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A fault that can be looked for."""

    name: str
    severity: Severity
    threshold: str
    source: str
    remedy: str  # if it is found
    needs: str  # what it takes to tell, where the evidence is missing
    judge: Callable[[Evidence], tuple[Verdict, str, Numbers]]


def diagnose(evidence: Evidence) -> list[Finding]:
    """Every rule's verdict, in the table's order: what spoils most comes first."""
    findings = []
    for rule in RULES:
        verdict, words, numbers = rule.judge(evidence)
        remedies = {Verdict.FOUND: rule.remedy, Verdict.CANNOT_TELL: rule.needs}
        findings.append(
            Finding(
                rule=rule.name,
                verdict=verdict,
                severity=rule.severity,
                words=words,
                numbers={key: value for key, value in numbers.items() if _is_told(value)},
                threshold=rule.threshold,
                source=rule.source,
                remedy=remedies.get(verdict, ""),
            )
        )
    return findings


def _is_told(value: Any) -> bool:
    """JSON has no infinity, and no nan."""
    return not isinstance(value, float) or math.isfinite(value)


RULES = (
    Rule(
        name="diverged",
        severity=Severity.ERROR,
        threshold="a loss that is no number, or a last epoch whose training loss is above "
        f"{rules.BLOWN_UP} times the first step's",
        source="the idea: AutoTrainer (Zhang et al., ICSE 2021); the factor is " + OURS,
        remedy="Train with a tenth of the rate (--lr), or with the rate finder's (--lr auto).",
        needs="Let the training finish an epoch.",
        judge=rules.diverged,
    ),
    Rule(
        name="rate_too_high",
        severity=Severity.WARNING,
        threshold=f"{rules.SIGNS} of: a step of more than {rules.LARGE_STEP:.0%} of the head's "
        "weights; a loss after annealing above the first step's or above guessing's, or one on "
        "plain training images that stage two raised; dead channels; a rate above a third of the "
        "one where the sweep's loss was lowest. A step of more than "
        f"{rules.HUGE_STEP:.0%} alone",
        source="the update ratio of Stanford's CS231n notes and of SageMaker Debugger's "
        "WeightUpdateRatio (which has 10); Smith 2017 for the sweep; numbers " + OURS,
        remedy="Train with a tenth of the rate (--lr), or with the rate finder's (--lr auto).",
        needs="Train again with --lr auto, and compare: one weak sign alone proves nothing.",
        judge=rules.rate_too_high,
    ),
    Rule(
        name="rate_too_low",
        severity=Severity.WARNING,
        threshold=f"{rules.SIGNS} of: no step of more than {rules.SMALL_STEP:.2%} of the head's "
        "weights; underfit; a rate below a tenth of the least that the sweep suggests",
        source="as for rate_too_high (WeightUpdateRatio has 1e-8)",
        remedy="Train with ten times the rate (--lr), or with the rate finder's (--lr auto).",
        needs="Train again with --lr auto, and compare: one weak sign alone proves nothing.",
        judge=rules.rate_too_low,
    ),
    Rule(
        name="underfit",
        severity=Severity.WARNING,
        threshold=f"a loss on plain training images above {rules.LEARNED} times that of guessing "
        "by the classes' shares, without many wrong labels or a rate too high to explain it",
        source="the fast.ai course's comparison of training and valid loss, without augmentation "
        "and dropout, which raise the former; the factor is " + OURS,
        remedy="Train for more epochs, with a higher rate, with a larger network or larger images.",
        needs="Let the training come to an end; where another cause is named, mend that first.",
        judge=rules.underfit,
    ),
    Rule(
        name="overfit",
        severity=Severity.WARNING,
        threshold=f"a valid loss that is {rules.RISE:.0%} above its lowest when a stage ends, and "
        "one over the root of valid's images more, at least "
        f"{rules.LEAST_RISE:.0%} of guessing's loss, while the loss on plain training images has "
        "fallen since",
        source="the fast.ai course, SageMaker Debugger's Overfit; the share is " + OURS,
        remedy="Train for fewer epochs (--epochs-head, --epochs-all), or add images.",
        needs="Train for two epochs or more.",
        judge=rules.overfit,
    ),
    Rule(
        name="dead_filters",
        severity=Severity.WARNING,
        threshold=f"{rules.DEAD:.0%} of the channels above zero on no image, beyond those that the "
        "pretrained weights came with",
        source="measured on a resnet18: 0 % at a rate of 3e-3, 25 % at 0.3; SageMaker Debugger's "
        "DeadRelu and AutoTrainer's dying ReLU look for the same",
        remedy="Train with a tenth of the rate (--lr): dead channels do not come back.",
        needs="Such channels are counted behind ReLU, ReLU6, Hardswish and SiLU only; from "
        "scratch, train for more steps.",
        judge=rules.dead_filters,
    ),
    Rule(
        name="imbalance",
        severity=Severity.WARNING,
        threshold=f"a class with {rules.LESS} times fewer training images than the commonest",
        source="SageMaker Debugger's ClassImbalance has 10, which chance alone makes of a 12 to 1; "
        "intervals: Wilson 1927; --balance: bench.balance",
        remedy="Add images of the rare classes, or draw them more often (--balance) where that has "
        "helped.",
        needs="",
        judge=rules.imbalance,
    ),
    Rule(
        name="label_noise",
        severity=Severity.WARNING,
        threshold=f"certainly more than {rules.WRONG:.0%} of the labels",
        source="held-out answers as in confident learning (Northcutt et al., 2021), whose own "
        "estimate takes a weak network's errors for wrong labels; the noise model of Natarajan et "
        "al. 2013 with a temperature; the share is " + OURS,
        remedy="Look through the top losses (toploss top-losses) and put the labels right.",
        needs="Train with --folds 5, for held-out predictions of the whole pool, or add images "
        "to valid; a network that has learned is needed as well.",
        judge=rules.label_noise,
    ),
    Rule(
        name="more_data",
        severity=Severity.ADVICE,
        threshold=f"{100 * rules.WORTH:.0f} points of accuracy expected of twice the images, and "
        "certainly some",
        source="power laws: Hestness et al. 2017, Viering and Loog 2022; the points are " + OURS,
        remedy="Add images, of the classes that are confused most first.",
        needs="More images of valid narrow a range down. Where there is no curve at all: it takes "
        "pretrained weights, and some dozens of images in train and valid.",
        judge=rules.more_data,
    ),
    Rule(
        name="small_holdout",
        severity=Severity.ADVICE,
        threshold=f"an accuracy on the holdout that is not known to {100 * rules.WIDE:.0f} points",
        source="Wilson 1927; the points are " + OURS,
        remedy="Add images to test: until then the gate can tell large differences only.",
        needs="Add images to test.",
        judge=rules.small_holdout,
    ),
)
