"""When a retraining is due by itself."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from toploss import alarms, settling, snapshots, triggers
from toploss.alarms import Alarm
from toploss.home import Home
from toploss.schema import policy_events, runs
from toploss.settings import Settings
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
    with home.db.read() as connection:
        seen = _look(connection, home.settings)
    against = _against(seen, home.settings, now)
    why = f"{seen.changed} samples have changed"
    if seen.drift is not None:
        why += f", and the traffic has drifted: {seen.drift.why}"
    enough = seen.ready >= home.settings.retrain_after
    return Due(
        due=against is None,
        why=against or why,
        changed=seen.changed,
        needed=seen.needed,
        paused=seen.pause is not None,
        kind=None if against else Kind.POLICY if enough else Kind.DRIFT,
    )


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What the policy goes by."""

    changed: int  # samples of train or valid
    waiting: int  # of these, of classes that wait
    touched: float  # when the last one changed
    last: Row[Any] | None  # the run that ended last
    active: Row[Any] | None  # one that waits or goes on
    pause: Pause | None
    drift: Alarm | None  # the alarm that no run has begun after, if it counts
    settling: bool
    needed: int

    @property
    def ready(self) -> int:
        """Changed samples that a run would learn."""
        return self.changed - self.waiting


def _look(connection: Connection, settings: Settings) -> _Seen:
    ended = (runs.c.state, runs.c.created_at, runs.c.started_at, runs.c.ended_at)
    latest: Select[Any] = (
        select(*ended).where(runs.c.ended_at.is_not(None)).order_by(runs.c.ended_at.desc())
    )
    last = connection.execute(latest.limit(1)).first()
    now_on = runs.c.state.in_(["queued", "leased", "running"])
    active: Select[Any] = select(runs.c.id, runs.c.state).where(now_on)
    alarm = alarms.standing(connection) if settings.drift_retrain else None
    drifted = alarm is not None and (last is None or last.created_at < alarm.at)
    return _Seen(
        changed=snapshots.changed(connection),
        waiting=snapshots.waiting(connection),
        touched=snapshots.last_change(connection) or 0.0,
        last=last,
        active=connection.execute(active).first(),
        pause=standing(connection),
        drift=alarm if drifted else None,
        settling=settling.going_on(connection) is not None,
        needed=1 if drifted else settings.retrain_after,
    )


def _against(seen: _Seen, settings: Settings, now: float) -> str | None:
    """Why no run should start, in words; None: one should."""
    last = seen.last
    quiet, rested = now - seen.touched, now - (last.ended_at if last else 0.0)
    if seen.pause is not None:
        return f"paused: {seen.pause.reason}"
    if seen.active is not None:
        return f"run {seen.active.id} is {seen.active.state}"
    if seen.settling:
        return "what the last run has learned is still being counted"
    if seen.ready < seen.needed:
        why = f"{seen.ready} of {seen.needed} changed samples"
        if seen.waiting:
            why += f"; {seen.waiting} more wait, of classes with too few images to be learned"
        return why
    if quiet < settings.retrain_quiet_s:
        return f"the last change is {quiet:.0f} s old, of {settings.retrain_quiet_s:g} s quiet"
    if rested < settings.retrain_cooldown_s:
        return f"the last run ended {rested:.0f} s ago, of {settings.retrain_cooldown_s:g} s rest"
    if last and last.state != "succeeded" and seen.touched <= (last.started_at or last.created_at):
        return f"the last run on these data {last.state}; change them, or ask for one"
    return None


def standing(connection: Connection) -> Pause | None:
    """Why the policy is paused; None when it is not."""
    row = connection.execute(
        select(policy_events).order_by(policy_events.c.seq.desc()).limit(1)
    ).first()
    return Pause(reason=row.reason, actor=row.actor, at=row.at) if row and row.paused else None


def paused(home: Home) -> Pause | None:
    """As `standing`."""
    with home.db.read() as connection:
        return standing(connection)


def held_back(connection: Connection, run: str) -> Pause | None:
    """Why a run is neither begun nor promoted for now: nobody but the policy has asked for it, and
    the policy is paused. None: it is not held back."""
    pause = standing(connection)
    return pause if pause is not None and triggers.automatic(connection, run) else None


def pause(home: Home, *, reason: str, actor: str) -> None:
    """From now on nothing starts by itself. Who asks for a run gets it."""
    with home.db.write() as connection:
        set_paused(connection, True, reason=reason, actor=actor)


def resume(home: Home, *, actor: str, reason: str = "resumed") -> None:
    """The policy goes on; what was held back may begin."""
    with home.db.write() as connection:
        set_paused(connection, False, reason=reason, actor=actor)


def set_paused(connection: Connection, paused: bool, *, reason: str, actor: str) -> None:
    """As `pause` and `resume`, within the caller's transaction."""
    connection.execute(
        policy_events.insert().values(paused=paused, reason=reason, actor=actor, at=time.time())
    )
