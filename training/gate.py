"""Whether a candidate may take production's place, judged on the frozen holdout.

Two keys: it is not inferior, on the whole and in no class, and it can be served. docs/gate.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from math import ceil
from typing import Any, Literal

import numpy as np
from scipy.stats import binomtest

from toploss.settings import Settings
from training import paired
from training.paired import Flags, Paired, Places
from training.servability import Servability

# How sure the first version must be to beat always naming the commonest class (one-sided).
BEYOND_DOUBT = 0.05
SHOWN = 10  # classes that the verdict tells the figures of, beside those that fell
MANY = 1_000_000  # more holdout samples than anybody collects


class Verdict(StrEnum):
    PROMOTE = "promote"
    REJECT = "reject"
    CANNOT_TELL = "cannot_tell"


# Of a candidate that was not promoted.
SAID = {
    Verdict.REJECT: "the gate said no",
    Verdict.CANNOT_TELL: "the gate could not tell",
}


CannotTell = Literal["better", "hold", "promote"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the gate asks for; the settings have the same names."""

    margin: float = 0.02  # of accuracy
    class_margin: float = 0.10  # of one class's recall
    new_recall: float = 0.5  # of a class that production does not know
    new_count: int = 8  # holdout samples of it, at least

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        return cls(
            margin=settings.gate_margin,
            class_margin=settings.gate_class_margin,
            new_recall=settings.gate_new_recall,
            new_count=settings.gate_new_count,
        )


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """The samples of the holdout that decide nothing, and why."""

    learned: int = 0  # a version, by its own training, may have learned from them
    inherited: int = 0  # or a network that it began with, by that one's
    unknown: int = 0  # of a class that the candidate does not know
    unseen: int = 0  # networks, no samples: what they learned from is not known any more

    def words(self) -> Iterator[str]:
        by = "by themselves or by near-duplicates"
        if self.unknown:
            yield f"left out: {self.unknown} of classes that the candidate does not know"
        if self.learned:
            yield f"left out: {self.learned} that a version may have learned from, {by}"
        if self.inherited:
            more = "more " if self.learned else ""
            yield (
                f"left out: {self.inherited} {more}that a network which a version began with may "
                f"have learned from, {by}"
            )
        if self.unseen:
            yield (
                f"what {self.unseen} of the networks that a version is made of learned from is not "
                "to be had, and was not left out"
            )


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What candidate and production answered on the same holdout samples."""

    truth: Places  # (n,): today's label of each, as a place in `labels`
    groups: Places  # (n,): of near-duplicates, by number
    candidate: Flags  # (n,): whether it is right
    production: Flags  # (n,)
    labels: tuple[str, ...]  # the classes that the candidate knows
    new: tuple[str, ...] = ()  # of these, those that production does not know
    removed: tuple[str, ...] = ()  # that production knows and the candidate does not
    left_out: LeftOut = LeftOut()

    def of(self, rows: Any) -> Paired:
        return Paired.of(self.candidate[rows], self.production[rows], self.groups[rows])


@dataclass(frozen=True, kw_only=True)
class Class:
    """One class that both versions know."""

    label: str
    samples: int
    candidate: float  # recall
    production: float
    chance: float  # p of having fallen by the margin at most, before it is corrected
    fell: bool  # beyond the margin, on evidence corrected for the number of classes


@dataclass(frozen=True, kw_only=True)
class NewClass:
    """One class that production does not know."""

    label: str
    samples: int
    recall: float | None  # the candidate's; none: no sample
    asked: float  # recall, at least
    verdict: Verdict
    words: str


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
    difference: float | None = None  # candidate's accuracy less production's
    lower: float | None = None  # the true difference is above, with 95 % certainty
    upper: float | None = None  # and below, with 95 %
    gained: int | None = None  # samples that the candidate alone has right
    lost: int | None = None  # that production alone has right
    design: float | None = None  # samples that are worth one, for near-duplicates are alike
    mcnemar: float | None = None  # exact p that neither is better: told, and decides nothing
    more: int | None = None  # holdout samples more that would tell, about; none: no number would
    classes: tuple[Class, ...] = ()  # those that fell, and of the others those that lost most
    new_classes: tuple[NewClass, ...] = ()
    removed: tuple[str, ...] = ()  # classes that production alone knows
    left_out: LeftOut = LeftOut()
    servable: Servability | None = None
    passed: bool = False  # whether it may be promoted: the verdict, or GATE_CANNOT_TELL

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def first(
    hits: Flags,
    truth: Places,
    *,
    servable: Servability | None = None,
    left_out: LeftOut = LeftOut(),  # frozen
) -> Judgement:
    """Nothing serves yet: the candidate must beat the majority class beyond doubt.

    Args:
        hits: whether the candidate is right, per holdout sample.
        truth: today's label of each, as a place among the classes.
        left_out: samples that are not among them.
    """
    size = len(hits)
    judgement = _beyond_majority(hits, truth) if size else _empty("that it can be judged by")
    if servable is not None:
        judgement = replace(
            judgement,
            verdict=judgement.verdict if servable.fits else Verdict.REJECT,
            reason=f"{judgement.reason}; {servable.words}",
        )
    reason = "; ".join((judgement.reason, *left_out.words()))
    return replace(judgement, reason=reason, servable=servable, left_out=left_out)


def compare(
    sheet: Sheet, rules: Rules, *, against: str, servable: Servability | None = None
) -> Judgement:
    """The candidate against the version that serves, on the same holdout samples.

    Rejected when anything speaks against it beyond doubt; promoted when nothing does, and it is
    beyond doubt that its accuracy is not more than the margin below production's.
    """
    shared = ~np.isin(sheet.truth, [sheet.labels.index(label) for label in sheet.new])
    known = _classes(sheet, shared, rules)
    news = tuple(_new(sheet, label, rules) for label in sheet.new)
    judged = _whole(sheet, shared, rules)
    verdicts, words = [judged.verdict], [judged.reason]
    for fallen in (entry for entry in known if entry.fell):
        verdicts.append(Verdict.REJECT)
        words.append(
            f"class {fallen.label!r} fell by more than its margin of {rules.class_margin:g}: "
            f"{fallen.candidate:.3f} of its {fallen.samples} samples right after "
            f"{fallen.production:.3f} (p {fallen.chance:.2g}, corrected for {len(known)} classes)"
        )
    verdicts += [one.verdict for one in news]
    words += [one.words for one in news]
    if servable is not None:
        verdicts.append(Verdict.PROMOTE if servable.fits else Verdict.REJECT)
        words.append(servable.words)
    if sheet.removed:
        names = ", ".join(map(repr, sheet.removed))
        words.append(f"production alone knows {names}, which was not compared")
    words += sheet.left_out.words()
    return replace(
        judged,
        verdict=_gravest(verdicts),
        reason="; ".join(words),
        against=against,
        classes=_shown(known),
        new_classes=news,
        removed=sheet.removed,
        left_out=sheet.left_out,
        servable=servable,
    )


def promotes(judgement: Judgement, cannot_tell: CannotTell) -> bool:
    """What follows from a verdict under the setting GATE_CANNOT_TELL.

    `better` goes by what was seen: as many right as production at least, where the doubt is about
    that, and no new class's recall below what is asked of it.
    """
    if judgement.verdict is not Verdict.CANNOT_TELL:
        return judgement.verdict is Verdict.PROMOTE
    if cannot_tell == "better":
        if judgement.difference is None or judgement.lower is None:
            return False
        good = judgement.difference >= 0 or judgement.lower > -judgement.margin
        news = [(one.recall, one.asked) for one in judgement.new_classes]
        return good and all(recall is None or recall >= asked for recall, asked in news)
    return cannot_tell == "promote"


def _beyond_majority(hits: Flags, truth: Places) -> Judgement:
    size, right = len(hits), int(hits.sum())
    share = float(np.bincount(truth).max() / size)
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


def _empty(lacking: str, margin: float = 0.0) -> Judgement:
    return Judgement(
        verdict=Verdict.CANNOT_TELL,
        reason=f"the holdout has no sample {lacking}; add some",
        holdout=0,
        candidate=None,
        production=None,
        margin=margin,
    )


def _gravest(verdicts: Sequence[Verdict]) -> Verdict:
    for verdict in (Verdict.REJECT, Verdict.CANNOT_TELL):
        if verdict in verdicts:
            return verdict
    return Verdict.PROMOTE


def _whole(sheet: Sheet, shared: Flags, rules: Rules) -> Judgement:
    """By the accuracy on the classes that both know."""
    size, margin = int(shared.sum()), rules.margin
    if size == 0:
        return _empty("of a class that both versions know", margin)
    pair = sheet.of(shared)
    new, old = float(sheet.candidate[shared].mean()), float(sheet.production[shared].mean())
    lower, upper, seen = float(pair.lower()), float(pair.upper()), float(pair.difference)
    verdict = Verdict.CANNOT_TELL
    if pair.above(-margin) < 1 - paired.SURE:
        verdict = Verdict.PROMOTE
    elif pair.below(-margin) < 1 - paired.SURE:
        verdict = Verdict.REJECT
    more = _more(pair, margin) if verdict is Verdict.CANNOT_TELL else None
    said = (
        f"accuracy {new:.3f} against production's {old:.3f} on {size} holdout samples: "
        f"{seen:+.3f}, with 95 % certainty above {lower:+.3f} and with 95 % below {upper:+.3f}, "
    )
    said += {
        Verdict.PROMOTE: f"so not inferior by the margin of {margin:g}",
        Verdict.REJECT: f"so inferior by more than the margin of {margin:g}",
        Verdict.CANNOT_TELL: f"so {size} samples cannot tell about the margin of {margin:g}; "
        + _would_tell(more),
    }[verdict]
    return Judgement(
        verdict=verdict,
        reason=said,
        holdout=size,
        candidate=new,
        production=old,
        margin=margin,
        difference=seen,
        lower=lower,
        upper=upper,
        gained=pair.gained,
        lost=pair.lost,
        design=float(pair.design),
        mcnemar=float(pair.mcnemar()),
        more=more,
    )


def _more(pair: Paired, margin: float) -> int | None:
    """Holdout samples beside those there are; None: beyond what anybody collects."""
    needed = pair.needed(-margin)
    return max(1, ceil(needed - pair.samples)) if needed < MANY else None


def _would_tell(more: int | None) -> str:
    if more is None:
        return "no number of them would, were the difference as seen"
    return f"about {more:,} more would, four times of five, were the difference as seen"


def _classes(sheet: Sheet, shared: Flags, rules: Rules) -> list[Class]:
    """Each class that both know and the holdout has, the gravest evidence first."""
    places = np.unique(sheet.truth[shared])
    rows = [np.flatnonzero(sheet.truth == place) for place in places]
    chances = np.array([float(sheet.of(its).below(-rules.class_margin)) for its in rows])
    fallen = paired.holm(chances)
    found = [
        Class(
            label=sheet.labels[place],
            samples=len(its),
            candidate=float(sheet.candidate[its].mean()),
            production=float(sheet.production[its].mean()),
            chance=float(chance),
            fell=bool(fell),
        )
        for place, its, chance, fell in zip(places, rows, chances, fallen, strict=True)
    ]
    return sorted(found, key=lambda entry: (not entry.fell, entry.chance, entry.label))


def _shown(known: list[Class]) -> tuple[Class, ...]:
    fell = sum(entry.fell for entry in known)
    lost = [entry for entry in known[fell:] if entry.candidate < entry.production]
    return (*known[:fell], *lost[:SHOWN])


def _new(sheet: Sheet, label: str, rules: Rules) -> NewClass:
    """By its own recall: production has none of it to compare with."""
    hits = sheet.candidate[sheet.truth == sheet.labels.index(label)]
    size, right = len(hits), int(hits.sum())
    recall, asked = (right / size if size else None), rules.new_recall
    said = f"class {label!r} is new: right on {right} of its {size} holdout samples"
    verdict = Verdict.PROMOTE
    if size < rules.new_count:
        verdict = Verdict.CANNOT_TELL
        said += f", and to judge it takes {rules.new_count}"
    elif right < asked * size:
        chance = binomtest(right, size, asked, alternative="less").pvalue
        verdict = Verdict.REJECT if chance < 1 - paired.SURE else Verdict.CANNOT_TELL
        sure = "beyond doubt" if verdict is Verdict.REJECT else "perhaps by chance"
        said += f", {sure} less than the {asked:g} that is asked of a new class"
    return NewClass(
        label=label, samples=size, recall=recall, asked=asked, verdict=verdict, words=said
    )
