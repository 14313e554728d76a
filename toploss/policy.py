"""When a retraining is due by itself."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, select

from toploss import alarms, settling, snapshots, triggers
from toploss.home import Home
from toploss.schema import policy_events, runs
from toploss.triggers import Kind


@dataclass(frozen=True, kw_only=True)
class Due:
    """The policy's answer, with what it rests on."""

    due: bool
    why: str  # in words
    changed: int  # samples of train or valid, since the last verdict; also of classes that wait
    needed: int
    paused: bool
    kind: Kind | None  # of the trigger: enough changes, or drift and fewer; None: nothing is due

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Pause:
    reason: str
    actor: str
    at: float  # seconds since 1970

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def due(home: Home, *, now: float | None = None) -> Due:
    """Whether a run should start without anyone's asking.

    It should when none waits or goes on, enough samples have changed, none of them just now, the
    last run ended long enough ago, and it did not fail on these very data. Where the settings say
    so, an alarm of drift makes a single one enough, for one run.
    """
    now = time.time() if now is None else now
    settings = home.settings
    with home.db.read() as connection:
        changed, waiting = snapshots.changed(connection), snapshots.waiting(connection)
        touched = snapshots.last_change(connection) or 0.0
        last = connection.execute(
            select(runs.c.state, runs.c.created_at, runs.c.started_at, runs.c.ended_at)
            .where(runs.c.ended_at.is_not(None))
            .order_by(runs.c.ended_at.desc())
            .limit(1)
        ).first()
        now_on = runs.c.state.in_(["queued", "leased", "running"])
        active = connection.execute(select(runs.c.id, runs.c.state).where(now_on)).first()
        pause = standing(connection)
        alarm = alarms.standing(connection) if settings.drift_retrain else None
        settling_on = settling.going_on(connection)
    drifted = alarm is not None and (last is None or last.created_at < alarm.at)
    needed = 1 if drifted else settings.retrain_after
    kind = Kind.DRIFT if changed - waiting < settings.retrain_after else Kind.POLICY
    quiet, rested = now - touched, now - (last.ended_at if last else 0.0)
    if pause is not None:
        verdict, why = False, f"paused: {pause.reason}"
    elif active is not None:
        verdict, why = False, f"run {active.id} is {active.state}"
    elif settling_on is not None:
        verdict, why = False, "what the last run has learned is still being counted"
    elif changed - waiting < needed:
        verdict, why = False, f"{changed - waiting} of {needed} changed samples"
        if waiting:
            why += f"; {waiting} more wait, of classes with too few images to be learned"
    elif quiet < settings.retrain_quiet_s:
        verdict, why = (
            False,
            f"the last change is {quiet:.0f} s old, of {settings.retrain_quiet_s:g} s quiet",
        )
    elif rested < settings.retrain_cooldown_s:
        verdict, why = (
            False,
            f"the last run ended {rested:.0f} s ago, of {settings.retrain_cooldown_s:g} s rest",
        )
    elif last and last.state != "succeeded" and touched <= (last.started_at or last.created_at):
        verdict, why = (
            False,
            f"the last run on these data {last.state}; change them, or ask for one",
        )
    else:
        verdict, why = True, f"{changed} samples have changed"
        if alarm is not None and drifted:
            why += f", and the traffic has drifted: {alarm.why}"
    return Due(
        due=verdict,
        why=why,
        changed=changed,
        needed=needed,
        paused=pause is not None,
        kind=kind if verdict else None,
    )


def standing(connection: Connection) -> Pause | None:
    """Why the policy is paused; None when it is not."""
    row = connection.execute(
        select(policy_events).order_by(policy_events.c.seq.desc()).limit(1)
    ).first()
    return Pause(reason=row.reason, actor=row.actor, at=row.at) if row and row.paused else None


def paused(home: Home) -> Pause | None:
    with home.db.read() as connection:
        return standing(connection)


def held_back(connection: Connection, run: str) -> Pause | None:
    """Why a run is neither begun nor promoted for now: nobody but the policy has asked for it, and
    the policy is paused. None: it is not held back."""
    pause = standing(connection)
    return pause if pause is not None and triggers.automatic(connection, run) else None


def pause(home: Home, *, reason: str, actor: str) -> None:
    with home.db.write() as connection:
        set_paused(connection, True, reason=reason, actor=actor)


def resume(home: Home, *, actor: str, reason: str = "resumed") -> None:
    with home.db.write() as connection:
        set_paused(connection, False, reason=reason, actor=actor)


def set_paused(connection: Connection, paused: bool, *, reason: str, actor: str) -> None:
    connection.execute(
        policy_events.insert().values(paused=paused, reason=reason, actor=actor, at=time.time())
    )
