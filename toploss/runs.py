"""The run queue: one run is worked on at most, and one waits.

A run belongs to the attempt whose fence it carries. Everything an attempt writes is checked
against the fence in the same transaction, so that a trainer that was given up for lost and comes
back changes nothing.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import IntegrityError

from toploss import models, outbox, policy, records, triggers
from toploss.artifact import WEIGHTS
from toploss.database import clock
from toploss.errors import Fenced, Refused
from toploss.home import Home
from toploss.ids import new_id
from toploss.plan import Plan, Start
from toploss.processes import surely_gone
from toploss.schema import runs, versions
from toploss.states import ACTIVE as ACTIVE
from toploss.states import ENDED as ENDED
from toploss.states import HEALS, TRANSITIONS, Cause, delay_s
from toploss.states import RunState as RunState
from toploss.triggers import Kind

TRIES = 20  # for a moment in which nobody else's run begins to wait
SILENT = "its process has fallen silent"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The right of one attempt to work on a run."""

    run: str
    fence: int


def enqueue(
    home: Home,
    *,
    reason: str,
    actor: str,
    kind: Kind = Kind.COMMAND,
    force: bool = False,
    fingerprint: str | None = None,
) -> dict[str, Any]:
    """Ask for a run with the settings of production's run, else the defaults.

    While one waits, it is the same one, with the reason added.

    Args:
        fingerprint: of today's data, to refuse work that has its verdict already at once; None:
            the run finds out when it has frozen them, and ends as cancelled.
        force: even so.

    Raises:
        Refused: this snapshot and these settings already have a verdict.
    """

    def asked(connection: Connection) -> dict[str, Any]:
        return ask(
            home,
            connection,
            reason=reason,
            actor=actor,
            kind=kind,
            force=force,
            fingerprint=fingerprint,
        )

    return agreed(home, asked)


def agreed(home: Home, work: Callable[[Connection], T]) -> T:
    """Do it in a transaction; once more where somebody else's run began to wait in that moment, or
    the like: what two wanted to be the only one of."""
    for _ in range(TRIES):
        with contextlib.suppress(IntegrityError), home.db.write() as connection:
            return work(connection)
    with home.db.write() as connection:
        return work(connection)


def ask(
    home: Home,
    connection: Connection,
    *,
    reason: str,
    actor: str,
    kind: Kind,
    force: bool = False,
    fingerprint: str | None = None,
) -> dict[str, Any]:
    """As `enqueue`, within the caller's transaction: see `agreed`."""
    # Held, so that nobody takes it up before the reason is on it.
    query = select(runs.c.id).where(runs.c.state == RunState.QUEUED).with_for_update()
    waiting = connection.execute(query).scalar()
    if waiting is None:
        plan = next_plan(home, connection)
        if fingerprint is not None and not force:
            _refuse_equal(connection, fingerprint, plan)
        waiting = _insert(connection, RunState.QUEUED, plan)
    if force:
        _update(connection, waiting, forced=True)
    triggers.add(connection, waiting, kind, reason=reason, actor=actor)
    return records.told(connection, records.find(connection, waiting))


def next_plan(home: Home, connection: Connection) -> Plan:
    """The settings of production's run, and how a retraining begins; without one, the defaults."""
    alias = models.standing(connection)
    if alias is None:
        return Plan.from_settings(home.settings)
    plan, path = connection.execute(
        select(runs.c.plan, versions.c.path)
        .join(versions, versions.c.run_id == runs.c.id)
        .where(versions.c.name == alias.version)
    ).one()
    return Plan.from_json(plan).again(Start(home.settings.retrain_start), f"{path}/{WEIGHTS}")


def start(home: Home, plan: Plan, *, owner: str, actor: str, promote: bool) -> Lease:
    """A run in the foreground, from now on this process's.

    Raises:
        Refused: a run is active.
    """
    reap(home)
    try:
        with home.db.write() as connection:
            run = _insert(connection, RunState.RUNNING, plan, foreground=True, promote=promote)
            triggers.add(connection, run, Kind.COMMAND, reason="toploss train", actor=actor)
            held = _held(home, connection, owner)
            _update(connection, run, fence=1, started_at=clock(connection), **held)
    except IntegrityError as exc:
        raise Refused(_busy(home)) from exc
    return Lease(run=run, fence=1)


def start_again(home: Home, run_id: str, *, owner: str) -> Lease:
    """Another attempt at a run that failed or was cancelled, in the foreground, from now on this
    process's.

    Raises:
        NotFound. Refused: it has its verdict, waits, or a run is active.
    """
    reap(home)
    try:
        with home.db.write() as connection:
            row = records.find(connection, run_id, held=True)
            if row.state not in (RunState.FAILED, RunState.CANCELLED):
                raise Refused(
                    f"run {run_id} is {row.state}: there is nothing to resume; "
                    "`toploss runs list` shows what failed"
                )
            if row.plan is None:
                raise Refused(f"run {run_id} was never launched; ask for a new one")
            fence = row.fence + 1
            fresh = {"error": None, "cause": None, "losses": 0, "ended_at": None}
            fresh |= {"cancel_asked": False, "foreground": True}
            held = _held(home, connection, owner)
            _go(connection, row, RunState.RUNNING, fence=fence, **fresh, **held)
    except IntegrityError as exc:
        raise Refused(_busy(home)) from exc
    return Lease(run=run_id, fence=fence)


def claim(home: Home, *, owner: str) -> Lease | None:
    """Take the waiting run, if none is active and its time has come; None when there is nothing to
    do. What nobody but the policy has asked for waits while that is paused."""
    try:
        with home.db.write() as connection:
            if connection.execute(select(runs.c.id).where(runs.c.state.in_(ACTIVE))).first():
                return None
            waiting = select(runs).where(runs.c.state == RunState.QUEUED)
            row = connection.execute(waiting.with_for_update(key_share=True)).first()
            if row is None or (row.not_before or 0) > clock(connection):
                return None
            if policy.held_back(connection, row.id) is not None:
                return None
            held = _held(home, connection, owner) | {"not_before": None}
            _go(connection, row, RunState.LEASED, fence=row.fence + 1, **held)
            return Lease(run=row.id, fence=row.fence + 1)
    except IntegrityError:
        return None  # another one has become active in that moment


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
        row = _fenced(connection, lease)
        if row.state == RunState.LEASED:
            began = clock(connection)
            held = _held(home, connection, owner)
            _go(connection, row, RunState.RUNNING, started_at=began, **held)
        return Plan.from_json(row.plan)


def beat(home: Home, lease: Lease) -> bool:
    """Say that the attempt lives; returns whether the run was asked to stop.

    Raises:
        Fenced: another attempt owns the run, or it has ended.
    """
    with home.db.write() as connection:
        row = _fenced(connection, lease)
        _update(connection, lease.run, lease_until=clock(connection) + home.settings.lease_s)
        return bool(row.cancel_asked)


def owned(connection: Connection, lease: Lease) -> Row[Any]:
    """The run's row, held until the end of a transaction that the lease must hold for. Raises
    Fenced."""
    return _fenced(connection, lease)


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
        _fenced(connection, lease)
        if "pace" in fields:
            fields["pace_at"] = clock(connection)
        _update(connection, lease.run, **fields)


def finish(
    connection: Connection,
    lease: Lease,
    state: RunState,
    *,
    error: str | None = None,
    **fields: Any,
) -> None:
    """End the run within the caller's transaction. Raises Fenced."""
    row = _fenced(connection, lease)
    over = {"ended_at": clock(connection), "lease_until": None}
    _go(connection, row, state, error=error, **over, **fields)


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
    return agreed(home, lambda connection: _give_up(home, connection, lease, error, cause, lost))


def _give_up(
    home: Home, connection: Connection, lease: Lease, error: str, cause: Cause, lost: bool
) -> RunState:
    row = _fenced(connection, lease)
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
    _go(connection, row, to, error=error, **fields)
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


def cancel(home: Home, run_id: str) -> dict[str, Any]:
    """Stop a run: one that waits at once, an active one within seconds.

    Raises:
        NotFound. Refused: it has ended already.
    """
    with home.db.write() as connection:
        row = records.find(connection, run_id, held=True)
        if row.state == RunState.QUEUED:
            over = {"ended_at": clock(connection), "not_before": None}
            _go(connection, row, RunState.CANCELLED, **over)
        elif row.state in ACTIVE:
            _update(connection, run_id, cancel_asked=True)
        elif row.state != RunState.CANCELLED:
            raise Refused(f"run {run_id} cannot be cancelled: it has {row.state} already")
        return records.told(connection, records.find(connection, run_id))


def equal(connection: Connection, fingerprint: str, plan: Plan) -> str | None:
    """The run that had this snapshot and these settings and has its verdict; None: there is none.
    To train once more would make the same model."""
    verdicts = connection.execute(
        select(runs.c.id, runs.c.plan).where(
            (runs.c.fingerprint == fingerprint) & (runs.c.state == RunState.SUCCEEDED)
        )
    )
    return next((run for run, done in verdicts if Plan.from_json(done).equals(plan)), None)


def nothing_new(run: str) -> str:
    """What `equal` has found, in words."""
    return (
        f"nothing to learn: run {run} had the same data and settings and has its verdict; change "
        "the data or the settings, or ask with --force (over HTTP: `force`)"
    )


def _refuse_equal(connection: Connection, fingerprint: str, plan: Plan) -> None:
    if (run := equal(connection, fingerprint, plan)) is not None:
        raise Refused(nothing_new(run))


def _insert(
    connection: Connection,
    state: RunState,
    plan: Plan,
    *,
    foreground: bool = False,
    promote: bool = True,
) -> str:
    run = new_id()
    connection.execute(
        runs.insert().values(
            id=run,
            state=state,
            plan=plan.as_json(),
            foreground=foreground,
            promote=promote,
            fence=0,
            cancel_asked=False,
            history=[],
            created_at=clock(connection),
        )
    )
    return run


def _held(home: Home, connection: Connection, owner: str) -> dict[str, Any]:
    return {"owner": owner, "lease_until": clock(connection) + home.settings.lease_s}


def _go(connection: Connection, row: Row[Any], to: RunState, **fields: Any) -> None:
    allowed = TRANSITIONS.get(RunState(row.state), set())
    assert to in allowed, f"a run does not go from {row.state} to {to}"
    _update(connection, row.id, state=to, **fields)
    if to in ENDED:
        _tell(connection, row.id)


def _tell(connection: Connection, run: str) -> None:
    """The outside hears that it has ended."""
    row = records.find(connection, run)
    reason = row.error or (row.gate or {}).get("outcome")
    said = {"run": run, "version": row.version, "reason": reason, "metrics": row.metrics}
    outbox.put(connection, f"run.{row.state}", said)


def _update(connection: Connection, run: str, **fields: Any) -> None:
    connection.execute(runs.update().where(runs.c.id == run).values(**fields))


def _fenced(connection: Connection, lease: Lease) -> Row[Any]:
    # Held: on PostgreSQL somebody may be giving the attempt up just now.
    row = records.find(connection, lease.run, held=True)
    if not _is_of(row, lease):
        raise Fenced(
            f"attempt {lease.fence} at run {lease.run} is void: the run is {row.state} "
            f"in attempt {row.fence}"
        )
    return row


def _is_of(row: Row[Any], lease: Lease) -> bool:
    return row.fence == lease.fence and row.state in ACTIVE


def _busy(home: Home) -> str:
    with home.db.read() as connection:
        row = connection.execute(select(runs).where(runs.c.state.in_(ACTIVE))).first()
    which = f"run {row.id} is {row.state}" if row else "another run has just begun"
    return f"{which}; wait for it (`toploss runs list`) or stop it with `toploss runs cancel`"
