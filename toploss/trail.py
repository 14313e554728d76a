"""What happened to samples, told: the audit trail of decisions, whole or in pages, and one sample's
history."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, select

from toploss import classes, times
from toploss.events import Kind
from toploss.home import Home
from toploss.schema import DECIDED, sample_events
from toploss.tables import cell

AT_ONCE = 1000  # events of an export in memory
COLUMNS = (
    *("id", "at", "actor", "action", "sample", "before", "label", "undoes", "revision"),
    *("version", "predicted", "confidence", "loss", "order", "rank", "score", "seconds"),
    *("blind", "imported_from", "imported_by", "imported_at"),
)


class Format(StrEnum):
    """Of the whole trail in a file."""

    CSV = "csv"  # `COLUMNS`
    JSON = "json"  # one list
    JSONL = "jsonl"  # an event a line


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


def export(home: Home, format: Format) -> Iterator[str]:
    """All decisions and undos as a file, newest first, piece by piece: a trail may be longer than
    the memory. Times are ISO 8601."""
    if format is Format.CSV:
        yield _row(COLUMNS)
        for events in _pages(home):
            yield "".join(_row(_cells(event)) for event in events)
    elif format is Format.JSONL:
        for events in _pages(home):
            yield "".join(f"{json.dumps(event)}\n" for event in events)
    else:
        before = "["
        for events in _pages(home):
            for event in events:
                yield f"{before}\n{json.dumps(event)}"
                before = ","
        yield "\n]\n" if before == "," else "[]\n"


def _pages(home: Home) -> Iterator[list[dict[str, Any]]]:
    last = None
    while events := listed(home, after=last, limit=AT_ONCE):
        yield [event | {"at": times.iso(event["at"])} for event in events]
        last = events[-1]["seq"]


def _cells(event: dict[str, Any]) -> Iterator[Any]:
    evidence = event["evidence"] or {}
    whence = {f"imported_{key}": said for key, said in (evidence.get("imported") or {}).items()}
    values = event | evidence | whence
    return (cell(values.get(column)) for column in COLUMNS)


def _row(values: Iterable[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue()
