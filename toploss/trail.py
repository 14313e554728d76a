"""What happened to samples, told: the audit trail of decisions, and one sample's history."""

from typing import Any

from sqlalchemy import Row, select

from toploss import classes
from toploss.decisions import Kind
from toploss.home import Home
from toploss.schema import DECIDED, sample_events


def listed(
    home: Home, *, after: int | None = None, limit: int | None = None
) -> list[dict[str, Any]]:
    """Decisions and undos, newest first, with the sequence number that a next page starts after."""
    query = select(sample_events).where(DECIDED).order_by(sample_events.c.seq.desc()).limit(limit)
    if after is not None:
        query = query.where(sample_events.c.seq < after)
    with home.db.read() as connection:
        names = classes.load(connection).names
        return [told(event, names) for event in connection.execute(query)]


def of(home: Home, sample_id: str) -> list[dict[str, Any]]:
    """Everything that happened to a sample, oldest first; empty when there is none of that id."""
    query = select(sample_events).where(sample_events.c.sample_id == sample_id)
    with home.db.read() as connection:
        names = classes.load(connection).names
        rows = connection.execute(query.order_by(sample_events.c.seq))
        return [told(event, names) for event in rows]


def told(event: Row[Any], names: dict[int, str]) -> dict[str, Any]:
    """An event in words."""
    before = names[event.before["class_id"]] if event.before else None
    return {
        "seq": event.seq,
        "id": event.id,
        "sample": event.sample_id,
        "action": event.kind,
        "label": names[event.class_id],
        "before": before,
        "undoes": event.undoes,
        "revision": event.revision,
        "actor": event.actor,
        "at": event.at,
        "evidence": None if event.kind == Kind.UNDO else event.evidence,
    }
