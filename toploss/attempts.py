"""Attempts at runs: each lives as long as it says so, and ends once.

A run belongs to the attempt whose fence it carries. Everything an attempt writes is checked
against the fence in the same transaction, so that a trainer that was given up for lost and comes
back changes nothing.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from toploss import records, triggers
from toploss.database import clock
from toploss.errors import Fenced
from toploss.home import Home
from toploss.plan import Plan
from toploss.processes import surely_gone
from toploss.schema import runs
from toploss.states import ACTIVE, HEALS, Cause, RunState, delay_s

SILENT = "its process has fallen silent"


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right of one attempt to work on a run."""

    run: str
    fence: int


def active(home: Home) -> Lease | None:
    """The attempt that a dispatcher has launched and that has not ended."""
    query = select(runs.c.id, runs.c.fence).where(runs.c.state.in_(ACTIVE) & ~runs.c.foreground)
    with home.db.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else Lease(run=row.id, fence=row.fence)


def take_up(home: Home, lease: Lease, *, owner: str) -> Plan:
    """The launched trainer begins; returns its settings.

    Raises:
        Fenced: another attempt owns the run.
    """
    with home.db.write() as connection:
        row = owned(connection, lease)
        if row.state == RunState.LEASED:
            ours = held(home, connection, owner) | {"started_at": clock(connection)}
            records.go(connection, row, RunState.RUNNING, **ours)
        return Plan.from_json(row.plan)


def beat(home: Home, lease: Lease) -> bool:
    """Say that the attempt lives; returns whether the run was asked to stop.

    Raises:
        Fenced: another attempt owns the run, or it has ended.
    """
    with home.db.write() as connection:
        row = owned(connection, lease)
        records.update(connection, lease.run, lease_until=clock(connection) + home.settings.lease_s)
        return bool(row.cancel_asked)


def owned(connection: Connection, lease: Lease) -> Row[Any]:
    """The run's row, held until the end of a transaction that the lease must hold for. Raises
    Fenced."""
    # Held: on PostgreSQL somebody may be giving the attempt up just now.
    row = records.find(connection, lease.run, held=True)
    if not _is_of(row, lease):
        raise Fenced(
            f"attempt {lease.fence} at run {lease.run} is void: the run is {row.state} "
            f"in attempt {row.fence}"
        )
    return row


def holds(connection: Connection, lease: Lease) -> bool:
    """Whether the run is still this attempt's, as far as this transaction sees."""
    return _is_of(records.find(connection, lease.run), lease)


def note(home: Home, lease: Lease, **fields: Any) -> None:
    """Write down progress: stage, epoch, epochs, history, pace, finder, diagnosis, fingerprint,
    plan, log.

    Raises:
        Fenced.
    """
    with home.db.write() as connection:
        owned(connection, lease)
        if "pace" in fields:
            fields["pace_at"] = clock(connection)
        records.update(connection, lease.run, **fields)


def finish(
    connection: Connection,
    lease: Lease,
    state: RunState,
    *,
    error: str | None = None,
    **fields: Any,
) -> None:
    """End the run within the caller's transaction. Raises Fenced."""
    row = owned(connection, lease)
    over = {"ended_at": clock(connection), "lease_until": None}
    records.go(connection, row, state, error=error, **over, **fields)


def give_up(
    home: Home, lease: Lease, *, error: str, cause: Cause = Cause.LOST, lost: bool = True
) -> RunState:
    """The attempt is over: back to the queue, where it waits for a while, if its cause may heal and
    it has attempts left; else failed. Its dispatcher being stopped is no loss, and nothing to wait
    for.

    A run that was asked to stop is cancelled. When another one waits already, the lost one ends
    and its reasons go to the waiting one: at most one waits.

    Raises:
        Fenced.
    """
    return records.agreed(
        home, lambda connection: _give_up(home, connection, lease, error, cause, lost)
    )


def _give_up(
    home: Home, connection: Connection, lease: Lease, error: str, cause: Cause, lost: bool
) -> RunState:
    row = owned(connection, lease)
    waiting = connection.execute(select(runs.c.id).where(runs.c.state == RunState.QUEUED)).scalar()
    now, losses = clock(connection), row.losses + lost
    again = not row.foreground and cause in HEALS and losses < home.settings.attempts
    fields: dict[str, Any] = {"cause": cause, "ended_at": now}
    if row.cancel_asked:
        to, fields["cause"] = RunState.CANCELLED, None
    elif (lost and not again) or row.foreground or waiting is not None:
        to = RunState.FAILED
    else:
        to = RunState.QUEUED
        wait_s = delay_s(home.settings.retry_s, losses) if lost else 0
        fields |= {"ended_at": None, "not_before": now + wait_s}
    if to is RunState.FAILED and waiting is not None:
        error += f"; run {waiting} goes on in its place"
        triggers.hand_over(connection, lease.run, waiting)
    fields |= {"losses": losses, "lease_until": None, "owner": None}
    records.go(connection, row, to, error=error, **fields)
    return to


def reap(home: Home, *, silent: bool = True) -> str | None:
    """Settle an active run whose attempt has died or fallen silent; returns its id.

    Args:
        silent: False: leave alone what has fallen silent; it may have lost the database with us.
    """
    with home.db.read() as connection:
        row = connection.execute(select(runs).where(runs.c.state.in_(ACTIVE))).first()
        if row is None:
            return None
        late = clock(connection) > (row.lease_until or 0)
    gone = bool(row.owner) and surely_gone(row.owner)
    if not gone and not (late and silent):
        return None
    try:
        give_up(
            home,
            Lease(run=row.id, fence=row.fence),
            error="its process has ended" if gone else SILENT,
        )
    except Fenced:
        return None  # somebody else settled it
    return str(row.id)


def silent(home: Home, lease: Lease) -> bool:
    """Whether the attempt has not said for too long that it lives."""
    with home.db.read() as connection:
        row = records.find(connection, lease.run)
        return row.fence == lease.fence and clock(connection) > (row.lease_until or 0)


def held(home: Home, connection: Connection, owner: str) -> dict[str, Any]:
    """What a run's row says of an attempt that begins now, or goes on."""
    return {"owner": owner, "lease_until": clock(connection) + home.settings.lease_s}


def _is_of(row: Row[Any], lease: Lease) -> bool:
    return row.fence == lease.fence and row.state in ACTIVE
