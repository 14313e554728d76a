"""The check of the data set: what is wrong, or may be, and what to do about it. It changes nothing
but the likenesses that it fills in."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, select

from toploss import classes, duplicates, likeness, preprocess, quarantine
from toploss.classes import Classes
from toploss.database import one_at_a_time
from toploss.duplicates import Near
from toploss.errors import ToplossError
from toploss.events import State
from toploss.home import Home
from toploss.likeness import Floats
from toploss.quarantine import Quarantined
from toploss.schema import sample_events, samples
from toploss.splits import Split

# The largest class over the smallest: from there on, to guess the large one pays.
IMBALANCE = 5.0
# Under so many a class is learned by heart, and its recall is known to no better than ±0.3 (the
# 95 % interval of Wilson at a recall of a half).
FEW = {Split.TRAIN: 20, Split.VALID: 8, Split.TEST: 8}
TINY = 16  # pixels of the shorter side
ODD_ASPECT = 2.0  # times the usual aspect ratio, or its inverse
SWALLOWED = 0.2  # share of a class in one group of near-duplicates
FEATURES_ALIKE = 0.95  # cosine of SqueezeNet's mean features; docs/data.md has the figures


Counts = dict[str, dict[str, int]]  # class → split → samples that take part


class Severity(StrEnum):
    ERROR = "error"  # makes figures wrong
    WARNING = "warning"  # probably hurts
    NOTE = "note"  # worth a look


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found."""

    kind: str
    severity: Severity
    words: str
    remedy: str
    samples: tuple[str, ...] = ()  # ids

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "samples": list(self.samples)}


@dataclass(frozen=True)
class _Pool:
    """The data set as one transaction sees it."""

    rows: list[Row[Any]]  # in order of arrival
    known: Classes
    conflicts: list[Row[Any]]  # events
    pairs: list[tuple[Row[Any], Near]]  # near-duplicates, the later one first

    @cached_property
    def by_seq(self) -> dict[int, Row[Any]]:
        return {row.seq: row for row in self.rows}

    @cached_property
    def by_id(self) -> dict[str, Row[Any]]:
        return {row.id: row for row in self.rows}

    def label(self, class_id: int) -> str:
        return repr(self.known.names[class_id])

    def taking_part(self) -> list[Row[Any]]:
        return [row for row in self.rows if quarantine.state(row) == "active"]

    def counts(self) -> Counts:
        found = Counter((self.known.names[row.class_id], row.split) for row in self.taking_part())
        return {name: {split: found[name, split] for split in Split} for name in self.known.open}


def check(home: Home) -> list[Finding]:
    """Everything that is found, the gravest first. Decodes every stored image: minutes for
    a hundred thousand."""
    duplicates.fill(home)
    with home.db.read() as connection:
        pool = _load(connection)
    found = [*_empty(pool), *_corrupt(home, pool.rows), *_conflicts(pool), *_near_duplicates(pool)]
    found += [*_leaks(pool), *_swallowed(pool), *by_counts(pool.counts()), *_odd_sizes(pool)]
    return _gravest_first(found)


def by_counts(by_class: Counts) -> list[Finding]:
    """What the numbers of samples alone tell, the gravest first: a part of `check` that costs
    nothing where they are known.

    Args:
        by_class: class → split → samples that take part, of every class that is open.
    """
    return _gravest_first([*_imbalance(by_class), *_too_few(by_class), *_alike_names(by_class)])


def set_leaks_aside(home: Home) -> list[Quarantined]:
    """Quarantine the training sample of every leaking pair: those of before 0.2.0, too."""
    duplicates.fill(home)
    put: dict[str, Quarantined] = {}
    with home.db.read() as connection:  # minutes, where there are many: no writer waits for it
        pool = _load(connection)
    for row, one in pool.pairs:
        if {quarantine.state(row), quarantine.state(pool.by_seq[one.seq])} == {"active"}:
            for entry in quarantine.leaking(row.id, Split(row.split), [one]):
                put.setdefault(entry.id, entry)
    with home.db.write() as connection:
        one_at_a_time(connection)
        quarantine.put(connection, put.values())
    return list(put.values())


def by_features(
    home: Home, sample_ids: Sequence[str], features: Floats, threshold: float = FEATURES_ALIKE
) -> list[Finding]:
    """Pairs across the splits that a network's body takes for one picture and the hash does not:
    mirrored, turned, or cropped by more than a few per cent. Proposals: no split changes.

    Args:
        features: float32, (n, d), of the samples in their order.
    """
    with home.db.read() as connection:
        pool = _load(connection, with_pairs=False)
    found = []
    for first, second, cosine in likeness.similar_features(features, threshold):
        one, other = (pool.by_id[sample_ids[at]] for at in (first, second))
        if one.group_id == other.group_id or one.split == other.split:
            continue
        found.append(
            Finding(
                kind="leak",
                severity=Severity.NOTE,
                words=f"{_named(one, pool)} and {_named(other, pool)} look alike to the network "
                f"(cosine {cosine:.3f}) and stand in {one.split} and {other.split}",
                remedy="look at both; if they are one picture, exclude the one in train",
                samples=(one.id, other.id),
            )
        )
    return found


def _load(connection: Connection, *, with_pairs: bool = True) -> _Pool:
    there = select(samples).where(samples.c.state != State.ERASED)
    return _Pool(
        rows=list(connection.execute(there.order_by(samples.c.seq)).all()),
        known=classes.load(connection),
        conflicts=list(
            connection.execute(select(sample_events).where(sample_events.c.kind == "conflict"))
        ),
        pairs=list(duplicates.pairs(connection)) if with_pairs else [],
    )


def _corrupt(home: Home, rows: list[Row[Any]]) -> Iterator[Finding]:
    def damage(row: Row[Any]) -> str | None:
        try:
            preprocess.verify(home.blobs.get_image(row.id), home.limits)
        except ToplossError as exc:
            return str(exc)
        return None

    with ThreadPoolExecutor(home.settings.thread_count) as pool:
        for row, reason in zip(rows, pool.map(damage, rows), strict=True):
            if reason:
                yield Finding(
                    kind="corrupt",
                    severity=Severity.ERROR,
                    words=f"{row.name}: {reason}",
                    remedy="restore the storage from a back-up, import the file again, or "
                    "exclude the sample",
                    samples=(row.id,),
                )


def _conflicts(pool: _Pool) -> Iterator[Finding]:
    """The same bytes came under two labels, and no reviewer has decided."""
    for event in pool.conflicts:
        row = pool.by_id[event.sample_id]
        given = pool.label(event.class_id)
        decided = row.decision is not None and row.decision != "skip"
        if decided or given == pool.label(row.class_id):
            continue
        name = (event.evidence or {}).get("name", "another file")
        yield Finding(
            kind="label-conflict",
            severity=Severity.ERROR,
            words=f"{row.name} and {name} are the same bytes, labelled "
            f"{pool.label(row.class_id)} (kept) and {given}",
            remedy="confirm or relabel the sample in the review",
            samples=(row.id,),
        )


def _near_duplicates(pool: _Pool) -> Iterator[Finding]:
    for row, one in pool.pairs:
        if row.class_id != one.class_id and row.state == one.state == "active":
            earlier = pool.by_seq[one.seq]
            yield Finding(
                kind="label-conflict",
                severity=Severity.WARNING,
                words=f"{_named(earlier, pool)} and {_named(row, pool)} show the same picture "
                f"under two labels (similarity {one.similarity:.3f})",
                remedy="relabel one of them in the review, or confirm both",
                samples=(earlier.id, row.id),
            )
    groups = [members for members in _groups(pool).values() if len(members) > 1]
    if groups:
        members = sum(map(len, groups))
        yield Finding(
            kind="near-duplicate",
            severity=Severity.NOTE,
            words=f"{members} samples are near-duplicates, in {len(groups)} groups, the largest "
            f"of {max(map(len, groups))}; each group stands in one split",
            remedy="nothing needs to be done",
            samples=tuple(row.id for group in groups for row in group),
        )


def _leaks(pool: _Pool) -> Iterator[Finding]:
    for row, one in pool.pairs:
        earlier = pool.by_seq[one.seq]
        states = {quarantine.state(row), quarantine.state(earlier)}
        if row.split == earlier.split or states != {"active"}:
            continue
        trained = Split.TRAIN in (row.split, earlier.split)
        yield Finding(
            kind="leak",
            severity=Severity.ERROR if trained else Severity.WARNING,
            words=f"{_named(earlier, pool)} in {earlier.split} and {_named(row, pool)} in "
            f"{row.split} show the same picture (similarity {one.similarity:.3f})",
            remedy="`toploss dataset check --quarantine` keeps the training one out of training"
            if trained
            else "exclude one of the two",
            samples=(earlier.id, row.id),
        )


def _swallowed(pool: _Pool) -> Iterator[Finding]:
    of_class = Counter(row.class_id for row in pool.taking_part())
    for members in _groups(pool).values():
        for class_id, number in Counter(row.class_id for row in members).items():
            if number > 1 and number >= SWALLOWED * of_class[class_id] and of_class[class_id] >= 10:
                yield Finding(
                    kind="near-duplicate",
                    severity=Severity.WARNING,
                    words=f"{number} of the {of_class[class_id]} samples of "
                    f"{pool.label(class_id)} are near-duplicates of each other, and all stand in "
                    f"{members[0].split}",
                    remedy="import pictures of the class that differ more",
                    samples=tuple(row.id for row in members if row.class_id == class_id),
                )


def _empty(pool: _Pool) -> Iterator[Finding]:
    if not pool.rows:
        yield Finding(
            kind="too-few",
            severity=Severity.ERROR,
            words="nothing has been imported yet",
            remedy="`toploss import FOLDER`",
        )


def _imbalance(by_class: Counts) -> Iterator[Finding]:
    # A class without samples is not yet begun: that is no imbalance.
    counts = +Counter({name: _together(of) for name, of in by_class.items()})
    if len(counts) < 2:
        return
    (large, most), (small, least) = counts.most_common(1)[0], counts.most_common()[-1]
    if most >= IMBALANCE * least:
        yield Finding(
            kind="imbalance",
            severity=Severity.WARNING,
            words=f"{large!r} has {most} samples, {small!r} {least}: "
            f"{most / least:.1f} times as many",
            remedy=f"import more of {small!r}, and judge by the recall of each class",
        )


def _too_few(by_class: Counts) -> Iterator[Finding]:
    for name, counts in by_class.items():
        short = [
            f"{counts[split]} in {split} ({fewest} wanted)"
            for split, fewest in FEW.items()
            if counts[split] < fewest
        ]
        if short:
            yield Finding(
                kind="too-few",
                severity=Severity.WARNING,
                words=f"{name!r} has {', '.join(short)}",
                remedy="import more of the class"
                + ("" if _together(counts) else ", or merge it away"),
            )


def _odd_sizes(pool: _Pool) -> Iterator[Finding]:
    rows = pool.taking_part()
    tiny = [row for row in rows if min(row.width, row.height) < TINY]
    if tiny:
        yield Finding(
            kind="odd-size",
            severity=Severity.NOTE,
            words=f"{len(tiny)} pictures have fewer than {TINY} pixels on their shorter side",
            remedy="look at them: icons and thumbnails show little",
            samples=tuple(row.id for row in tiny),
        )
    aspects = np.log([row.width / row.height for row in rows])
    away = np.abs(aspects - np.median(aspects)) if rows else aspects
    odd = [row for row, far in zip(rows, away, strict=True) if far > np.log(ODD_ASPECT)]
    if odd:
        usual = float(np.exp(np.median(aspects)))
        yield Finding(
            kind="odd-size",
            severity=Severity.NOTE,
            words=f"{len(odd)} pictures are more than {ODD_ASPECT:g} times as wide or as high as "
            f"is usual (width over height {usual:.2f}); the square squeezes them",
            remedy="look at them: panoramas, strips and screenshots may not belong",
            samples=tuple(row.id for row in odd),
        )


def _alike_names(names: Iterable[str]) -> Iterator[Finding]:
    alike = defaultdict(list)
    for name in names:
        alike[re.sub(r"[\s_-]+", "", name).casefold()].append(name)
    for same in alike.values():
        if len(same) > 1:
            yield Finding(
                kind="alike-names",
                severity=Severity.WARNING,
                words=f"the classes {', '.join(map(repr, same))} differ in case or spaces alone",
                remedy=f"`toploss classes merge '{same[0]}' into '{same[1]}'`, if they are one",
            )


def _together(counts: dict[str, int]) -> int:
    return sum(counts.values())


def _gravest_first(found: list[Finding]) -> list[Finding]:
    order = list(Severity)
    return sorted(found, key=lambda one: order.index(one.severity))


def _groups(pool: _Pool) -> dict[str, list[Row[Any]]]:
    groups = defaultdict(list)
    for row in pool.taking_part():
        groups[row.group_id].append(row)
    return groups


def _named(row: Row[Any], pool: _Pool) -> str:
    return f"{row.name} ({pool.known.names[row.class_id]})"
