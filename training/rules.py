"""How each fault of a training is judged: from the evidence to a verdict, in words and numbers.

What is sound alone decides alone; a rate is judged by several weak signs that must agree.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Any

import numpy as np

from toploss.intervals import wilson
from training import noise
from training.evidence import Evidence, Scored
from training.trained import STAGE_ONE, STAGE_TWO, Epoch

BLOWN_UP = 1.5  # times the loss at the start, or of guessing if that is higher
LARGE_STEP = 0.1  # ‖Δw‖/‖w‖ of the head; healthy trainings stayed below 0.04
HUGE_STEP = 0.5  # likewise; needs no other sign beside it
NEAR_LOWEST = 1 / 3  # of the rate where the sweep's loss is lowest; a tenth is the usual choice
SMALL_STEP = 5e-4  # likewise; healthy trainings rose above 4e-3
LEARNED = 0.5  # of guessing's loss: more is left on plain training images, so little was learned
RISE = 0.1  # of valid loss over its lowest, as a share of that, on endlessly many images
LEAST_RISE = 0.05  # of guessing's loss: less is nothing to worry about
DEAD = 0.1  # share of channels
WAKING = 50  # steps from scratch, about; healthy trainings of 93 had none left
LESS = 8  # times fewer images than the commonest class
LEAST_BALANCED = 20  # times fewer: from there on --balance helped pretrained bodies as well
WRONG = 0.04  # share of labels
FEWEST_SCORED = 100  # held-out images: with fewer, label noise cannot be judged
WORTH = 0.02  # accuracy that twice the data must promise
WIDE = 0.05  # half of the accuracy's interval on the holdout
SIGNS = 2  # that must agree where each alone is weak

Numbers = dict[str, Any]  # by name; plain numbers and lists of them


class Verdict(StrEnum):
    FOUND = "found"
    CLEAR = "clear"
    CANNOT_TELL = "cannot_tell"


Judged = tuple[Verdict, str, Numbers]  # the words hold the evidence


def diverged(evidence: Evidence) -> Judged:
    """Whether the loss is no number any more, or ended far above its start, and above guessing."""
    losses = evidence.trained.losses
    if evidence.non_finite:
        words = f"The loss was no number any more at step {len(losses)}; the training ended there."
        return Verdict.FOUND, words, {"step": len(losses)}
    if not evidence.trained.history:
        return _unknown("No epoch was finished.")
    end = evidence.trained.history[-1]
    start, last = _started(evidence), end.train_loss
    words = f"The training loss began at {start:.2f} and ended at {last:.2f}"
    numbers = {"start": start, "last": last, "guessing": _guessing(evidence)}
    if not all(map(math.isfinite, (end.plain_loss, end.valid_loss))):
        return Verdict.FOUND, f"{words}, and in eval mode the loss is no number.", numbers
    if last > BLOWN_UP * start:
        return Verdict.FOUND, f"{words}: the training has made it worse.", numbers
    return Verdict.CLEAR, f"{words}.", numbers


def rate_too_high(evidence: Evidence) -> Judged:
    signs, numbers = [], _of_rate(evidence)
    if numbers.get("largest_step", 0) > LARGE_STEP:
        signs.append(f"a single step changed the head's weights by {numbers['largest_step']:.0%}")
    signs += filter(None, [_bad_loss(evidence)])
    if dead_filters(evidence)[0] is Verdict.FOUND:
        signs.append(f"{evidence.dead:.0%} of the body's channels are dead")
    if numbers["rate"] > NEAR_LOWEST * numbers.get("lowest_at", math.inf):
        signs.append(
            f"it is above a third of {numbers['lowest_at']:.1e}, where the sweep's loss was lowest"
        )
    sure = numbers.get("largest_step", 0) > HUGE_STEP
    return _weighed(evidence, "high", signs, numbers, enough=1 if sure else SIGNS)


def _bad_loss(evidence: Evidence) -> str:
    """What of the loss after annealing speaks for too high a rate; empty if nothing does. However
    much that is, it is one sign."""
    if evidence.non_finite:
        return "the loss was no number in the end"
    if not evidence.trained.history:
        return ""
    last, start = evidence.trained.history[-1], _started(evidence)
    if last.train_loss > start or last.plain_loss > _guessing(evidence):
        return (
            f"after annealing the loss is {last.train_loss:.2f}, from {start:.2f} at the start, "
            f"and {last.plain_loss:.2f} on plain training images"
        )
    if (rise := _raised(evidence)) is not None:
        before, after = rise
        return f"stage two raised it on plain training images from {before:.2f} to {after:.2f}"
    return ""


def _raised(evidence: Evidence) -> tuple[float, float] | None:
    """The loss on plain training images at the end of both stages, if stage two has raised it."""
    before, after = (
        [epoch.plain_loss for epoch in evidence.trained.history if epoch.stage == stage]
        for stage in (STAGE_ONE, STAGE_TWO)
    )
    if before and after and after[-1] - before[-1] > LEAST_RISE * _guessing(evidence):
        return before[-1], after[-1]
    return None


def rate_too_low(evidence: Evidence) -> Judged:
    """By steps that change next to nothing, a sweep that suggests ten times more, and little that
    was learned: two must agree."""
    signs, numbers = [], _of_rate(evidence)
    if numbers.get("largest_step", math.inf) < SMALL_STEP:
        signs.append(f"no step changed the head's weights by more than {SMALL_STEP:.2%}")
    if numbers["rate"] < numbers.get("least_suggested", 0) / 10:
        signs.append(f"the sweep suggests {numbers['least_suggested']:.1e} and more")
    # That has many causes, so it only bears out what the others say.
    if signs and evidence.trained.history and _little_learned(evidence):
        signs.append("little was learned of the training images themselves")
    return _weighed(evidence, "low", signs, numbers)


def _of_rate(evidence: Evidence) -> Numbers:
    trained, finder = evidence.trained, evidence.trained.finder
    numbers: Numbers = {"rate": trained.rate}
    steps = [update for update in trained.updates if math.isfinite(update)]
    if steps:
        numbers["largest_step"] = max(steps)
    if finder is not None and np.isfinite(finder.losses).any():
        lowest = int(np.nanargmin(finder.losses))
        if lowest > len(finder.losses) // 10:  # else it never went down, and says nothing
            numbers["lowest_at"] = finder.rates[lowest]
    if finder is not None and finder.suggestions:
        numbers["least_suggested"] = min(finder.suggestions.values())
    return numbers


def _weighed(
    evidence: Evidence, side: str, signs: list[str], numbers: Numbers, *, enough: int = SIGNS
) -> Judged:
    """Signs that are weak alone: two of them must agree."""
    numbers = {**numbers, "signs": len(signs)}
    rate = f"The rate {evidence.trained.rate:.1e}"
    if len(signs) >= enough:
        return Verdict.FOUND, f"{rate} is too {side}: {'; '.join(signs)}.", numbers
    if signs:
        return Verdict.CANNOT_TELL, f"{rate} may be too {side}: {signs[0]}.", numbers
    if not evidence.trained.updates:
        return Verdict.CANNOT_TELL, f"{rate}: no steps were measured.", numbers
    return Verdict.CLEAR, f"{rate}: no sign that it is too {side}.", numbers


def underfit(evidence: Evidence) -> Judged:
    """Whether not even plain training images were learned, for no other reason that was found."""
    if evidence.non_finite or not evidence.trained.history:
        return _unknown("The training did not come to an end.")
    last, guessing = evidence.trained.history[-1], _by_frequency(evidence)
    words = (
        f"On plain training images, without augmentation and dropout, the loss is "
        f"{last.plain_loss:.2f} (guessing: {guessing:.2f}) and {last.plain_accuracy:.0%} are right"
    )
    numbers = {"loss": last.plain_loss, "accuracy": last.plain_accuracy, "guessing": guessing}
    if _little_learned(evidence):
        others = (
            (label_noise, "wrong labels, of which there are many, cannot be learned"),
            (rate_too_high, "the rate is too high to learn"),
        )
        for other, why in others:
            if other(evidence)[0] is Verdict.FOUND:
                return Verdict.CANNOT_TELL, f"{words}; {why}.", numbers
        return Verdict.FOUND, f"{words}: not even these were learned.", numbers
    return Verdict.CLEAR, f"{words}.", numbers


def _little_learned(evidence: Evidence) -> bool:
    return evidence.trained.history[-1].plain_loss > LEARNED * _by_frequency(evidence)


def overfit(evidence: Evidence) -> Judged:
    """Whether valid loss rose at the end of a stage while that on plain training images fell."""
    history = evidence.trained.history
    if evidence.non_finite or len(history) < 2:
        return _unknown("There are no two epochs to compare.")
    worst = max(_ends(history), key=lambda seen: _rise(*seen))
    best, end = worst
    rise, learned = _rise(best, end), best.plain_loss - end.plain_loss
    words = (
        f"Valid loss was {best.valid_loss:.2f} after epoch {best.epoch} of {best.stage} and is "
        f"{end.valid_loss:.2f} at the end of {end.stage} ({rise:+.0%}), while the loss on plain "
        f"training images went from {best.plain_loss:.2f} to {end.plain_loss:.2f}; valid accuracy "
        f"went from {best.accuracy:.3f} to {end.accuracy:.3f}."
    )
    numbers = {"lowest": best.valid_loss, "last": end.valid_loss, "rise": rise, "learned": learned}
    # On few images the loss goes up and down by itself.
    images = 0 if evidence.valid is None else len(evidence.valid.truth)
    beyond = rise > RISE + (1 / math.sqrt(images) if images else 0)
    worth = end.valid_loss - best.valid_loss > LEAST_RISE * _guessing(evidence)
    found = beyond and worth and learned > 0
    return Verdict.FOUND if found else Verdict.CLEAR, words, numbers


def _ends(history: Sequence[Epoch]) -> list[tuple[Epoch, Epoch]]:
    """The epoch of the lowest valid loss so far, and the last one, for each stage: only there is
    the rate annealed, and one-cycle raises the loss midway."""
    pairs = []
    for stage in (STAGE_ONE, STAGE_TWO):
        number = max((n for n, e in enumerate(history) if e.stage == stage), default=None)
        if number is not None:
            best = min(history[: number + 1], key=lambda epoch: epoch.valid_loss)
            pairs.append((best, history[number]))
    return pairs


def _rise(best: Epoch, end: Epoch) -> float:
    return end.valid_loss / max(best.valid_loss, 1e-6) - 1


def dead_filters(evidence: Evidence) -> Judged:
    """Whether a tenth of the body's channels are dead, beyond those of pretrained weights."""
    if evidence.dead is None:
        return _unknown("Dead channels were not counted.")
    words = f"{evidence.dead:.1%} of the body's channels are above zero on no image"
    numbers: Numbers = {"dead": evidence.dead}
    # Random weights have dead channels, too, a fifth of a resnet18's: a training wakes them all,
    # unless they die again. Those of pretrained weights stay.
    before = evidence.dead_before or 0.0
    known = 0.0 if evidence.from_scratch else before
    steps = len(evidence.trained.losses)
    asleep = evidence.from_scratch and steps < WAKING and DEAD < evidence.dead <= before
    if evidence.dead_before is not None:
        words += f" ({evidence.dead_before:.1%} before the training)"
        numbers["before"] = evidence.dead_before
    if asleep:
        words += f", and {steps} steps are too few to wake what was dead at random"
        return Verdict.CANNOT_TELL, f"{words}.", numbers
    return Verdict.FOUND if evidence.dead > known + DEAD else Verdict.CLEAR, f"{words}.", numbers


def imbalance(evidence: Evidence) -> Judged:
    """Whether the rarest class has far fewer images than the commonest."""
    counts = np.array(evidence.counts)
    commonest, rarest = int(counts.argmax()), int(counts.argmin())
    ratio = float(counts.max() / max(counts.min(), 1))
    words = (
        f"{evidence.labels[commonest]!r} has {counts.max()} training images, "
        f"{evidence.labels[rarest]!r} has {counts.min()}: {ratio:.1f} to 1"
    )
    numbers: Numbers = {"most": int(counts.max()), "fewest": int(counts.min()), "ratio": ratio}
    if ratio < LESS:
        return Verdict.CLEAR, f"{words}.", numbers
    if evidence.valid is not None:
        rare = np.flatnonzero(counts * LESS <= counts.max())
        numbers["rare_recall"] = _recall(evidence.valid, rare)
        numbers["other_recall"] = _recall(
            evidence.valid, np.setdiff1d(np.arange(len(counts)), rare)
        )
        (low, high), (other_low, other_high) = numbers["rare_recall"], numbers["other_recall"]
        words += (
            f". Of valid's images of the rare classes {low:.0%} to {high:.0%} are found, "
            f"of the others {other_low:.0%} to {other_high:.0%}: "
            + ("clearly fewer" if high < other_low else "a difference is not shown")
        )
    if evidence.from_scratch or ratio >= LEAST_BALANCED:
        words += ". On such sets --balance raised the mean recall"
    else:
        words += ". On such sets --balance found more of the rare and as many fewer of the others"
    return Verdict.FOUND, f"{words}.", numbers


def _recall(scored: Scored, classes: Sequence[int] | Any) -> tuple[float, float]:
    """95 % interval of the share of some classes' images that are found, all together."""
    members = np.isin(scored.truth, classes)
    return wilson(int(scored.hits[members].sum()), int(members.sum()))


def label_noise(evidence: Evidence) -> Judged:
    """Whether a few per cent of the labels are wrong beyond doubt, by held-out answers."""
    scored = evidence.held_out or evidence.valid
    size = 0 if scored is None else len(scored.truth)
    if scored is None or size < FEWEST_SCORED:
        return _unknown(f"There are held-out predictions of {size} images.")
    spoilt = any(
        judge(evidence)[0] is Verdict.FOUND for judge in (diverged, rate_too_high, rate_too_low)
    )
    commonest = float(np.bincount(scored.truth).max() / size)
    if spoilt or wilson(int(scored.hits.sum()), size)[0] <= commonest:
        return _unknown("A network that has not learned cannot say which labels are wrong.")
    wrong = noise.estimate(scored.probabilities, scored.truth)
    low, high = wrong.interval
    words = (
        f"By the answers on {size} held-out images, of which {scored.hits.mean():.1%} agree with "
        f"the label, {low:.1%} to {high:.1%} of the labels may be wrong."
    )
    numbers: Numbers = {
        "share": wrong.share,
        "interval": wrong.interval,
        "images": size,
        "agree": float(scored.hits.mean()),
    }
    if low > WRONG:
        return Verdict.FOUND, words, numbers
    return Verdict.CLEAR if wrong.share <= WRONG else Verdict.CANNOT_TELL, words, numbers


def more_data(evidence: Evidence) -> Judged:
    """Whether twice the data promise enough, by the power law through learning curves of quick
    heads."""
    curve = evidence.curve
    if curve is None:
        return _unknown("There is no learning curve of quick heads on the body's features.")
    (low, high), (least, most) = curve.interval, curve.fall
    words = (
        f"Quick heads on {', '.join(map(str, curve.sizes))} training images are wrong on "
        f"{', '.join(f'{error:.1%}' for error in curve.errors)} of valid. By the power law through "
        f"these, {2 * curve.sizes[-1]} would leave {low:.1%} to {high:.1%}: a change of "
        f"{-100 * most:+.1f} to {-100 * least:+.1f} points."
    )
    if least > 0 and curve.errors[-1] - curve.doubled >= WORTH:
        return Verdict.FOUND, words, asdict(curve)
    return Verdict.CLEAR if most < WORTH else Verdict.CANNOT_TELL, words, asdict(curve)


def small_holdout(evidence: Evidence) -> Judged:
    """Whether the holdout leaves accuracy in doubt by more than 5 points."""
    if evidence.test is None:
        return _unknown("The holdout was not looked at.")
    size, right = len(evidence.test.truth), int(evidence.test.hits.sum())
    low, high = wilson(right, size)
    share = right / max(size, 1)
    wanted = math.ceil(1.96**2 * max(share * (1 - share), 0.01) / WIDE**2)
    words = f"{right} of {size} holdout images are right: an accuracy of {low:.1%} to {high:.1%}"
    numbers = {"images": size, "interval": (low, high), "wanted": wanted}
    if (high - low) / 2 > WIDE:
        return (
            Verdict.FOUND,
            f"{words}; about {wanted} would bring the doubt down to 5 points.",
            numbers,
        )
    return Verdict.CLEAR, f"{words}.", numbers


def _unknown(words: str) -> Judged:
    return Verdict.CANNOT_TELL, words, {}


def _guessing(evidence: Evidence) -> float:
    """Loss of saying every class with equal probability, in nats."""
    return math.log(len(evidence.labels))


def _by_frequency(evidence: Evidence) -> float:
    """Loss of saying every class as often as it comes in train, in nats: what is known without
    looking at a picture."""
    shares = np.array([count for count in evidence.counts if count], float)
    shares /= shares.sum()
    return float(-(shares * np.log(shares)).sum())


def _started(evidence: Evidence) -> float:
    """The loss at the start; of guessing, if that is higher."""
    first = evidence.trained.losses[:1]
    return max([*first, _guessing(evidence)])
