"""Alarms of drift: on record from when a shift was seen to when it was not any more."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from toploss import outbox
from toploss.schema import alias_moves, drift_alarms


@dataclass(frozen=True, kw_only=True)
class Alarm:
    version: str
    kind: str  # of `drift.Kind`
    statistic: float  # when it began
    threshold: float  # that it had reached
    answers: int  # that it was seen in
    why: str  # in words
    at: float  # when it began; seconds since 1970
    ended_at: float | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def begin(connection: Connection, alarm: Alarm) -> bool:
    """Put it on record; returns whether it is new: one is open at a time, of a version and kind.

    Raises:
        IntegrityError: another server was faster by a moment.
    """
    if connection.execute(
        select(drift_alarms.c.seq).where(_open(alarm.version, alarm.kind))
    ).first():
        return False
    connection.execute(drift_alarms.insert().values(**asdict(alarm)))
    told = {"run": None, "version": alarm.version, "reason": alarm.why, "kind": alarm.kind}
    outbox.put(connection, outbox.Type.DRIFT, told | {"metrics": None})
    return True


def end(connection: Connection, version: str, kind: str) -> bool:
    """The shift is gone; returns whether there was an alarm to end."""
    ended = drift_alarms.update().where(_open(version, kind)).values(ended_at=time.time())
    return bool(connection.execute(ended).rowcount)


def of(connection: Connection, version: str) -> list[Alarm]:
    """Those of a version, the latest first."""
    this = drift_alarms.c.version == version
    query = select(drift_alarms).where(this).order_by(drift_alarms.c.seq.desc())
    columns = [name for name in drift_alarms.c.keys() if name != "seq"]  # noqa: SIM118  # of columns
    return [
        Alarm(**{name: getattr(row, name) for name in columns}) for row in connection.execute(query)
    ]


def standing(connection: Connection) -> Alarm | None:
    """The first of production's that is open; None: there is no drift that anybody has seen."""
    newest = select(alias_moves.c.version).order_by(alias_moves.c.generation.desc()).limit(1)
    version = connection.execute(newest).scalar()
    found = [] if version is None else of(connection, version)
    return next((alarm for alarm in reversed(found) if alarm.ended_at is None), None)


def _open(version: str, kind: str) -> ColumnElement[bool]:
    where: ColumnElement[bool] = (
        (drift_alarms.c.version == version)
        & (drift_alarms.c.kind == kind)
        & drift_alarms.c.ended_at.is_(None)
    )
    return where
