"""Times as HTTP answers carry them: ISO 8601, UTC."""

from datetime import UTC, datetime
from typing import Any

KEYS = ("at", "created_at", "started_at", "ended_at")


def iso(seconds: float) -> str:
    stamp = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def spelled(record: dict[str, Any]) -> dict[str, Any]:
    """A record with its times, seconds since 1970, spelled out."""
    return {
        key: iso(value) if key in KEYS and value is not None else value
        for key, value in record.items()
    }
