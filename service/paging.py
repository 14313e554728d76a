"""Lists in pages: an opaque cursor says where the next one begins."""

import base64
import json
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import Query

from toploss.errors import BadInput
from toploss.members import ID

LARGEST = 2**31 - 1  # what a database's integer holds

Limit = Annotated[int, Query(ge=1, le=500, description="items in a page")]
Cursor = Annotated[
    str | None, Query(max_length=500, description="`next_cursor` of the page before")
]


class Hash(str):
    """A sample's id, where a cursor has one."""


def encode(*place: Any) -> str:
    """A cursor that `decode` takes apart again."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def decode(cursor: str | None, *kinds: type) -> list[Any] | None:
    """The place behind a cursor; None without one.

    Raises:
        BadInput: it is none of ours.
    """
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        place = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        place = None
    if not isinstance(place, list) or len(place) != len(kinds):
        raise _broken(cursor)
    if not all(_sound(part, kind) for part, kind in zip(place, kinds, strict=True)):
        raise _broken(cursor)
    return place


def page(
    items: Sequence[Any], limit: int, place_of: Callable[[Any], tuple[Any, ...]]
) -> dict[str, Any]:
    """A page of what was read with `limit + 1`: the one too many tells that more follows."""
    shown = items[:limit]
    more = len(items) > limit
    return {"items": list(shown), "next_cursor": encode(*place_of(shown[-1])) if more else None}


def _sound(part: Any, kind: type) -> bool:
    if kind is Hash:
        return isinstance(part, str) and ID.fullmatch(part) is not None
    if kind is str:
        return isinstance(part, str) and part.isprintable()
    if isinstance(part, bool) or not isinstance(part, int | float):
        return False
    if kind is int:
        return isinstance(part, int) and 0 <= part <= LARGEST
    if isinstance(part, int):
        return abs(part) <= LARGEST
    return math.isfinite(part)


def _broken(cursor: str) -> BadInput:
    return BadInput(
        f"cursor {cursor[:40]!r} is none of ours; "
        "send `next_cursor` of the page before as it came, or leave it out"
    )
