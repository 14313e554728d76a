"""How the whole installation stands, in a few numbers, for whoever watches over it.

All servers share them: they are read from the database, in a few look-ups at any size. Times are
seconds since 1970; those of runs and of the dispatcher are by the database's clock.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection, Row, TextClause, select
from sqlalchemy.exc import IntegrityError

from toploss import losses, models, policy, records, snapshots, tally
from toploss.database import clock
from toploss.figures import Listed
from toploss.home import Home
from toploss.policy import Due
from toploss.schema import ACTIVE, QUEUED, facts, runs, samples, tallies
from toploss.states import ENDED, RunState

LOOKED_BACK = 20  # runs, for how the last ones ended
DISPATCHER = "dispatcher_seen"  # among the facts


@dataclass(frozen=True, kw_only=True)
class Vitals:
    generation: int  # of the production alias; 0: nothing was ever promoted
    queued_at: float | None  # from when on the waiting run may begin; None: none waits, or may
    active_at: float | None  # when the run that is worked on began
    left_s: float | None  # that it still takes; None: none is, or nothing is known of it
    losses: dict[str, float]  # of its last epoch: train, valid; empty before the first
    ended_at: dict[RunState, float]  # when the last that ended so did; one of the last runs
    refusals: int  # candidates that the gate has refused, since it last let one pass
    due: Due  # what the policy says
    samples: int  # that ever came in
    added_at: float | None  # when the last one did
    changed_at: float | None  # when data or labels last changed
    pending: int  # of the review list
    decided: int
    dispatcher_at: float | None  # when one last said that it works; None: none ever did


def look(home: Home) -> Vitals:
    """Raises Broken."""
    due = policy.due(home)
    with home.db.read() as connection:
        alias = models.standing(connection)
        queued, active = _now(connection, QUEUED), _now(connection, ACTIVE)
        if queued is not None and policy.held_back(connection, queued.id) is not None:
            queued = None
        last = _last(connection)
        newest = select(samples.c.seq, samples.c.added_at).order_by(samples.c.seq.desc()).limit(1)
        sample = connection.execute(newest).first()
        pending, decided = _reviewed(connection)
        return Vitals(
            generation=0 if alias is None else alias.generation,
            queued_at=None if queued is None else max(queued.created_at, queued.not_before or 0),
            active_at=None if active is None else active.started_at or active.created_at,
            left_s=None if active is None else records.left(connection, active)["left_s"],
            losses=_losses(active),
            ended_at={
                state: max((run.ended_at for run in last if run.state == state), default=0.0)
                for state in ENDED
            },
            refusals=_refusals(last),
            due=due,
            samples=0 if sample is None else sample.seq,
            added_at=None if sample is None else sample.added_at,
            changed_at=snapshots.last_change(connection),
            pending=pending,
            decided=decided,
            dispatcher_at=_seen(connection),
        )


def dispatches(home: Home) -> None:
    """A dispatcher says that it works. Raises Broken."""
    this = facts.c.key == DISPATCHER
    with suppress(IntegrityError), home.db.write() as connection:  # another's first word: as good
        now = repr(clock(connection))
        if not connection.execute(facts.update().where(this).values(value=now)).rowcount:
            connection.execute(facts.insert().values(key=DISPATCHER, value=now))


def _seen(connection: Connection) -> float | None:
    query = select(facts.c.value).where(facts.c.key == DISPATCHER)
    value = connection.execute(query).scalar()
    return None if value is None else float(value)


def _now(connection: Connection, state: TextClause) -> Row[Any] | None:
    """The run that waits, or that is worked on: by the index of those alone."""
    return connection.execute(select(runs).where(state)).first()


def _losses(active: Row[Any] | None) -> dict[str, float]:
    if active is None or not active.history:
        return {}
    epoch = active.history[-1]
    return {"train": epoch["train_loss"], "valid": epoch["valid_loss"]}


def _last(connection: Connection) -> Sequence[Any]:
    """Of the newest runs those that have ended, the last to do so first."""
    told = runs.c.state, runs.c.ended_at, runs.c.gate
    rows = connection.execute(select(*told).order_by(runs.c.id.desc()).limit(LOOKED_BACK))
    ended: list[Any] = [row for row in rows if row.state in ENDED and row.ended_at is not None]
    return sorted(ended, key=lambda row: -row.ended_at)


def _refusals(last: Sequence[Any]) -> int:
    """In a row, the latest verdicts that were against the candidate."""
    verdicts = [run.gate for run in last if run.state == RunState.SUCCEEDED and run.gate]
    against = takewhile(lambda verdict: verdict.get("passed") is False, verdicts)
    return len(list(against))


def _reviewed(connection: Connection) -> tuple[int, int]:
    """How many samples of the review list are pending, and decided."""
    _, scoring = losses.scoring_now(connection)
    if scoring is None:
        return 0, 0
    this = tallies.c.scoring == scoring.id
    pending, decided = (
        tally.total(connection, this & (tallies.c.listed == int(listed)))
        for listed in (Listed.PENDING, Listed.DECIDED)
    )
    return pending, decided
