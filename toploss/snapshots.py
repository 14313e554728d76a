"""The data as a run sees them: frozen, fingerprinted, and compared with what came since."""

import csv
import io
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, exists, func, select
from sqlalchemy import Row as Stored

from toploss import classes as class_table
from toploss import members, quarantine
from toploss.errors import BadData, NotFound
from toploss.home import Home
from toploss.members import Row as Row
from toploss.quarantine import TAKES_PART
from toploss.schema import (
    CHANGED,
    alias_moves,
    class_events,
    classes,
    runs,
    sample_events,
    samples,
    snapshots,
    versions,
)

log = logging.getLogger("toploss.run")

# A class needs as many training images to be learned at all.
FEWEST_TRAINING = 2
AT_ONCE = 10_000  # rows of the database in memory


_CHANGED = (
    select(func.count())
    .select_from(samples)
    .where(CHANGED, samples.c.split.in_(["train", "valid"]))
)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A frozen view of the active samples."""

    fingerprint: str  # SHA-256 of its rows: equal data, equal fingerprint, on every machine
    labels: tuple[str, ...]  # the model's classes, in the order of its outputs: sorted by name
    class_ids: tuple[int, ...]  # their ids, in the same order
    counts: dict[str, dict[str, int]]  # split → label → samples
    rows: tuple[Row, ...]  # sorted by id

    def of_split(self, split: str) -> list[Row]:
        return [row for row in self.rows if row.split == split]


def places(rows: Sequence[Row], labels: Sequence[str]) -> npt.NDArray[np.intp]:
    """The rows' labels as places in a network's output."""
    place = {label: number for number, label in enumerate(labels)}
    return np.array([place[row.label] for row in rows], np.intp)


def freeze(home: Home) -> Snapshot:
    """Freeze today's active samples, without the quarantined, and keep the snapshot. Equal data
    share one.

    A class that production never knew waits, with a warning, until it has enough training images:
    a beginning of it must not hold up the others.

    Raises:
        BadData: when they cannot be trained on.
    """
    with home.db.read() as connection:
        ids = {row.name: row.id for row in connection.execute(select(classes))}
        wait = _waiting(connection)
        rows = taking_part(connection)
    counts = _counted(rows)
    left_out = {label: _too_few(label, counts) for label in _scarce(counts) if ids[label] in wait}
    rows = tuple(row for row in rows if row.label not in left_out)
    counts = _counted(rows)
    _check(counts, left_out)
    for why in left_out.values():
        log.warning("left out until there are more: %s", why)
    labels = tuple(sorted({row.label for row in rows}))
    with tempfile.TemporaryDirectory(prefix="toploss-") as scratch:
        file = Path(scratch) / "snapshot.csv"
        snapshot = Snapshot(
            fingerprint=members.write(rows, file),
            labels=labels,
            class_ids=tuple(ids[label] for label in labels),
            counts=counts,
            rows=rows,
        )
        _keep(home, snapshot, file)
    return snapshot


def taking_part(connection: Connection) -> tuple[Row, ...]:
    """Today's active samples, without the quarantined, sorted by id."""
    found = connection.execute(
        select(samples.c.id, classes.c.name, samples.c.split, samples.c.group_id)
        .join(classes, classes.c.id == samples.c.class_id)
        .where(TAKES_PART)
        .order_by(samples.c.id)
        .execution_options(yield_per=AT_ONCE)
    )
    # Most samples are their group, and labels are few: one string for each.
    return tuple(
        Row(id=a, label=intern(b), split=intern(c), group=a if d == a else d)
        for a, b, c, d in found
    )


def load(home: Home, fingerprint: str) -> Snapshot:
    """Raises NotFound; Broken when its file is gone or damaged."""
    row = find(home, fingerprint)
    rows = tuple(members.scan(home, row.path, fingerprint))
    return Snapshot(
        fingerprint=fingerprint,
        labels=tuple(entry["name"] for entry in row.classes),
        class_ids=tuple(entry["id"] for entry in row.classes),
        counts=row.counts,
        rows=rows,
    )


def find(home: Home, fingerprint: str) -> Stored[Any]:
    """What the table has of a snapshot. Raises NotFound."""
    with home.db.read() as connection:
        query = select(snapshots).where(snapshots.c.fingerprint == fingerprint)
        row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"there is no snapshot {fingerprint!r}; `toploss runs show` names a run's")
    return row


def changed(connection: Connection) -> int:
    """Samples of train or valid that are new, relabelled or excluded since the last verdict."""
    return int(connection.execute(_CHANGED).scalar_one())


def waiting(connection: Connection) -> int:
    """Those among the changed that no run would learn, since their class waits: see `freeze`."""
    row = samples.c
    theirs = row.class_id.in_(_waiting(connection)) & row.settled_class_id.is_(None)
    return int(connection.execute(_CHANGED.where(theirs)).scalar_one())


def last_change(connection: Connection) -> float | None:
    """When the data last changed: a sample came in, was labelled anew or excluded, classes were
    merged. To confirm what stands, or to skip, is no change. None when nothing ever happened."""
    event = sample_events.c
    confirmed = (event.kind == "confirm") & (event.before["state"].as_string() == "active")
    query = select(event.at).where(event.kind.not_in(["conflict", "skip"]) & ~confirmed)
    sample = connection.execute(query.order_by(event.seq.desc()).limit(1)).scalar()
    merge = connection.execute(
        select(func.max(class_events.c.at)).where(class_events.c.kind == "merge")
    ).scalar()
    return max((float(at) for at in (sample, merge) if at is not None), default=None)


def overview(home: Home) -> dict[str, Any]:
    """The data set in numbers: per class and split, set aside, conflicts, changed."""
    with home.db.read() as connection:
        known = class_table.load(connection)
        by_class: dict[str, dict[str, int]] = {
            name: {"train": 0, "valid": 0, "test": 0} for name in known.open
        }
        # All of them from an index alone, less those set aside, which are found in the order of
        # the table: SQLite would look each of a million up in the order of that index.
        kinds = samples.c.class_id, samples.c.split
        for class_id, split, number in connection.execute(
            select(*kinds, func.count()).group_by(*kinds)
        ):
            by_class[known.names[class_id]][split] += number
        aside = {"excluded": 0, "quarantined": 0, "erased": 0}
        for class_id, split, state, number in connection.execute(
            select(*kinds, samples.c.state, func.count())
            .where(~TAKES_PART)
            .group_by(samples.c.class_id + 0, *kinds, samples.c.state)
        ):
            by_class[known.names[class_id]][split] -= number
            aside["quarantined" if state == "active" else state] += number
        conflicts = connection.execute(
            select(func.count())
            .select_from(sample_events)
            .where(sample_events.c.kind == "conflict")
        ).scalar_one()
        return {
            "samples": sum(sum(counts.values()) for counts in by_class.values()),
            **aside,
            "conflicts": conflicts,
            "changed": changed(connection),
            "splits": {
                split: sum(counts[split] for counts in by_class.values())
                for split in ("train", "valid", "test")
            },
            "classes": by_class,
        }


def export(home: Home) -> Iterator[str]:
    """Every sample as CSV, piece by piece: id, name, label, split, state, decision, revision."""
    last: int | None = 0
    yield _lines([["id", "name", "label", "split", "state", "decision", "revision"]])
    while last is not None:
        last, page = _exported(home, last)
        yield _lines(page)


def _exported(home: Home, after: int) -> tuple[int | None, list[list[Any]]]:
    """A page of them, and where the next one begins; None: it was the last."""
    query = select(samples).where(samples.c.seq > after).order_by(samples.c.seq).limit(AT_ONCE)
    with home.db.read() as connection:
        names = class_table.load(connection).names
        rows = connection.execute(query).all()
    told = [
        [
            row.id,
            row.name,
            names[row.class_id],
            row.split,
            quarantine.state(row),
            row.decision or "",
            row.revision,
        ]
        for row in rows
    ]
    return (rows[-1].seq if rows else None), told


def _lines(rows: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _waiting(connection: Connection) -> set[int]:
    """The classes with too few training images that production never knew, by their ids."""
    learned = select(versions.c.class_ids).where(
        versions.c.name.in_(select(alias_moves.c.version).distinct())
    )
    known = {class_id for ids in connection.execute(learned).scalars() for class_id in ids}
    this = samples.c.class_id == classes.c.id
    enough = (
        select(samples.c.seq)
        .where(this, samples.c.split == "train", TAKES_PART)
        .limit(1)
        .offset(FEWEST_TRAINING - 1)
    )
    some = select(samples.c.seq).where(this)
    scarce = select(classes.c.id).where(classes.c.id.not_in(known), some.exists(), ~enough.exists())
    return set(connection.execute(scarce).scalars())


def _check(counts: dict[str, dict[str, int]], left_out: dict[str, str]) -> None:
    labels = {label for by_label in counts.values() for label in by_label}
    short = "".join(f"; {why}" for why in left_out.values())
    if len(labels) < 2:
        raise BadData(
            f"{len(labels)} of {len(labels) + len(left_out)} classes have images enough, and a "
            f"classifier needs 2{short}; import more images with `toploss import FOLDER`"
        )
    for label in _scarce(counts):
        remedy = "import more images, or exclude those of the class"
        raise BadData(f"{_too_few(label, counts)}; {remedy}")
    for split in ("valid", "test"):
        if not counts[split]:
            raise BadData(
                f"no image is in the {split} split{short}; import more images, and where splits "
                f"come with the data (folders or a column) give some of them as {split}"
            )


def _scarce(counts: dict[str, dict[str, int]]) -> list[str]:
    """The classes with too few training images to be learned."""
    labels = {label for by_label in counts.values() for label in by_label}
    return sorted(label for label in labels if counts["train"].get(label, 0) < FEWEST_TRAINING)


def _too_few(label: str, counts: dict[str, dict[str, int]]) -> str:
    together = sum(by_label.get(label, 0) for by_label in counts.values())
    return (
        f"class {label!r} has {together} image{'s' * (together != 1)}, "
        f"{counts['train'].get(label, 0)} of them for training, and needs {FEWEST_TRAINING} there"
    )


def _counted(rows: tuple[Row, ...]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {"train": {}, "valid": {}, "test": {}}
    for row in rows:
        by_label = counts[row.split]
        by_label[row.label] = by_label.get(row.label, 0) + 1
    return {split: dict(sorted(by_label.items())) for split, by_label in counts.items()}


def _keep(home: Home, snapshot: Snapshot, file: Path) -> None:
    path = f"snapshots/{snapshot.fingerprint}.csv"
    home.blobs.put_file(path, file, known=True)
    pairs = zip(snapshot.class_ids, snapshot.labels, strict=True)
    named = [{"id": class_id, "name": name} for class_id, name in pairs]
    with home.db.write() as connection:
        same = snapshots.c.fingerprint == snapshot.fingerprint
        # What no run has is frozen now, not then: `toploss.retention` leaves it alone.
        of_a_run = exists().where(runs.c.fingerprint == snapshots.c.fingerprint)
        again = snapshots.update().where(same & ~of_a_run).values(at=time.time())
        connection.execute(again)
        there = connection.execute(select(snapshots.c.classes).where(same)).first()
        if there is None:
            connection.execute(
                snapshots.insert().values(
                    fingerprint=snapshot.fingerprint,
                    path=path,
                    classes=named,
                    counts=snapshot.counts,
                    at=time.time(),
                )
            )
        elif there.classes != named:  # a name has gone to another class since
            connection.execute(snapshots.update().where(same).values(classes=named))
    # It may have been pruned between the two; it was not frozen again then.
    home.blobs.put_file(path, file, known=True)
