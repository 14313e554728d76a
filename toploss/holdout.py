"""The holdout's own review: which samples of `test` are looked at, blind, and what came of it.

`test` is never listed by its losses: who corrects it by what a model finds favours that model. Here
a reviewer is shown a random slice of it, and the samples on which production and a candidate
differ, mixed with as many on which they agree. The order is a hash's, so that nobody can tell which
is which; and he sees neither the label nor what was predicted.
"""

import hashlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    TextClause,
    bindparam,
    func,
    or_,
    select,
    union,
)

from toploss.intervals import Interval, wilson
from toploss.schema import ASKED, LEFT, REVIEWED
from toploss.schema import holdout_samples as table

LOTS = 2**31  # both hashes are below it
# So few of a queue are fetched and sorted; more are met soon enough by walking down the order.
FEW = 2_000
Where = ColumnElement[bool] | TextClause
CORRECTED = ("relabel", "exclude")
JUDGED = ("confirm", *CORRECTED)  # a skip says nothing of the label


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The part of the holdout that was drawn at random: it speaks for the whole."""

    share: float  # of the holdout, that is asked for
    samples: int
    reviewed: int
    skipped: int  # of those
    corrected: int  # of those
    wrong: float | None  # share of the labels; none: nothing was judged
    interval: Interval | None  # its 95 %, Wilson's


@dataclass(frozen=True, kw_only=True)
class Figures:
    """How far the holdout was looked at."""

    samples: int
    reviewed: int
    corrected: int  # of those: labelled anew, or excluded
    left: int  # in the queue
    random_slice: Slice


def add(connection: Connection, sample_seq: int, sample_id: str, seed: int) -> None:
    """A sample of test came in."""
    connection.execute(
        table.insert().values(
            sample_seq=sample_seq,
            place=_hash("place", seed, sample_id),
            lot=_hash("lot", seed, sample_id),
            asked=False,
        )
    )


def remove(connection: Connection, sample_seq: int) -> None:
    """A sample of test was erased."""
    connection.execute(table.delete().where(table.c.sample_seq == sample_seq))


def waiting(connection: Connection, share: float) -> Select[tuple[int, int]]:
    """What is left to look at: `place` in the queue and `sample_seq`, in no order.

    Args:
        share: of the holdout, that the random slice has.
    """
    query = select(table.c.place, table.c.sample_seq)
    if left(connection, share) > FEW:
        return query.where(LEFT, or_(_sliced(share), table.c.asked))
    asked = select(table.c.sample_seq).where(ASKED)
    sliced = select(table.c.sample_seq).where(LEFT, _sliced(share))
    return query.where(table.c.sample_seq.in_(union(sliced, asked)))


def left(connection: Connection, share: float) -> int:
    """How many are left to look at."""
    sliced = _sliced(share)
    return _count(connection, LEFT, sliced) + _count(connection, ASKED, ~sliced)


def review(connection: Connection, sample_seq: int, decision_id: str, kind: str) -> None:
    """A blind decision was made. The first one counts until it is undone."""
    this = (table.c.sample_seq == sample_seq) & table.c.outcome.is_(None)
    connection.execute(table.update().where(this).values(outcome=kind, decision_id=decision_id))


def undo(connection: Connection, sample_seq: int, decision_id: str) -> None:
    """A decision was taken back; if it was the blind one, the sample waits again."""
    this = (table.c.sample_seq == sample_seq) & (table.c.decision_id == decision_id)
    connection.execute(table.update().where(this).values(outcome=None, decision_id=None))


def ask(connection: Connection, differing: Collection[int], agreeing: Collection[int]) -> None:
    """Put samples into the queue on which two versions differ, in the place of those of before, and
    as many on which they agree: drawn by lot among those that nobody has looked at.

    Args:
        differing, agreeing: sequence numbers.
    """
    connection.execute(table.update().where(table.c.asked).values(asked=False))
    query = select(table.c.sample_seq, table.c.lot).where(table.c.outcome.is_(None))
    lots = {row.sample_seq: row.lot for row in connection.execute(query)}
    wanted = [seq for seq in differing if seq in lots]
    others = sorted((seq for seq in agreeing if seq in lots), key=lots.__getitem__, reverse=True)
    # The highest lots: the lowest are the random slice's.
    rows = [{"at": seq} for seq in [*wanted, *others[: len(wanted)]]]
    if rows:
        this = table.c.sample_seq == bindparam("at")
        connection.execute(table.update().where(this).values(asked=True), rows)


def figures(connection: Connection, share: float) -> Figures:
    """
    Args:
        share: of the holdout, that the random slice has.
    """
    whole, part = _outcomes(connection), _outcomes(connection, _sliced(share))
    corrected = sum(part[kind] for kind in CORRECTED)
    judged = sum(part[kind] for kind in JUDGED)
    return Figures(
        samples=_count(connection),
        reviewed=whole.total(),
        corrected=sum(whole[kind] for kind in CORRECTED),
        left=left(connection, share),
        random_slice=Slice(
            share=share,
            samples=_count(connection, LEFT, _sliced(share)) + part.total(),
            reviewed=part.total(),
            skipped=part["skip"],
            corrected=corrected,
            wrong=corrected / judged if judged else None,
            interval=wilson(corrected, judged) if judged else None,
        ),
    )


def _outcomes(connection: Connection, *where: Where) -> Counter[str]:
    kind = table.c.outcome
    query = select(kind, func.count().label("number")).where(REVIEWED, *where)
    return Counter({row.outcome: row.number for row in connection.execute(query.group_by(kind))})


def _count(connection: Connection, *where: Where) -> int:
    query = select(func.count()).select_from(table).where(*where)
    return int(connection.execute(query).scalar_one())


def _sliced(share: float) -> ColumnElement[bool]:
    return table.c.lot <= round(share * LOTS) - 1  # so that the number is a lot itself


def _hash(what: str, seed: int, sample_id: str) -> int:
    digest = hashlib.sha256(f"holdout {what}:{seed}:{sample_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
