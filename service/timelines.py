"""What the pages draw over time: samples as they came, versions as they were published."""

import math
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import floor

from toploss.charts import Axis, Line, chart, curve, upright
from toploss.models import Version
from toploss.times import DAY_S

SPLITS = (("valid", "plain"), ("test", "valid"))  # and the class of each one's line
MARKED = 5  # dates on an axis of versions


def growth(course: Sequence[tuple[float, int]], *, now: float | None = None) -> str:
    """Samples that have come in, over time; empty when none has.

    Args:
        course: when, and how many by then.
        now: where the axis ends, in seconds since 1970.
    """
    if not course:
        return ""
    first, number = course[0][0], course[-1][1]
    now = max(time.time() if now is None else now, course[-1][0], first + 60)
    x = Axis(name="date (UTC)", low=first, high=now, named=_dates(first, now))
    y = Axis(name="samples that came in", low=0.0, high=number * 1.05, whole=True)
    counts = tuple((tick, _short(tick)) for tick in y.ticks())
    y = Axis(name=y.name, low=y.low, high=y.high, named=counts)
    points = [*course, (now, number)]
    drawn = curve(x, y, Line(name=y.name, kind="valid", points=points), marked=False)
    return chart(x, y, drawn, f"Samples that came in: {number:,} since {_day(first)}")


def accuracies(versions: Sequence[Version], production: str | None) -> str:
    """Accuracy of versions on valid and test, the oldest first; empty when none was measured."""
    lines = _measured(versions, "accuracy")
    values = [value for line in lines for _, value in line.points]
    if not values:
        return ""
    y = Axis(name="accuracy", low=min(floor(min(values) * 10) / 10, 0.9), high=1.0)
    return _by_version(versions, production, y, lines)


def losses(versions: Sequence[Version], production: str | None) -> str:
    """The same of the loss."""
    lines = _measured(versions, "loss")
    values = [value for line in lines for _, value in line.points]
    if not values:
        return ""
    y = Axis(name="loss (nats)", low=0.0, high=max(*values, 0.01) * 1.1)
    return _by_version(versions, production, y, lines)


def _by_version(
    versions: Sequence[Version], production: str | None, y: Axis, lines: Sequence[Line]
) -> str:
    size = len(versions)
    every = math.ceil(size / MARKED)
    dates = tuple((n + 1.0, _day(versions[n].created_at)) for n in range(0, size, every))
    x = Axis(name="version, by date", low=0.5, high=size + 0.5, named=dates)
    parts = [curve(x, y, line, marked=True) for line in lines]
    for place, version in enumerate(versions, start=1):
        if version.name == production:
            parts.append(upright(x, place, "border", "production"))
    return chart(x, y, "".join(parts), f"{y.name.capitalize()} of {size} versions", lines)


def _measured(versions: Sequence[Version], figure: str) -> list[Line]:
    return [
        Line(name=split, kind=kind, points=list(_points(versions, split, figure)))
        for split, kind in SPLITS
    ]


def _points(versions: Sequence[Version], split: str, figure: str) -> Iterable[tuple[float, float]]:
    for place, version in enumerate(versions, start=1):
        value = version.manifest.get("metrics", {}).get(split, {}).get(figure)
        if value is not None and math.isfinite(value):
            yield float(place), value


def _dates(first: float, last: float) -> tuple[tuple[float, str], ...]:
    """Three dates of a stretch of time, as fine as it is short."""
    length = last - first
    how = "%H:%M" if length < DAY_S else "%d %b" if length < 300 * DAY_S else "%b %Y"
    ticks = [first + length * share for share in (1 / 6, 1 / 2, 5 / 6)]
    return tuple((tick, datetime.fromtimestamp(tick, UTC).strftime(how)) for tick in ticks)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b")


def _short(count: float) -> str:
    """A count on an axis: 800, 20k, 1.5M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:g}{letter}"
    return f"{count:g}"
