"""Second opinions on decisions, given blind: by somebody else, or by the reviewer himself once he
may have forgotten. They change no label; where one contradicts a decision that stands, the two wait
for a decision as any other.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from toploss import classes, idempotency, questions, samples
from toploss.classes import Classes
from toploss.database import one_at_a_time
from toploss.decisions import Decided
from toploss.errors import Stale
from toploss.home import Home
from toploss.ids import new_id
from toploss.questions import Asked
from toploss.schema import claims, sample_events
from toploss.schema import opinions as table
from toploss.schema import samples as sample_table
from toploss.scoring import ACTIVE

LABEL, EXCLUDE, SKIP = "label", "exclude", "skip"


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """What a reviewer says of a sample whose label he does not see."""

    sample: str  # its id
    action: str  # label, exclude or skip
    revision: int  # the sample's, as the reviewer saw it
    label: str | None = None  # of the first: the class it belongs to
    key: str | None = None  # the caller's idempotency key; see `decisions.decide`
    seconds: float | None = None  # that the reviewer looked at it


@dataclass(frozen=True, kw_only=True)
class Said:
    """One side of a disagreement."""

    by: str
    action: str
    label: str | None  # None: it does not belong in the data
    at: float


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A decision that stands, and an opinion that contradicts it."""

    id: str  # the sample's
    label: str  # today's
    revision: int
    split: str
    first: Said
    second: Said
    seq: int  # the opinion's: what a next page starts after


@dataclass(frozen=True, kw_only=True)
class Page:
    items: Sequence[Disagreement]  # the oldest first
    total: int  # on all pages


def give(home: Home, queue: Asked, opinion: Opinion, *, reviewer: str) -> Decided:
    """Record an opinion on a decision that the reviewer is asked about.

    A skip takes the question from this reviewer alone.

    Raises:
        NotFound, UnknownLabel.
        Stale: the sample has changed since, or the reviewer is not asked, or no longer; nothing is
            recorded. What is `present` tells neither label nor decision.
    """
    told = (queue, opinion.sample, opinion.action, opinion.label, opinion.revision, reviewer)
    request = idempotency.fingerprint(*told)
    with home.db.write() as connection:
        one_at_a_time(connection)
        if given := idempotency.answered(connection, opinion.key, request):
            return Decided(**given)
        row = samples.find(connection, opinion.sample)
        if row.revision != opinion.revision:
            raise Stale(
                f"sample {row.id} is at revision {row.revision}, not at {opinion.revision}; "
                "look at it again",
                present={"id": row.id, "revision": row.revision},
            )
        question = questions.of(connection, home.settings, queue, row.seq, reviewer)
        if question is None:
            raise Stale(
                f"nobody asks you about sample {row.id}, or no longer; "
                f"GET /v1/blind?queue={queue} lists what you are asked about",
                present={"id": row.id, "revision": row.revision},
            )
        known = classes.load(connection)
        given_id = _write(connection, known, row, question, opinion, reviewer)
        decided = Decided(id=given_id, sample=row.id, revision=row.revision)
        idempotency.keep(connection, opinion.key, request, asdict(decided))
        return decided


def disagreements(home: Home, *, limit: int, after: int | None = None) -> Page:
    """Decisions that stand and are contradicted; another decision on the sample settles it."""
    query = (
        select(
            table,
            sample_events.c.kind,
            sample_events.c.at.label("decided_at"),
            sample_table.c.id.label("sample_id"),
            sample_table.c.revision,
            sample_table.c.split,
            sample_table.c.class_id.label("today"),
        )
        .join(sample_events, sample_events.c.id == table.c.decision_id)
        .join(sample_table, sample_table.c.seq == table.c.sample_seq)
        .where(table.c.disputed)
        .order_by(table.c.seq)
        .limit(limit)
    )
    if after is not None:
        query = query.where(table.c.seq > after)
    total = select(func.count()).select_from(table).where(table.c.disputed)
    with home.db.read() as connection:
        known = classes.load(connection)
        found = [_told(row, known) for row in connection.execute(query)]
        return Page(items=found, total=connection.execute(total).scalar_one())


def _write(
    connection: Connection,
    known: Classes,
    row: Row[Any],
    question: Row[Any],
    opinion: Opinion,
    reviewer: str,
) -> str:
    """Returns the opinion's id."""
    class_id = None if opinion.label is None else known.id_of(opinion.label)
    first_class_id = row.class_id if row.state == ACTIVE else None
    given_id = new_id()
    connection.execute(
        table.insert().values(
            id=given_id,
            queue=question.queue,
            sample_seq=row.seq,
            decision_id=question.decision_id,
            first_actor=question.actor,
            first_class_id=first_class_id,
            actor=reviewer,
            action=opinion.action,
            class_id=class_id,
            seconds=opinion.seconds,
            at=time.time(),
            disputed=opinion.action != SKIP and class_id != first_class_id,
        )
    )
    if opinion.action != SKIP or question.queue == Asked.AGAIN:  # else another one may say
        questions.close(connection, question)
    connection.execute(claims.delete().where(claims.c.sample_seq == row.seq))
    return given_id


def _told(row: Row[Any], known: Classes) -> Disagreement:
    first = None if row.first_class_id is None else known.names[row.first_class_id]
    second = None if row.class_id is None else known.names[row.class_id]
    return Disagreement(
        id=row.sample_id,
        label=known.names[row.today],
        revision=row.revision,
        split=row.split,
        first=Said(by=row.first_actor, action=row.kind, label=first, at=row.decided_at),
        second=Said(by=row.actor, action=row.action, label=second, at=row.at),
        seq=row.seq,
    )
