"""What production answered, counted by version and hour: no image, and nothing of a single one."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from toploss.schema import traffic

HOUR_S = 3600
KEPT_H = 31 * 24  # hours, after which counts are forgotten

CLASSES = 0  # the kind of a cell that counts a predicted class; of a trait, its number from 1

# kind, and the bin of it: of a class its place among the version's labels
Cell = tuple[int, int]

_ADD = text(
    "INSERT INTO traffic (hour, version, kind, bin, answers) "
    "VALUES (:hour, :version, :kind, :bin, :answers) "
    "ON CONFLICT (hour, version, kind, bin) "
    "DO UPDATE SET answers = traffic.answers + excluded.answers"
)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A version's answers of some hours."""

    since: float  # when the first of these hours began; seconds since 1970
    counts: Mapping[Cell, int]

    @property
    def answers(self) -> int:
        return sum(number for (kind, _), number in self.counts.items() if kind == CLASSES)

    def of(self, kind: int, bins: int) -> list[int]:
        """How many answers fell into each bin of a kind."""
        return [self.counts.get((kind, place), 0) for place in range(bins)]


def hour(now: float) -> int:
    """Which one since 1970, UTC, of a time in seconds."""
    return int(now // HOUR_S)


def add(connection: Connection, version: str, hour: int, counts: Mapping[Cell, int]) -> None:
    """Count answers; those of all servers add up."""
    rows = [
        {"hour": hour, "version": version, "kind": kind, "bin": place, "answers": number}
        for (kind, place), number in sorted(counts.items())  # in one order, or two would lock up
    ]
    if rows:
        connection.execute(_ADD, rows)


def seen(connection: Connection, version: str, *, hours: int, now: float | None = None) -> Seen:
    """A version's answers of the last so many hours, and of the one that has begun."""
    first = hour(time.time() if now is None else now) - hours
    query = (
        select(traffic.c.kind, traffic.c.bin, func.sum(traffic.c.answers), func.min(traffic.c.hour))
        .where((traffic.c.hour >= first) & (traffic.c.version == version))
        .group_by(traffic.c.kind, traffic.c.bin)
    )
    rows = connection.execute(query).all()
    return Seen(
        since=HOUR_S * float(min((row[3] for row in rows), default=first)),
        counts={(row[0], row[1]): int(row[2]) for row in rows},
    )


def forget(connection: Connection, *, now: float) -> None:
    """Drop what nobody may ask for any more."""
    connection.execute(traffic.delete().where(traffic.c.hour < hour(now) - KEPT_H))
