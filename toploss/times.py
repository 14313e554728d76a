"""Times as files and answers carry them: ISO 8601, UTC."""

import math
from datetime import UTC, datetime

from toploss.errors import BadInput

DAY_S = 86_400


def iso(seconds: float) -> str:
    """Of seconds since 1970: UTC, to the millisecond, with a Z."""
    stamp = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


YEAR_10000 = 253_402_300_800  # which has no ISO 8601 any more


def seconds(text: str) -> float:
    """Since 1970, of a time in ISO 8601 (UTC, where it names no zone) or of a number of seconds.

    Raises:
        BadInput: it is neither.
    """
    try:
        found = float(text)
    except ValueError:
        try:
            given = datetime.fromisoformat(text)
            found = (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            found = math.nan
    if not 0 <= found < YEAR_10000:
        raise BadInput(f"the time {text[:40]!r} is not understood; write 2026-01-31T12:00:00Z")
    return found


def left(seconds: float | None, stage_s: float | None) -> str:
    """How long something still takes, as a clause; empty where nothing is known.

    Args:
        seconds: the whole; None: not known.
        stage_s: the stage that it is in, likewise.
    """
    if seconds is not None:
        return f", {_about(seconds)} left"
    return "" if stage_s is None else f", {_about(stage_s)} of this stage left"


def _about(seconds: float) -> str:
    if seconds < 60:
        return "less than a minute"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min"
    return f"about {round(seconds / 3600, 1):g} h"
