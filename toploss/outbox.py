"""What is told to the outside: written in the transaction of what happened, so that nothing is lost
and nothing is told that did not happen; `training.postman` brings it.

A message is told at least once, under one id. A receiver gets its messages in their order; one that
it does not take for minutes lets the others pass.

Who is to be told, dispatchers say, each of its own receivers. A message is bound to those that are
known when it is written, and is left to a dispatcher that has the address.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, func, select, text, update

from toploss.blobs import sha256
from toploss.home import Home
from toploss.ids import new_id
from toploss.schema import facts, outbox

GIVEN_UP_S = 24 * 3600  # after what happened
KEPT_S = 30 * 24 * 3600  # what was given up is counted for so long
FIRST_S, LONGEST_S = 20.0, 3600.0  # between two attempts: doubled each time
PATIENT = 5  # attempts, some ten minutes, that the messages after it wait for
AT_ONCE = 1000
NAMED = "receiver "  # how a fact begins that says when a dispatcher last named a receiver
NAME_S = 60.0  # between two times that it does
KNOWN_S = 3600.0  # for so long after it a receiver is known: a dispatcher may be started anew
NOBODY = "no dispatcher that has its address (TOPLOSS_NOTIFY_URLS) has run since"

_NAME = text(
    "INSERT INTO facts (key, value) VALUES (:key, :value) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)


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
    """To be told if the caller's transaction is kept: to each receiver that is known. Where none
    is, the next dispatcher addresses it."""
    now = time.time()
    row = {"id": new_id(), "type": str(type), "data": data, "at": now, "attempts": 0}
    known: list[str | None] = [*_known(connection, now)]
    rows = [{**row, "next_at": now, "receiver": one} for one in known or [None]]
    connection.execute(outbox.insert(), rows)


def receiver(url: str) -> str:
    """How a receiver is known here: its address may be a secret."""
    return sha256(url.encode())[:16]


def address(home: Home, receivers: Iterable[str], *, now: float | None = None) -> int:
    """Say whom this dispatcher tells; put a message for each receiver in place of each that has
    none yet; give up those that are too old, whoever they are for. Returns how many it gave up."""
    now = time.time() if now is None else now
    waits, ours = outbox.c.failed_at.is_(None), set(receivers)
    new = waits & outbox.c.receiver.is_(None)
    late = waits & (outbox.c.at < now - GIVEN_UP_S)
    over = outbox.c.failed_at < now - KEPT_S
    with home.db.read() as connection:  # most times there is nothing, and no lock to be had for it
        unnamed = ours - set(_known(connection, now, within_s=NAME_S))
        some = select(outbox.c.seq).where(new | late | over)
        if not unnamed and connection.execute(some).first() is None:
            return 0
    with home.db.write() as connection:
        _name(connection, unnamed, now)
        known = _known(connection, now)
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
        connection.execute(delete(outbox).where(over))
        given_up = {"failed_at": now, "error": func.coalesce(outbox.c.error, NOBODY)}
        return int(connection.execute(update(outbox).where(late).values(given_up)).rowcount)


def due(home: Home, receivers: Iterable[str], *, now: float | None = None) -> list[Message]:
    """The next message whose time has come, of each of these receivers."""
    now = time.time() if now is None else now
    ours = outbox.c.failed_at.is_(None) & outbox.c.receiver.in_(list(receivers))
    query = select(outbox).where(ours)
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


def _known(connection: Connection, now: float, *, within_s: float = KNOWN_S) -> list[str]:
    """The receivers that a dispatcher has named lately."""
    rows = connection.execute(select(facts).where(facts.c.key.startswith(NAMED)))
    return [row.key.removeprefix(NAMED) for row in rows if float(row.value) > now - within_s]


def _name(connection: Connection, receivers: Iterable[str], now: float) -> None:
    for one in sorted(receivers):
        connection.execute(_NAME, {"key": f"{NAMED}{one}", "value": repr(now)})
    old = [f"{NAMED}{one}" for one in _known(connection, now, within_s=float("inf"))]
    lately = {f"{NAMED}{one}" for one in _known(connection, now)}
    connection.execute(delete(facts).where(facts.c.key.in_(sorted(set(old) - lately))))
