"""The run queue: one run is worked on at most, and one waits."""

from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from toploss import attempts, models, policy, records, triggers
from toploss.artifact import WEIGHTS
from toploss.attempts import Lease
from toploss.database import clock
from toploss.errors import Refused
from toploss.home import Home
from toploss.ids import new_id
from toploss.plan import Plan, Start
from toploss.schema import runs, versions
from toploss.states import ACTIVE, RunState
from toploss.triggers import Kind


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

    return records.agreed(home, asked)


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
    """As `enqueue`, within the caller's transaction: see `records.agreed`."""
    # Held, so that nobody takes it up before the reason is on it.
    query = select(runs.c.id).where(runs.c.state == RunState.QUEUED).with_for_update()
    waiting = connection.execute(query).scalar()
    if waiting is None:
        plan = next_plan(home, connection)
        if fingerprint is not None and not force:
            _refuse_equal(connection, fingerprint, plan)
        waiting = _insert(connection, RunState.QUEUED, plan)
    if force:
        records.update(connection, waiting, forced=True)
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
    attempts.reap(home)
    try:
        with home.db.write() as connection:
            run = _insert(connection, RunState.RUNNING, plan, foreground=True, promote=promote)
            triggers.add(connection, run, Kind.COMMAND, reason="toploss train", actor=actor)
            held = attempts.held(home, connection, owner)
            records.update(connection, run, fence=1, started_at=clock(connection), **held)
    except IntegrityError as exc:
        raise Refused(_busy(home)) from exc
    return Lease(run=run, fence=1)


def start_again(home: Home, run_id: str, *, owner: str) -> Lease:
    """Another attempt at a run that failed or was cancelled, in the foreground, from now on this
    process's.

    Raises:
        NotFound. Refused: it has its verdict, waits, or a run is active.
    """
    attempts.reap(home)
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
            held = attempts.held(home, connection, owner)
            records.go(connection, row, RunState.RUNNING, fence=fence, **fresh, **held)
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
            held = attempts.held(home, connection, owner) | {"not_before": None}
            records.go(connection, row, RunState.LEASED, fence=row.fence + 1, **held)
            return Lease(run=row.id, fence=row.fence + 1)
    except IntegrityError:
        return None  # another one has become active in that moment


def cancel(home: Home, run_id: str) -> dict[str, Any]:
    """Stop a run: one that waits at once, an active one within seconds.

    Raises:
        NotFound. Refused: it has ended already.
    """
    with home.db.write() as connection:
        row = records.find(connection, run_id, held=True)
        if row.state == RunState.QUEUED:
            over = {"ended_at": clock(connection), "not_before": None}
            records.go(connection, row, RunState.CANCELLED, **over)
        elif row.state in ACTIVE:
            records.update(connection, run_id, cancel_asked=True)
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


def _busy(home: Home) -> str:
    with home.db.read() as connection:
        row = connection.execute(select(runs).where(runs.c.state.in_(ACTIVE))).first()
    which = f"run {row.id} is {row.state}" if row else "another run has just begun"
    return f"{which}; wait for it (`toploss runs list`) or stop it with `toploss runs cancel`"
