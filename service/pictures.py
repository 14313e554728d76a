"""Answers that are pictures: a browser keeps them for a while, and never runs them."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Query, Request, Response

from toploss import preprocess

# An id is the hash of its bytes; but what is erased must not stay in a browser for a year.
A_DAY = "private, max-age=86400"
# An image is looked at, never run: not even when somebody opens it by its address.
NEVER_RUN = "default-src 'none'; sandbox"

Side = Annotated[int, Query(ge=16, le=1024, description="pixels of the longer side")]

# How OpenAPI shows them.
TOLD: dict[int | str, dict[str, Any]] = {
    200: {"content": {media_type: {} for media_type in preprocess.MEDIA_TYPES.values()}}
}


def answer(
    request: Request,
    *,
    tag: str,
    media_type: str | None,
    make: Callable[[], bytes],
    cached: str = A_DAY,
) -> Response:
    """A picture that never changes; a browser that has it is told so without its bytes.

    Args:
        cached: how long a browser may keep it.
    """
    headers = {
        "ETag": f'"{tag}"',
        "Cache-Control": cached,
        "Content-Security-Policy": NEVER_RUN,
        "Content-Disposition": "inline",
    }
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    data = make()
    drawn = "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"
    return Response(data, media_type=media_type or drawn, headers=headers)
