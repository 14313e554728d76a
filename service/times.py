"""Times as HTTP answers carry them: ISO 8601, UTC."""

from typing import Any

from toploss.times import iso as iso

KEYS = ("at", "created_at", "started_at", "ended_at")


def spelled(record: dict[str, Any]) -> dict[str, Any]:
    """A record with its times, seconds since 1970, spelled out."""
    return {
        key: iso(value) if key in KEYS and value is not None else value
        for key, value in record.items()
    }
