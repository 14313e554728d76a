"""What a version says of the pool, kept so that the review can list it: held-out probabilities, and
of each sample a number for every order. A label that changes is scored again at once.

`toploss.drafts` writes a new version's, `toploss.upkeep` mends and removes the old ones.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Row, bindparam, select

from toploss import figures, tally
from toploss.database import one_at_a_time
from toploss.figures import IN_A_QUERY, NEAR, UNKNOWN, Listed, chunks
from toploss.orders import Labels, Neighbours, Order, Probabilities
from toploss.schema import samples, scores, scorings
from toploss.space import Space
from toploss.tally import Cell

AT_ONCE = 5000  # rows in memory
ACTIVE, ERASED = "active", "erased"  # of `events.State`

COLUMNS = {
    Order.LOSS: scores.c.loss,
    Order.MARGIN: scores.c.margin,
    Order.COMBINED: scores.c.combined,
    Order.CONFIDENT_WRONG: scores.c.confident_wrong,
    Order.NEIGHBOURS: scores.c.neighbours,
}


class State(StrEnum):
    """Of what a version says of the pool."""

    DRAFT = "draft"  # being written; its version is not published
    READY = "ready"
    GONE = "gone"  # its scores are removed, or about to be; what is left says how far it had looked


class Standing(Protocol):
    """What is said of a sample, as `events.Standing` has it."""

    @property
    def class_id(self) -> int: ...
    @property
    def decision_id(self) -> str | None: ...
    @property
    def excluded(self) -> bool: ...


class Source(StrEnum):
    """Who scored a sample, and why that is held out."""

    FOLDS = "folds"  # a model of the other folds
    VALID = "valid"  # the version itself: the sample is of the validation split
    NEWCOMER = "newcomer"  # the version itself: the sample came after its snapshot


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """Held-out probabilities of samples, and which others they are near to."""

    ids: Sequence[str]
    probabilities: Probabilities  # float32, (n, classes of the version), rows sum to 1
    folds: Sequence[int] | None = None  # that held each out
    neighbours: Neighbours | None = None  # of each, among `known`
    known: Sequence[str] = ()  # ids


def add(connection: Connection, scoring: Row[Any], opinion: Opinion, *, up_to: int) -> int:
    """Record what a version says of samples that came after its snapshot; returns how many of them
    its list has now: none, when another process was faster.

    Args:
        scoring: of `scoring_of`.
        up_to: the newest sample that was looked at, whether it could be scored or not.
    """
    one_at_a_time(connection)
    now = scoring_of(connection, scoring.version)
    if now is None or now.newest != scoring.newest:
        return 0
    space = Space.of(connection, scoring.version)
    pool = Pool.of(connection, opinion.ids, space)
    near = Near.of(connection, opinion.known)
    written = Writer(
        scoring=scoring,
        space=space,
        opinion=opinion,
        pool=pool,
        near=near,
        source=Source.NEWCOMER,
    ).write(connection, slice(None))
    this = scorings.c.id == scoring.id
    connection.execute(scorings.update().where(this).values(newest=up_to))
    return written


def scoring_of(connection: Connection, version: str) -> Row[Any] | None:
    """The row of what a version says of the pool; None when it was never asked, or what it said is
    not wholly written yet or was removed."""
    this = (scorings.c.version == version) & (scorings.c.state == State.READY)
    return connection.execute(select(scorings).where(this)).first()


def follow(
    connection: Connection, sample: Row[Any], standing: Standing, *, relabelled: bool
) -> None:
    """A sample was decided, or a decision taken back: in every version's list it stands where it
    belongs, and under another label it is scored anew. Under a label that a version does not know
    it is in no list of that version, until its label is one of them again.

    Args:
        sample: its row, as it was before.
    """
    walked = select(scores, scorings.c.walked).join(scorings, scorings.c.id == scores.c.scoring)
    for row in connection.execute(walked.where(scores.c.sample_seq == sample.seq)).all():
        new: dict[str, Any] = {**row._asdict(), "class_id": standing.class_id}
        # One that a merge of classes has yet to come to has numbers of before.
        if relabelled or (row.walked is not None and row.sample_seq > row.walked):
            scoring = connection.execute(select(scorings).where(scorings.c.id == row.scoring)).one()
            space = Space.of_scoring(connection, scoring)
            if standing.class_id in space.place:
                scale = space.scale(scoring)
                new |= figures.again(connection, [row], space, scale, [standing.class_id])[0]
                figures.stand(connection, [new], [standing.decision_id], [standing.excluded])
            else:
                new |= {"listed": Listed.OUT, "returned": False}
        elif row.listed != Listed.OUT:
            figures.stand(connection, [new], [standing.decision_id], [standing.excluded])
        rewrite(connection, [(row, new)])


def forget(connection: Connection, sample_seq: int) -> None:
    """A sample is in no version's list any more."""
    this = scores.c.sample_seq == sample_seq
    rows = connection.execute(select(scores).where(this)).all()
    connection.execute(scores.delete().where(this))
    tally.shift(connection, Counter({_cell(row._asdict()): -1 for row in rows}))


def rewrite(connection: Connection, pairs: Iterable[tuple[Row[Any], dict[str, Any]]]) -> None:
    """Write what is new of scored samples, each given as it is and as it shall be; the tally hears
    of it."""
    counts: Counter[Cell] = Counter()
    changed: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for row, new in pairs:
        before = row._asdict()
        names = tuple(name for name in scores.c.keys() if new[name] != before[name])  # noqa: SIM118  # of columns
        if names:
            at = {"at_scoring": row.scoring, "at_sample": row.sample_seq}
            changed[names].append(at | {name: new[name] for name in names})
            counts[_cell(before)] -= 1
            counts[_cell(new)] += 1
    this = scores.c.scoring == bindparam("at_scoring")
    this &= scores.c.sample_seq == bindparam("at_sample")
    for names, values in changed.items():
        sets: dict[str, Any] = {name: bindparam(name) for name in names}
        connection.execute(scores.update().where(this).values(**sets), values)
    tally.shift(connection, counts)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Those of some samples that a version's list can have, in the order of their coming."""

    rows: npt.NDArray[np.intp]  # (m,), which of them
    seqs: npt.NDArray[np.int64]  # (m,)
    class_ids: npt.NDArray[np.int64]  # (m,), of their labels: classes of the space

    @classmethod
    def of(cls, connection: Connection, ids: Sequence[str], space: Space) -> "Pool":
        columns = samples.c.id, samples.c.seq, samples.c.class_id, samples.c.split, samples.c.state
        place = {sample_id: row for row, sample_id in enumerate(ids)}
        found = []
        for some in chunks(ids, IN_A_QUERY):
            query = select(*columns).where(samples.c.id.in_(some))
            found += [
                (row.seq, place[row.id], row.class_id)
                for row in connection.execute(query)
                if row.split != "test" and row.state != ERASED and row.class_id in space.place
            ]
        seqs, rows, class_ids = np.array(sorted(found), np.int64).reshape(-1, 3).T
        return cls(rows=rows.astype(np.intp), seqs=seqs, class_ids=class_ids)

    def places(self, space: Space) -> Labels:
        """(m,), of the labels among the space's classes."""
        return np.array([space.place[class_id] for class_id in self.class_ids.tolist()], np.intp)


@dataclass(frozen=True, kw_only=True)
class Near:
    """The samples that others may be near to: their numbers and labels; −1 where there is none of
    that id any more."""

    seqs: npt.NDArray[np.int64]
    class_ids: npt.NDArray[np.int64]

    @classmethod
    def of(cls, connection: Connection, ids: Sequence[str]) -> "Near":
        seqs, class_ids = np.full((2, len(ids)), -1, np.int64)
        start = 0
        for some in chunks(ids, IN_A_QUERY):
            query = select(samples.c.id, samples.c.seq, samples.c.class_id)
            known = {row.id: row for row in connection.execute(query.where(samples.c.id.in_(some)))}
            for number, sample_id in enumerate(some, start):
                if sample_id in known:
                    seqs[number] = known[sample_id].seq
                    class_ids[number] = known[sample_id].class_id
            start += len(some)
        return cls(seqs=seqs, class_ids=class_ids)


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes what is said of a pool, a part of it at a time: meanwhile labels may change."""

    scoring: Row[Any]
    space: Space  # of now
    opinion: Opinion
    pool: Pool
    near: Near
    source: Source

    def write(self, connection: Connection, part: slice) -> int:
        """A part of the pool, under the labels of now; returns how many samples it was."""
        today = self._today(connection, self.pool.seqs[part])
        there = np.array([seq in today for seq in self.pool.seqs[part].tolist()], bool)
        if not there.any():
            return 0
        rows, seqs = self.pool.rows[part][there], self.pool.seqs[part][there].tolist()
        given = self.opinion.probabilities[rows]
        class_ids = self._class_ids(self.pool.class_ids[part][there], [today[s] for s in seqs])
        by_neighbours, nearest = self._nearest(rows, class_ids)
        places = np.array([self.space.place[class_id] for class_id in class_ids], np.intp)
        scale, shares = self.space.scale(self.scoring), self.space.merged(given)
        numbers = figures.numbers(self.space, scale, shares, places, by_neighbours)
        folds = self.opinion.folds
        written: list[dict[str, Any]] = [
            {
                "scoring": self.scoring.id,
                "sample_seq": seq,
                "split": today[seq].split,
                "class_id": class_ids[row],
                **{column: values[row] for column, values in numbers.items()},
                "source": self.source,
                "fold": None if folds is None else int(folds[rows[row]]),
                "probabilities": given[row].astype("<f4").tobytes(),
                "nearest": nearest[row],
            }
            for row, seq in enumerate(seqs)
        ]
        _stand_today(connection, self.space, written, today)
        connection.execute(scores.insert(), written)
        tally.shift(connection, Counter(_cell(row) for row in written))
        return len(written)

    def _today(self, connection: Connection, seqs: npt.NDArray[np.int64]) -> dict[int, Row[Any]]:
        today: dict[int, Row[Any]] = {}
        for some in chunks(seqs.tolist(), IN_A_QUERY):
            query = select(samples).where(samples.c.seq.in_(some), samples.c.state != ERASED)
            today |= {row.seq: row for row in connection.execute(query)}
        return today

    def _class_ids(self, before: npt.NDArray[np.int64], today: Sequence[Row[Any]]) -> list[int]:
        """The labels of now; where the version does not know one, that of before."""
        merges, place = self.space.merges, self.space.place
        return [
            row.class_id if row.class_id in place else merges.get(was, was)
            for was, row in zip(before.tolist(), today, strict=True)
        ]

    def _nearest(
        self, rows: npt.NDArray[np.intp], class_ids: Sequence[int]
    ) -> tuple[npt.NDArray[np.float64], list[bytes | None]]:
        """What the neighbours say, and who they are."""
        if self.opinion.neighbours is None:
            return np.full(len(rows), UNKNOWN), [None] * len(rows)
        places = self.opinion.neighbours.places[rows]
        near = np.empty(places.shape, NEAR)
        near["seq"] = self.near.seqs[places]
        near["cosine"] = self.opinion.neighbours.cosines[rows]
        labels, which = np.unique(self.near.class_ids[places], return_inverse=True)
        merged = [self.space.merges.get(label, label) for label in labels.tolist()]
        today = np.array(merged)[which.reshape(places.shape)]
        same = today == np.array(class_ids)[:, None]
        return figures.disagreement(near["cosine"], same), [row.tobytes() for row in near]


def _stand_today(
    connection: Connection,
    space: Space,
    written: Sequence[dict[str, Any]],
    today: dict[int, Row[Any]],
) -> None:
    now = [today[row["sample_seq"]] for row in written]
    decided = [row.decision_id for row in now]
    figures.stand(connection, written, decided, [row.state != ACTIVE for row in now])
    for row, sample in zip(written, now, strict=True):
        if sample.class_id not in space.place:
            row |= {"class_id": sample.class_id, "listed": Listed.OUT, "returned": False}


def _cell(row: dict[str, Any]) -> Cell:
    listed = int(row["listed"])
    return row["scoring"], listed, row["split"], row["class_id"], row["predicted_class_id"]
