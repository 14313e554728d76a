"""What is known of runs, for whoever asks, and how it is changed."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import IntegrityError

from toploss import outbox, triggers
from toploss.database import clock, held_briefly
from toploss.errors import NotFound
from toploss.home import Home
from toploss.plan import Plan
from toploss.schema import runs
from toploss.states import ENDED, TRANSITIONS, RunState

TRIES = 20  # for a moment in which nobody else's run begins to wait

T = TypeVar("T")


def show(home: Home, run_id: str) -> dict[str, Any]:
    """A run in words and numbers. Raises NotFound."""
    with home.db.read() as connection:
        return told(connection, find(connection, run_id))


def listed(
    home: Home, *, after: str | None = None, limit: int | None = None
) -> list[dict[str, Any]]:
    """Runs, newest first, those older than `after`."""
    query = select(runs).order_by(runs.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(runs.c.id < after)
    with home.db.read() as connection:
        return [told(connection, row) for row in connection.execute(query).all()]


def told(connection: Connection, row: Row[Any]) -> dict[str, Any]:
    """A run as answers have it; times are seconds since 1970."""
    return {
        "id": row.id,
        "state": row.state,
        "stage": row.stage,
        "epoch": row.epoch,
        "epochs": row.epochs,
        **left(connection, row),
        "reasons": triggers.of(connection, row.id),
        "attempt": row.fence,
        "cancel_asked": row.cancel_asked,
        "fingerprint": row.fingerprint,
        "settings": row.plan,
        "history": row.history,
        "finder": row.finder,
        "diagnosis": row.diagnosis,
        "metrics": row.metrics,
        "gate": row.gate,
        "version": row.version,
        "error": row.error,
        "cause": row.cause,
        "losses": row.losses,
        "not_before": row.not_before,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
    }


def left(connection: Connection, row: Row[Any]) -> dict[str, float | None]:
    """Seconds that it still takes: the stage, and the whole run. None: not known, or not going."""
    pace = (row.pace or {}) if row.state == "running" else {}
    since = clock(connection) - row.pace_at if pace else 0.0
    return {
        name: None if pace.get(name) is None else max(0.0, round(pace[name] - since, 1))
        for name in ("stage_left_s", "left_s")
    }


def log_path(run_id: str, fence: int) -> str:
    """Where an attempt's log lies in the storage."""
    return f"runs/{run_id}/log-{fence}.txt"


def put_log(home: Home, run_id: str, fence: int, text: str) -> None:
    """Keep an attempt's log as it stands now, in place of what was kept of it. Raises Broken."""
    home.blobs.put(log_path(run_id, fence), text.encode(errors="replace"))


def read_log(home: Home, run_id: str) -> str:
    """The log of all attempts at a run, one after the other. Raises NotFound."""
    attempts = range(1, show(home, run_id)["attempt"] + 1)
    paths = [log_path(run_id, fence) for fence in attempts]
    logs = [
        home.blobs.get(path).decode(errors="replace") for path in paths if home.blobs.exists(path)
    ]
    return "".join(logs)


def log_tail(home: Home, run_id: str, limit: int = 16 * 1024) -> str:
    """The last lines of the latest attempt's log, of so many bytes at most; empty when it has
    written none. Raises NotFound."""
    path = log_path(run_id, show(home, run_id)["attempt"])
    if not home.blobs.exists(path):
        return ""
    end = home.blobs.tail(path, limit)
    # It may begin within a line.
    whole = end if len(end) < limit else end.partition(b"\n")[2]
    return whole.decode(errors="replace")


def parted(home: Home, plan: Plan) -> Plan:
    """The plan as memory allowed it the last time: a run of this architecture, size and batch that
    had to take its batches in parts passes that on."""
    if plan.part is not None:
        return plan
    with home.db.read() as connection:
        plans = connection.execute(select(runs.c.plan).order_by(runs.c.id.desc()).limit(20))
        for (then,) in plans:
            same = ("arch", "size", "batch_size")
            if then and then.get("part") and all(then[key] == getattr(plan, key) for key in same):
                return replace(plan, part=then["part"])
    return plan


def pace(home: Home, plan: Plan) -> dict[str, Any] | None:
    """How long the last run of this kind took that came to its end at the first attempt, by stage;
    None: there was none."""
    alike = ("arch", "size", "epochs_head", "epochs_all", "folds", "full_folds")
    query = select(runs.c.plan, runs.c.pace).where(
        (runs.c.state == "succeeded") & (runs.c.fence == 1) & runs.c.pace_at.is_not(None)
    )
    with home.db.read() as connection:
        for then, found in connection.execute(query.order_by(runs.c.id.desc()).limit(20)):
            if all(then.get(name) == getattr(plan, name) for name in alike):
                return dict(found)
    return None


def find(connection: Connection, run_id: str, *, held: bool = False) -> Row[Any]:
    """A run's row; nobody else may change one that is held until the transaction's end. Raises
    NotFound."""
    query = select(runs).where(runs.c.id == run_id)
    if held:
        held_briefly(connection)
        query = query.with_for_update(key_share=True)
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"there is no run {run_id!r}; `toploss runs list` shows them")
    return row


def go(connection: Connection, row: Row[Any], to: RunState, **fields: Any) -> None:
    """The run is in another state from now on; the outside hears of an end."""
    allowed = TRANSITIONS.get(RunState(row.state), set())
    assert to in allowed, f"a run does not go from {row.state} to {to}"
    update(connection, row.id, state=to, **fields)
    if to in ENDED:
        _tell(connection, row.id)


def _tell(connection: Connection, run: str) -> None:
    """The outside hears that it has ended."""
    row = find(connection, run)
    reason = row.error or (row.gate or {}).get("outcome")
    said = {"run": run, "version": row.version, "reason": reason, "metrics": row.metrics}
    outbox.put(connection, f"run.{row.state}", said)


def update(connection: Connection, run: str, **fields: Any) -> None:
    """Columns of a run's row, but for its state."""
    connection.execute(runs.update().where(runs.c.id == run).values(**fields))


def agreed(home: Home, work: Callable[[Connection], T]) -> T:
    """Do it in a transaction; once more where somebody else's run began to wait in that moment, or
    the like: what two wanted to be the only one of."""
    for _ in range(TRIES):
        with contextlib.suppress(IntegrityError), home.db.write() as connection:
            return work(connection)
    with home.db.write() as connection:
        return work(connection)
