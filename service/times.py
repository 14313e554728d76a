"""Times as HTTP answers carry them, ISO 8601 in UTC, and as people read them."""

from datetime import UTC, datetime
from typing import Any

from toploss.times import iso as iso

KEYS = ("at", "created_at", "started_at", "ended_at", "not_before")


def spelled(record: dict[str, Any]) -> dict[str, Any]:
    """A record with its times, seconds since 1970, spelled out."""
    return {
        key: iso(value) if key in KEYS and value is not None else value
        for key, value in record.items()
    }


def minute(seconds: float) -> str:
    """To the minute, in UTC: 2026-11-26 14:05."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def span(seconds: float) -> str:
    """How long something took: 45 s, 3 min 12 s, 2 h 5 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
