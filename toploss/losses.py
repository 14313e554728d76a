"""The review list: what the model was most wrong about, held out, the most suspicious first.

Pages are read from an index, by where the page before has ended: a page of a million samples costs
what one of a thousand costs. How many there are is counted as they change (`toploss.tally`).
"""

import heapq
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, Select, Subquery, and_, func, or_, select

from toploss import classes, models, orders, scoring, tally
from toploss.classes import Classes
from toploss.database import in_order
from toploss.figures import Listed
from toploss.home import Home
from toploss.orders import Order
from toploss.schema import samples, scores, scorings, tallies, versions
from toploss.scoring import COLUMNS, Source
from toploss.space import Space

ReviewState = Literal["pending", "decided", "all"]

# Up to so many samples that fit a filter are fetched and sorted; more are met soon enough by
# walking down the whole list. (Of a million: 5 ms each way.)
FEW = 2_000
LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which samples of the list."""

    label: str | None = None  # today's
    predicted: str | None = None
    split: str | None = None  # train or valid; None: both
    state: ReviewState = "pending"
    text: str | None = None  # what the file's name begins with, or the id with six digits


@dataclass(frozen=True, kw_only=True)
class Item:
    """A sample in the review list."""

    id: str
    name: str  # of the file, as it came
    rank: int  # place in the list that was asked for, from 1
    label: str  # today's
    predicted: str
    confidence: float  # probability of the predicted class
    loss: float  # −log probability of today's label in nats; higher is more suspicious
    score: float  # what the list is ordered by, highest first
    source: Source  # who scored it
    fold: int | None
    held_out: bool  # always: the model that gave the loss did not learn from the sample
    split: str
    state: str  # pending, decided
    decision: str | None  # the one that stands
    returned: bool  # decided once; since then the evidence against that has grown
    revision: int
    seq: int  # order of arrival; of equal scores the newest comes first

    def as_json(self) -> dict[str, Any]:
        shown = asdict(self)
        del shown["seq"]
        return shown


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a page of the list begins: after this item."""

    score: float
    seq: int
    rank: int


@dataclass(frozen=True, kw_only=True)
class Page:
    """A part of the list."""

    items: tuple[Item, ...]
    total: int | None  # samples of the whole list; None: too many begin like the text to be counted
    version: str | None  # whose losses these are; None: there are none
    note: str | None = None  # why there are none of the version that stands, and the remedy


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What was given as one class and predicted as another."""

    label: str
    predicted: str
    samples: int


def top(
    home: Home,
    which: Filter | None = None,
    *,
    order: Order = Order.LOSS,
    limit: int = 50,
    after: Place | None = None,
) -> Page:
    """A page of the list of production's version, else of the newest.

    Raises:
        UnknownLabel: the filter names no class.
    """
    which = which or Filter()
    with home.db.read() as connection:
        known = classes.load(connection)
        version, row = scoring_now(connection)
        wanted = _Wanted.of(which, known)
        if row is None:
            return Page(items=(), total=0, version=None, note=_why_none(connection, version))
        total = _total(connection, row.id, wanted)
        if total == 0:
            return Page(items=(), total=0, version=version)
        found = _places(connection, row.id, wanted, COLUMNS[order], total, limit, after)
        first = (after.rank if after else 0) + 1
        items = _items(connection, row.id, [seq for _, seq in found], known, order, first)
        return Page(items=items, total=total, version=version)


def pairs(home: Home, which: Filter | None = None, *, limit: int = 100) -> list[Pair]:
    """Given and predicted classes that differ, with how many samples are so, most first.

    Raises:
        UnknownLabel: the filter names no class.
    """
    with home.db.read() as connection:
        known = classes.load(connection)
        wanted = _Wanted.of(which or Filter(), known)
        _, row = scoring_now(connection)
        if row is None:
            return []
        apart = tallies.c.class_id != tallies.c.predicted_class_id
        found = tally.pairs(connection, wanted.counted(row.id) & apart, limit)
    named: Counter[tuple[str, str]] = Counter()  # a merged class may stand beside the one it joined
    for pair in found:
        label, predicted = known.names[pair.class_id], known.names[pair.predicted_class_id]
        named[label, predicted] += pair.samples * (label != predicted)
    return [Pair(label=a, predicted=b, samples=n) for (a, b), n in named.most_common() if n]


def _why_none(connection: Connection, version: str | None) -> str | None:
    if version is None:
        return None
    told = select(scorings.c.id).where(scorings.c.version == version)
    if connection.execute(told).first() is None:
        return f"version {version} was never asked about the samples; train to have a list again"
    return (
        f"the losses of version {version} were removed when newer versions had theirs; "
        "train to have a list again"
    )


def scoring_version(connection: Connection) -> str | None:
    """The version whose losses are reviewed: production's, else the newest."""
    standing = models.standing(connection)
    if standing is not None:
        return standing.version
    newest = connection.execute(
        select(versions.c.name).order_by(versions.c.created_at.desc()).limit(1)
    ).scalar()
    return None if newest is None else str(newest)


def scoring_now(connection: Connection) -> tuple[str | None, Row[Any] | None]:
    """The version whose losses are reviewed, and what it says of the pool, if it was asked."""
    version = scoring_version(connection)
    return version, None if version is None else scoring.scoring_of(connection, version)


def score_of(connection: Connection, sample_seq: int) -> tuple[str | None, Row[Any] | None]:
    """The version whose list it is, and its row of a sample that is in the list."""
    version, scored = scoring_now(connection)
    if scored is None:
        return version, None
    where = (scores.c.scoring == scored.id) & (scores.c.sample_seq == sample_seq)
    row = connection.execute(select(scores).where(where, scores.c.listed != Listed.OUT)).first()
    return version, row


def seen(
    connection: Connection, sample_seq: int, class_id: int, known: Classes, order: Order
) -> dict[str, Any] | None:
    """What the list showed of a sample when it was decided, for the trail; None when it did not.

    Args:
        class_id: what it is decided to be; `loss_after` is the loss under that label, where the
            version knows it.
    """
    version, row = score_of(connection, sample_seq)
    if version is None or row is None:
        return None
    told = {
        "version": version,
        "loss": row.loss,
        "predicted": known.names[row.predicted_class_id],
        "confidence": row.confidence,
        "order": order,
        "score": getattr(row, COLUMNS[order].name),
    }
    space = Space.of(connection, version)
    if class_id in space.place:
        shares = space.merged(np.frombuffer(row.probabilities, "<f4")[None])
        told["loss_after"] = float(orders.loss(shares, np.array([space.place[class_id]]))[0])
    return told


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """A filter in the words of the tables."""

    listed: tuple[int, ...]
    class_id: int | None
    predicted_class_id: int | None
    split: str | None
    text: str | None

    @classmethod
    def of(cls, which: Filter, known: Classes) -> "_Wanted":
        listed = {
            "pending": (Listed.PENDING,),
            "decided": (Listed.DECIDED,),
            "all": (Listed.PENDING, Listed.DECIDED),
        }
        return cls(
            listed=tuple(map(int, listed[which.state])),
            class_id=None if which.label is None else known.id_of(which.label),
            predicted_class_id=None if which.predicted is None else known.id_of(which.predicted),
            split=which.split,
            text=which.text or None,
        )

    def counted(self, scoring_id: int) -> ColumnElement[bool]:
        """The cells of the tally that fit; the text is not among what is tallied."""
        this = tallies.c.scoring == scoring_id, tallies.c.listed.in_(self.listed)
        return and_(*this, *(tallies.c[name] == value for name, value in self.kinds().items()))

    def kinds(self) -> dict[str, Any]:
        """By column, what it has to be."""
        kinds = {name: getattr(self, name) for name in ("class_id", "predicted_class_id", "split")}
        return {name: value for name, value in kinds.items() if value is not None}

    def named(self) -> ColumnElement[bool]:
        """Samples whose name or id begins with the text."""
        assert self.text is not None
        last = self.text + LAST_CHARACTER
        beginnings = [and_(samples.c.name >= self.text, samples.c.name <= last)]
        if re.fullmatch("[0-9a-f]{6,64}", self.text):
            beginnings.append(samples.c.id.between(self.text, self.text + "g"))
        return or_(*beginnings)


def _total(connection: Connection, scoring_id: int, wanted: _Wanted) -> int | None:
    if wanted.text is None:
        return tally.total(connection, wanted.counted(scoring_id))
    if _many_named(connection, wanted):
        return None
    sums = connection.dialect.name == "sqlite"
    found = (_few(scoring_id, wanted, scores.c.loss + 0, listed, sums) for listed in wanted.listed)
    return sum(_count(connection, query.subquery()) for query in found)


def _many_named(connection: Connection, wanted: _Wanted) -> bool:
    some = select(samples.c.seq).where(wanted.named()).limit(FEW + 1).subquery()
    return _count(connection, some) > FEW


def _count(connection: Connection, rows: Subquery) -> int:
    return int(connection.execute(select(func.count()).select_from(rows)).scalar_one())


def _places(
    connection: Connection,
    scoring_id: int,
    wanted: _Wanted,
    column: ColumnElement[float],
    total: int | None,
    limit: int,
    after: Place | None,
) -> list[tuple[float, int]]:
    """Score and sequence number of a page's samples, in order."""
    few = total is not None and total <= FEW
    narrow = wanted.text or wanted.kinds().keys() - {"split"}
    sums = connection.dialect.name == "sqlite"
    streams = []
    for listed in wanted.listed:  # each lies in order in the index; both together do not
        if few and narrow:
            value = column + 0  # in no index: what fits is fetched by what it fits, and sorted
            query = _few(scoring_id, wanted, value, listed, sums)
        else:
            value = column
            query = _walk(scoring_id, wanted, value, listed, sums)
        if after is not None:
            further = or_(value < after.score, scores.c.sample_seq < after.seq)
            query = query.where(value <= after.score, further)
        query = query.order_by(value.desc(), scores.c.sample_seq.desc()).limit(limit)
        with in_order(connection) if value is column else nullcontext():
            streams.append([(row.score, row.sample_seq) for row in connection.execute(query)])
    merged = heapq.merge(*streams, reverse=True)
    return list(islice(merged, limit))


def _walk(
    scoring_id: int, wanted: _Wanted, value: ColumnElement[float], listed: int, sums: bool
) -> Select[tuple[float, int]]:
    """Down the index of the order. With `sums`, columns that shall lead to no index are written as
    such, for SQLite, which knows nothing of how many there are."""
    query = select(value.label("score"), scores.c.sample_seq).where(
        scores.c.scoring == scoring_id, scores.c.listed == listed
    )
    kinds = wanted.kinds()
    if (split := kinds.pop("split", None)) is not None:
        query = query.where(scores.c.split == split)
    for name, class_id in kinds.items():
        column = scores.c[name] + 0 if sums else scores.c[name]
        query = query.where(column == class_id)
    if wanted.text is not None:
        this = samples.c.seq == scores.c.sample_seq
        query = query.where(select(samples.c.seq).where(this, wanted.named()).exists())
    return query


def _few(
    scoring_id: int, wanted: _Wanted, value: ColumnElement[float], listed: int, sums: bool
) -> Select[tuple[float, int]]:
    """By name, or by the index of the classes; `sums` as in `_walk`."""
    query = select(value.label("score"), scores.c.sample_seq)
    wants = {"scoring": scoring_id, "listed": listed, **wanted.kinds()}
    hidden = {"scoring"}
    if wanted.text is not None:
        named = select(samples.c.seq).where(wanted.named())
        query = query.where(scores.c.sample_seq.in_(named))
        hidden = {"scoring", "listed", "class_id", "predicted_class_id"}
    for name, wish in wants.items():
        column = scores.c[name] + 0 if name in hidden and sums else scores.c[name]
        query = query.where(column == wish)
    return query


def _items(
    connection: Connection,
    scoring_id: int,
    seqs: Sequence[int],
    known: Classes,
    order: Order,
    first: int,
) -> tuple[Item, ...]:
    query = (
        select(scores, samples)
        .join(samples, samples.c.seq == scores.c.sample_seq)
        .where(scores.c.scoring == scoring_id, scores.c.sample_seq.in_(seqs))
    )
    rows = {row.sample_seq: row for row in connection.execute(query)}
    return tuple(_item(rows[seq], known, order, rank) for rank, seq in enumerate(seqs, start=first))


def _item(row: Row[Any], known: Classes, order: Order, rank: int) -> Item:
    return Item(
        id=row.id,
        name=row.name,
        rank=rank,
        label=known.names[row.class_id],
        predicted=known.names[row.predicted_class_id],
        confidence=row.confidence,
        loss=row.loss,
        score=getattr(row, COLUMNS[order].name),
        source=Source(row.source),
        fold=row.fold,
        held_out=True,
        split=row.split,
        state="pending" if row.listed == Listed.PENDING else "decided",
        decision=row.decision,
        returned=row.returned,
        revision=row.revision,
        seq=row.seq,
    )
