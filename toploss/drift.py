"""Whether the traffic still looks like the version's snapshot: the classes that it is said to show,
and what the network makes of it.

A shift is told by the population stability index, of which people know 0.1 as worth a look and 0.25
as an alarm. Chance alone makes an index of some size: without any shift it is distributed as
(1/m + 1/n) χ², with one degree of freedom less than there are bins, for m reference images and n
answers (Yurdakul, "Statistical Properties of the Population Stability Index", 2018). The mean of
that is taken off, and nothing is a shift that chance makes more often than once in a thousand
times. What that finds and how often it is wrong stands in docs/drift.md.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from toploss import alarms, models, traffic
from toploss.alarms import Alarm
from toploss.errors import NoModel
from toploss.home import Home
from toploss.traffic import CLASSES, Seen
from toploss.traits import Bins, Traits

LEVEL = 1e-3  # how often chance alone may make a shift of a kind, per look
ALARM = 0.25  # index
WATCH = 0.4  # of the alarm's: 0.1
FEW = 5  # images that a bin is expected to have, here and there; rarer ones are counted together
MOST_TOLD = 3  # classes that are named in words

Counts = npt.NDArray[np.float64]


class Kind(StrEnum):
    CLASSES = "classes"  # which classes are predicted, how often
    FEATURES = "features"  # what the network makes of the images


class State(StrEnum):
    OK = "ok"
    WATCH = "watch"
    ALARM = "alarm"
    TOO_FEW = "too few"
    NO_REFERENCE = "no reference"


WORST_FIRST = (State.ALARM, State.WATCH, State.OK, State.TOO_FEW, State.NO_REFERENCE)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a version says of the held-out images of its snapshot (valid and test), counted."""

    images: int
    classes: tuple[int, ...]  # by predicted class, in the order of the labels
    traits: dict[str, tuple[int, ...]]  # by bin

    @classmethod
    def of(cls, predicted: Any, classes: int, bins: Bins, watched: Traits) -> Self:
        """
        Args:
            predicted: (n,), places among the labels.
            bins: of the same images.
        """
        size = watched.edges.shape[1] + 1
        return cls(
            images=len(bins),
            classes=tuple(np.bincount(predicted, minlength=classes).tolist()),
            traits={
                name: tuple(np.bincount(column, minlength=size).tolist())
                for name, column in zip(watched.names, bins.T, strict=True)
            },
        )

    @classmethod
    def from_manifest(cls, manifest: dict[str, Any]) -> Self | None:
        """None: the version was published before there were references."""
        told = manifest.get("drift")
        if told is None:
            return None
        found = {name: tuple(counts) for name, counts in told["traits"].items()}
        return cls(images=told["images"], classes=tuple(told["classes"]), traits=found)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Index:
    """A population stability index, and how large chance alone would have it."""

    statistic: float  # less its mean where nothing has shifted; at least 0
    chance: float  # that chance alone exceeds as seldom as was asked for, in the same terms


def index(expected: Sequence[int], seen: Sequence[int], *, level: float = LEVEL) -> Index | None:
    """How far two counts of the same bins lie apart; None: there are too few images to tell.

    Args:
        expected: of the reference.
        level: how often chance alone may reach `chance`.
    """
    before, after = _grouped(np.array(expected, float), np.array(seen, float))
    if len(before) < 2:
        return None
    of_one = 1 / before.sum() + 1 / after.sum()
    freedom = len(before) - 1
    return Index(
        statistic=max(0.0, float(_parts(before, after).sum()) - of_one * freedom),
        chance=of_one * (_chi_square(freedom, level) - freedom),
    )


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One of the two kinds."""

    state: State
    statistic: float | None  # None: not told
    watch: float | None  # from which it is worth a look
    alarm: float | None  # from which it is an alarm
    why: str
    items: list[dict[str, Any]]  # the largest shift first

    def as_json(self) -> dict[str, Any]:
        told = asdict(self)
        told["threshold"] = told.pop("alarm")
        return told


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Of production, in some hours."""

    model: str
    hours: int
    since: float  # when the first of them with an answer began; seconds since 1970
    answers: int
    needed: int  # answers, below which nothing is said
    reference: int  # held-out images; 0: the version has none
    state: State  # the worse of the two
    why: str
    kinds: dict[Kind, Shift]
    alarms: list[Alarm]  # of this version, the latest first

    def as_json(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in self.__annotations__}
        del told["kinds"]
        return {
            **told,
            "alarms": [alarm.as_json() for alarm in self.alarms],
            **{kind.value: shift.as_json() for kind, shift in self.kinds.items()},
        }


def look(home: Home, *, hours: int | None = None, now: float | None = None) -> Drift:
    """Compare what production was asked in the last hours with its snapshot.

    Args:
        hours: the setting's, when None.

    Raises:
        NoModel: no version has been promoted.
    """
    hours = home.settings.drift_window_h if hours is None else hours
    with home.db.read() as connection:
        if models.standing(connection) is None:
            raise NoModel(
                "no model yet: no version has been promoted; train one with `toploss train`"
            )
        version = models.found(connection, models.PRODUCTION)
        seen = traffic.seen(connection, version.name, hours=hours, now=now)
        known = alarms.of(connection, version.name)
    reference = Reference.from_manifest(version.manifest)
    needed, limit = home.settings.drift_answers, home.settings.drift_alarm
    if reference is None:
        why = f"version {version.name} was published before there was a reference; the next has one"
        kinds = dict.fromkeys(Kind, _untold(State.NO_REFERENCE, why, []))
    else:
        labels = version.manifest["labels"]
        kinds = shifts(labels, reference, seen, needed=needed, limit=limit)
    worst = min(kinds.values(), key=lambda shift: WORST_FIRST.index(shift.state))
    same = [shift.why for shift in kinds.values() if shift.state == worst.state]
    return Drift(
        model=version.name,
        hours=hours,
        since=seen.since,
        answers=seen.answers,
        needed=needed,
        reference=0 if reference is None else reference.images,
        state=worst.state,
        why="; ".join(dict.fromkeys(same)),
        kinds=kinds,
        alarms=known,
    )


def shifts(
    labels: Sequence[str],
    reference: Reference,
    seen: Seen,
    *,
    needed: int = 1,
    limit: float = ALARM,
) -> dict[Kind, Shift]:
    """How far each kind has shifted.

    Args:
        needed: answers, below which nothing is said.
        limit: the index from which a shift is an alarm.
    """
    told = {
        Kind.CLASSES: _of_classes(labels, reference, seen),
        Kind.FEATURES: _of_traits(reference, seen, limit),
    }
    if seen.answers < needed:
        why = f"{seen.answers} answers, of {needed} that it takes"
        return {kind: _untold(State.TOO_FEW, why, items) for kind, (_, items, _) in told.items()}
    return {kind: _judged(kind, *found, limit) for kind, found in told.items()}


def record(connection: Connection, found: Drift) -> list[Alarm]:
    """Put on record which alarms begin with this look, and which end; returns those that begin.
    One ends when the shift is not even worth a look any more.

    Raises:
        IntegrityError: another server was faster; nothing is lost.
    """
    begun = []
    for kind, shift in found.kinds.items():
        if shift.state == State.OK:
            alarms.end(connection, found.model, kind)
        if shift.state == State.ALARM and shift.statistic is not None and shift.alarm is not None:
            alarm = Alarm(
                version=found.model,
                kind=kind,
                statistic=shift.statistic,
                threshold=shift.alarm,
                answers=found.answers,
                why=shift.why,
                at=time.time(),
            )
            if alarms.begin(connection, alarm):
                begun.append(alarm)
    return begun


Found = tuple[Index | None, list[dict[str, Any]], str]  # with the items, and the largest in words


def _of_classes(labels: Sequence[str], reference: Reference, seen: Seen) -> Found:
    counts = seen.of(CLASSES, len(labels))
    before, after = _shares(reference.classes), _shares(counts)
    parts = _parts(np.array(reference.classes, float), np.array(counts, float))
    items = [
        {"label": labels[at], "expected": before[at], "seen": after[at]}
        for at in np.argsort(-parts, kind="stable").tolist()
    ]
    named = ", ".join(
        f"{item['label']} {item['seen']:.1%} instead of {item['expected']:.1%}"
        for item in items[:MOST_TOLD]
    )
    return index(reference.classes, counts), items, named


def _of_traits(reference: Reference, seen: Seen, limit: float) -> Found:
    """Of the trait that is furthest beyond its threshold: each has its own bins, and chance."""
    level = LEVEL / len(reference.traits)  # as many chances (Bonferroni)
    ranked = []
    for kind, (name, expected) in enumerate(reference.traits.items(), start=CLASSES + 1):
        counts = seen.of(kind, len(expected))
        found = index(expected, counts, level=level)
        shown = {"expected": _shares(expected), "seen": _shares(counts)}
        statistic = None if found is None else found.statistic
        beyond = -1.0 if found is None else found.statistic / max(limit, found.chance)
        ranked.append((beyond, found, {"trait": name, "statistic": statistic, **shown}))
    ranked.sort(key=lambda one: -one[0])
    items = [item for *_, item in ranked]
    named = ", ".join(
        f"{item['trait']} {item['statistic']:.2f}" for item in items[:MOST_TOLD] if ranked[0][1]
    )
    return ranked[0][1], items, named


def _judged(
    kind: Kind, found: Index | None, items: list[dict[str, Any]], named: str, limit: float
) -> Shift:
    if found is None:
        return _untold(State.TOO_FEW, "too few held-out images to compare with", items)
    watch, alarm = max(WATCH * limit, found.chance), max(limit, found.chance)
    told = f"{kind} have shifted by {found.statistic:.2f}"
    if found.statistic >= alarm:
        state, why = State.ALARM, f"{told}, an alarm from {alarm:.2f}: {named}"
    elif found.statistic >= watch:
        state, why = State.WATCH, f"{told}, worth a look from {watch:.2f}: {named}"
    else:
        state, why = State.OK, f"{told}, less than {watch:.2f}"
    return Shift(
        state=state, statistic=found.statistic, watch=watch, alarm=alarm, why=why, items=items
    )


def _untold(state: State, why: str, items: list[dict[str, Any]]) -> Shift:
    return Shift(state=state, statistic=None, watch=None, alarm=None, why=why, items=items)


def _shares(counts: Sequence[int]) -> list[float]:
    size = max(1, sum(counts))
    return [number / size for number in counts]


def _parts(before: Counts, after: Counts) -> Counts:
    """What each bin adds to the index. Half an image more everywhere, so that no bin is empty."""
    p = (before + 0.5) / (before.sum() + 0.5 * len(before))
    q = (after + 0.5) / (after.sum() + 0.5 * len(after))
    parts: Counts = (q - p) * np.log(q / p)
    return parts


def _grouped(before: Counts, after: Counts) -> tuple[Counts, Counts]:
    """The same counts, the rarest bins together until each may expect `FEW`, here and there.

    By what the two have together: where nothing has shifted, that says nothing of how it is shared
    between them. Bins chosen by one of them alone would lie low there by choice.
    """
    both = before + after
    smaller = min(before.sum(), after.sum())
    if not smaller:
        return np.zeros(0), np.zeros(0)
    least = FEW * both.sum() / smaller
    order = np.argsort(both, kind="stable")
    groups, number, held = [], 0, 0.0
    for more in both[order]:
        if held >= least:
            number, held = number + 1, 0.0
        groups.append(number)
        held += more
    if held < least:  # the last joins the one before
        groups = [min(group, max(number - 1, 0)) for group in groups]
    first, second = (np.bincount(groups, side[order]).astype(float) for side in (before, after))
    return first, second


def _chi_square(freedom: int, level: float) -> float:
    """What χ² exceeds as often as `level`, by Wilson and Hilferty's cube."""
    part = 2 / (9 * freedom)
    normal = NormalDist().inv_cdf(1 - level)
    return float(freedom * (1 - part + normal * part**0.5) ** 3)
