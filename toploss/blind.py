"""What reviewers look at blind: the image alone, without label, prediction, or why it is there."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, func, select

from toploss import claims, decisions, holdout, opinions, questions, samples
from toploss.decisions import Decided, Decision
from toploss.errors import BadInput, NotFound, Stale, ToplossError
from toploss.events import Kind
from toploss.home import Home
from toploss.opinions import EXCLUDE, LABEL, SKIP, Opinion
from toploss.questions import Asked
from toploss.schema import claims as held
from toploss.schema import samples as table
from toploss.splits import Split

ACTIONS = (LABEL, EXCLUDE, SKIP)
LOOKED_AT = 50  # items, for the next that nobody holds


class Queue(StrEnum):
    HOLDOUT = "holdout"  # see `toploss.holdout`
    SECOND = Asked.SECOND  # see `toploss.questions`
    AGAIN = Asked.AGAIN


@dataclass(frozen=True, kw_only=True)
class Item:
    """All that is shown of a sample."""

    id: str
    revision: int
    width: int
    height: int
    place: int  # with `seq`, where a next page starts after
    seq: int


@dataclass(frozen=True, kw_only=True)
class Page:
    items: Sequence[Item]
    total: int  # on all pages, those that others hold included


def listed(
    home: Home, queue: Queue, *, reviewer: str, limit: int, after: tuple[int, int] | None = None
) -> Page:
    """What a reviewer is asked, less what others look at just now.

    Args:
        after: place and seq of the last item of the page before.
    """
    with home.db.read() as connection:
        waits = _waiting(connection, home, queue, reviewer)
        return Page(
            items=_items(connection, waits, reviewer, limit, after),
            total=_total(connection, home, queue, waits),
        )


def following(home: Home, queue: Queue, *, reviewer: str) -> Item | None:
    """The next item that nobody else holds; the reviewer has it from now on."""
    with home.db.read() as connection:
        waits = _waiting(connection, home, queue, reviewer)
        items = _items(connection, waits, reviewer, LOOKED_AT, None)
    taken = claims.take(home, items, holder=reviewer, number=1)
    return taken[0] if taken else None


def answer(home: Home, queue: Queue, opinion: Opinion, *, reviewer: str) -> Decided:
    """Record what a reviewer says. Of the holdout it is a decision as any other; of a decision it
    is an opinion, which changes no label.

    Raises:
        BadInput: no such action, or a label where none belongs or none where one does.
        UnknownLabel, NotFound.
        Stale: see `opinions.give`.
    """
    if opinion.action not in ACTIONS:
        raise BadInput(f"action {opinion.action!r} is none of {', '.join(ACTIONS)}; send one")
    if (opinion.action == LABEL) != (opinion.label is not None):
        raise BadInput(
            "the action label needs a `label`; send it"
            if opinion.label is None
            else f"{opinion.action} takes no label, {opinion.label!r} was sent; leave it out"
        )
    if queue is Queue.HOLDOUT:
        return _correct(home, opinion, reviewer)
    return opinions.give(home, Asked(queue), opinion, reviewer=reviewer)


def _correct(home: Home, opinion: Opinion, reviewer: str) -> Decided:
    with home.db.read() as connection:
        row = samples.find(connection, opinion.sample)
    if row.split != Split.TEST:  # which no sample ever leaves or joins
        raise NotFound(
            f"sample {row.id} is not in the queue of the holdout; "
            "GET /v1/blind?queue=holdout lists what is"
        )
    decision = Decision(
        sample=row.id,
        action=Kind.RELABEL if opinion.action == LABEL else opinion.action,
        label=opinion.label,
        revision=opinion.revision,
        key=opinion.key,
        seconds=opinion.seconds,
        blind=Queue.HOLDOUT,
    )
    (decided,) = decisions.decide_all(home, [decision], actor=reviewer)
    if isinstance(decided, Stale):
        present = {"id": row.id, "revision": decided.present["revision"]}  # and no label
        raise Stale(str(decided), present=present) from decided
    if isinstance(decided, ToplossError):
        raise decided
    return decided


def _waiting(connection: Connection, home: Home, queue: Queue, reviewer: str) -> Select[Any]:
    if queue is Queue.HOLDOUT:
        return holdout.waiting(connection, home.settings.holdout_slice)
    return questions.waiting(connection, home.settings, Asked(queue), reviewer)


def _total(connection: Connection, home: Home, queue: Queue, waits: Select[Any]) -> int:
    if queue is Queue.HOLDOUT:
        return holdout.left(connection, home.settings.holdout_slice)
    return int(connection.execute(select(func.count()).select_from(waits.subquery())).scalar_one())


def _items(
    connection: Connection,
    waits: Select[Any],
    reviewer: str,
    limit: int,
    after: tuple[int, int] | None,
) -> list[Item]:
    place, seq = waits.selected_columns
    others = select(held.c.sample_seq).where(
        held.c.sample_seq == seq, held.c.holder != reviewer, held.c.until >= time.time()
    )
    query = waits.where(~others.exists()).order_by(place, seq).limit(limit)
    if after is not None:
        query = query.where(place >= after[0], (place > after[0]) | (seq > after[1]))
    places = {row.sample_seq: row.place for row in connection.execute(query)}
    found = connection.execute(select(table).where(table.c.seq.in_(places)))
    items = [
        Item(
            id=row.id,
            revision=row.revision,
            width=row.width,
            height=row.height,
            place=places[row.seq],
            seq=row.seq,
        )
        for row in found
    ]
    return sorted(items, key=lambda item: (item.place, item.seq))
