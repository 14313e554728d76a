"""Which decisions somebody is asked about again, without being told what was decided.

The marker is written with the decision, and goes when another decision stands on the sample or the
opinion was given (`toploss.opinions`): nothing is ever searched for.
"""

import hashlib
import time
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, or_, select

from toploss.schema import DECIDED, PASSED, asked_opinions, opinions, sample_events
from toploss.settings import Settings
from toploss.times import DAY_S


class Asked(StrEnum):
    """Who is asked."""

    SECOND = "second"  # anybody but who decided
    AGAIN = "again"  # who decided, once it may be forgotten


def ask(
    connection: Connection, settings: Settings, decision_id: str, sample_seq: int, actor: str
) -> None:
    """Choose by the decision's id whether somebody is asked. Of a sample there are opinions on one
    decision: what settles a disagreement is not asked about in its turn."""
    shares = {Asked.SECOND: settings.second_opinion, Asked.AGAIN: settings.review_again}
    chosen = [queue for queue, share in shares.items() if drawn(queue, decision_id) < share]
    told = opinions.c.sample_seq == sample_seq
    if not chosen or connection.execute(select(opinions.c.seq).where(told).limit(1)).first():
        return
    this = sample_events.c.id == decision_id
    row = {
        "event_seq": connection.execute(select(sample_events.c.seq).where(this)).scalar_one(),
        "sample_seq": sample_seq,
        "decision_id": decision_id,
        "actor": actor,
        "at": time.time(),
    }
    connection.execute(asked_opinions.insert(), [{**row, "queue": queue} for queue in chosen])


def follow(connection: Connection, sample_seq: int, decision_id: str | None) -> None:
    """Another decision stands on the sample, or none: nobody is asked about the one before, and
    what contradicts one that does not stand is no disagreement."""
    connection.execute(asked_opinions.delete().where(asked_opinions.c.sample_seq == sample_seq))
    stands = and_(opinions.c.decision_id == decision_id, contradicts())
    connection.execute(
        opinions.update().where(opinions.c.sample_seq == sample_seq).values(disputed=stands)
    )


def merge(connection: Connection, gone: int, kept: int) -> None:
    """Two classes have become one: so have the opinions that named them."""
    for column in (opinions.c.first_class_id, opinions.c.class_id):
        connection.execute(opinions.update().where(column == gone).values({column: kept}))
    connection.execute(
        opinions.update().where(opinions.c.disputed & ~contradicts()).values(disputed=False)
    )


def contradicts() -> ColumnElement[bool]:
    """The condition for an opinion to be another one than the decision."""
    differs = opinions.c.class_id.is_distinct_from(opinions.c.first_class_id)
    return and_(opinions.c.action != "skip", differs)


def waiting(
    connection: Connection, settings: Settings, queue: Asked, reviewer: str
) -> Select[tuple[int, int]]:
    """What a reviewer is asked: `place` in the queue and `sample_seq`, in no order."""
    asked = asked_opinions.c
    query = select(asked.event_seq.label("place"), asked.sample_seq).where(asked.queue == queue)
    if queue is Asked.SECOND:
        passed = select(opinions.c.sample_seq).where(PASSED, opinions.c.actor == reviewer)
        return query.where(asked.actor != reviewer, asked.sample_seq.not_in(passed))
    old = asked.at < time.time() - DAY_S
    since = _latest(connection, reviewer, settings.review_again_after)
    due = old if since is None else or_(asked.event_seq < since, old)
    return query.where(asked.actor == reviewer, due)


def of(
    connection: Connection, settings: Settings, queue: Asked, sample_seq: int, reviewer: str
) -> Row[Any] | None:
    """What a reviewer is asked about this sample: its row; None when he is not."""
    asked = asked_opinions.c
    this = (asked.sample_seq == sample_seq) & (asked.queue == queue)
    row = connection.execute(select(asked_opinions).where(this)).first()
    if row is None:
        return None
    waits = waiting(connection, settings, queue, reviewer).where(asked.event_seq == row.event_seq)
    return row if connection.execute(waits).first() else None


def close(connection: Connection, question: Row[Any]) -> None:
    """It was answered."""
    this = asked_opinions.c.event_seq == question.event_seq
    connection.execute(
        asked_opinions.delete().where(this, asked_opinions.c.queue == question.queue)
    )


def drawn(queue: Asked, decision_id: str) -> float:
    """A number from 0 up to 1, by hash."""
    digest = hashlib.sha256(f"{queue}:{decision_id}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _latest(connection: Connection, actor: str, nth: int) -> int | None:
    """The event that is the reviewer's nth latest, from 1; None when there are not so many."""
    query = (
        select(sample_events.c.seq)
        .where(DECIDED, sample_events.c.actor == actor)
        .order_by(sample_events.c.seq.desc())
        .offset(nth - 1)
        .limit(1)
    )
    return connection.execute(query).scalar()
