"""What is told to the outside: written in the transaction of what happened, so that nothing is lost
and nothing is told that did not happen; `training.postman` brings it.

A message is told at least once, under one id. A receiver gets its messages in their order; one that
it does not take for minutes lets the others pass.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from toploss.blobs import sha256
from toploss.home import Home
from toploss.ids import new_id
from toploss.schema import outbox

GIVEN_UP_S = 24 * 3600  # after what happened
KEPT_S = 30 * 24 * 3600  # what was given up is counted for so long
FIRST_S, LONGEST_S = 20.0, 3600.0  # between two attempts: doubled each time
PATIENT = 5  # attempts, some ten minutes, that the messages after it wait for
AT_ONCE = 1000


class Type(StrEnum):
    """What happened."""

    SUCCEEDED = "run.succeeded"
    FAILED = "run.failed"
    CANCELLED = "run.cancelled"
    PROMOTED = "version.promoted"
    REFUSED = "version.refused"  # by the gate
    ROLLED_BACK = "version.rolled_back"
    DRIFT = "drift.alarm"


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message for one receiver."""

    seq: int
    id: str
    receiver: str
    type: str
    data: dict[str, Any]  # run, version, reason, metrics, …
    at: float  # when it happened; seconds since 1970
    attempts: int


def put(connection: Connection, type: Type | str, data: dict[str, Any]) -> None:
    """To be told if the caller's transaction is kept."""
    now = time.time()
    row = {"id": new_id(), "type": str(type), "data": data, "at": now, "attempts": 0}
    connection.execute(outbox.insert().values(**row, next_at=now))


def receiver(url: str) -> str:
    """How a receiver is known here: its address may be a secret."""
    return sha256(url.encode())[:16]


def address(home: Home, receivers: Iterable[str], *, now: float | None = None) -> int:
    """A message for each receiver in place of each that has none yet; gives up those that are too
    old, and forgets those for receivers that there are no more. Returns how many it gave up."""
    now = time.time() if now is None else now
    waits, known = outbox.c.failed_at.is_(None), list(receivers)
    new = waits & outbox.c.receiver.is_(None)
    strange = outbox.c.receiver.is_not(None) & outbox.c.receiver.not_in(known)
    late = waits & (outbox.c.at < now - GIVEN_UP_S)
    over = outbox.c.failed_at < now - KEPT_S
    with home.db.read() as connection:  # most times there is nothing, and no lock to be had for it
        if (
            connection.execute(select(outbox.c.seq).where(new | strange | late | over)).first()
            is None
        ):
            return 0
    with home.db.write() as connection:
        rows = connection.execute(
            select(outbox).where(new).order_by(outbox.c.seq).limit(AT_ONCE).with_for_update()
        ).all()
        copies = [
            {key: value for key, value in row._asdict().items() if key != "seq"} | {"receiver": one}
            for row in rows
            for one in known
        ]
        if copies:
            connection.execute(outbox.insert(), copies)
        connection.execute(delete(outbox).where(outbox.c.seq.in_([row.seq for row in rows])))
        connection.execute(delete(outbox).where(strange | over))
        return int(connection.execute(update(outbox).where(late).values(failed_at=now)).rowcount)


def due(home: Home, *, now: float | None = None) -> list[Message]:
    """The next message of each receiver whose time has come."""
    now = time.time() if now is None else now
    query = select(outbox).where(outbox.c.failed_at.is_(None), outbox.c.receiver.is_not(None))
    with home.db.read() as connection:
        rows = connection.execute(query.order_by(outbox.c.seq).limit(AT_ONCE)).all()
    found: dict[str, Message] = {}
    held: set[str] = set()
    for row in rows:
        if row.receiver in found or row.receiver in held:
            continue
        if row.next_at <= now:
            told = {key: getattr(row, key) for key in Message.__dataclass_fields__}
            found[row.receiver] = Message(**told)
        elif row.attempts < PATIENT:
            held.add(row.receiver)  # those after it wait for it
    return list(found.values())


def take(home: Home, message: Message, *, now: float | None = None) -> bool:
    """Whether the next attempt at it is the caller's: of several dispatchers one has it. Whether it
    fails or is broken off, the one after it comes later and later."""
    now = time.time() if now is None else now
    wait = min(LONGEST_S, FIRST_S * 2**message.attempts)
    ours = (outbox.c.seq == message.seq) & (outbox.c.attempts == message.attempts)
    values = {"attempts": message.attempts + 1, "next_at": now + wait}
    with home.db.write() as connection:
        return bool(connection.execute(update(outbox).where(ours).values(values)).rowcount)


def told(home: Home, message: Message) -> None:
    """It has arrived."""
    with home.db.write() as connection:
        connection.execute(delete(outbox).where(outbox.c.seq == message.seq))


def not_told(home: Home, message: Message, error: str) -> None:
    """Why the attempt has failed, for who looks."""
    with home.db.write() as connection:
        this = outbox.c.seq == message.seq
        connection.execute(update(outbox).where(this).values(error=error[:500]))


def counts(home: Home) -> tuple[int, int]:
    """How many messages wait, and how many were given up in the last thirty days."""
    failed = outbox.c.failed_at.is_not(None)
    with home.db.read() as connection:
        query = select(failed, func.count()).group_by(failed)
        numbers = {bool(gone): int(number) for gone, number in connection.execute(query)}
    return numbers.get(False, 0), numbers.get(True, 0)
