"""The trail of decisions over HTTP: in pages, whole, and with what was decided elsewhere."""

import asyncio
import tempfile
from functools import partial
from typing import Annotated, Any, BinaryIO, Literal, cast

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from service import paging, times
from service.desk import Actor, OurDesk, OurHome
from service.paging import Cursor, Limit
from toploss import elsewhere, imported, trail
from toploss.errors import UnsupportedType
from toploss.priority import aside

router = APIRouter(prefix="/v1", tags=["review"])

IN_MEMORY = 2**20  # bytes of a file; more goes to a temporary one
TYPES = ("text/csv", "application/json", "application/jsonl")
MEDIA_TYPES = {
    trail.Format.CSV: "text/csv; charset=utf-8",
    trail.Format.JSONL: "application/jsonl; charset=utf-8",
}
WHOLE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {}, "application/jsonl": {}}}
}


@router.get(
    "/decisions",
    summary="The audit trail, newest first, or all of it as CSV or JSON Lines",
    responses=WHOLE,
)
def audit(
    home: OurHome,
    format: Annotated[Literal["json", "csv", "jsonl"], Query(description="json: a page")] = "json",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Any:
    if format != "json":
        whole = trail.Format(format)
        return StreamingResponse(
            trail.export(home, whole),
            headers={
                "Content-Type": MEDIA_TYPES[whole],
                "Content-Disposition": f'attachment; filename="decisions.{whole}"',
            },
        )
    place = paging.decode(cursor, int)
    events = trail.listed(home, after=place[0] if place else None, limit=limit + 1)
    return paging.page(
        [times.spelled(event) for event in events], limit, lambda event: (event["seq"],)
    )


@router.post(
    "/decisions/import",
    summary="Record decisions that were made elsewhere",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {media_type: {"schema": {"type": "string"}} for media_type in TYPES},
        }
    },
)
async def take_in(
    request: Request,
    desk: OurDesk,
    actor: Actor,
    format: Annotated[elsewhere.Format, Query(description="what wrote it")] = elsewhere.Format.AUTO,
    dry_run: Annotated[bool, Query(description="only tell what would be recorded")] = False,
    force: Annotated[bool, Query(description="also against what stands here")] = False,
) -> dict[str, Any]:
    """The body is the file: our own trail, a CSV, an export of cleanlab or Label Studio. The newest
    decision of each sample counts. What goes against what was decided here is among `conflicts`,
    what cannot be read or found among `refused`, and neither stops the rest. The same file again
    records nothing."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in TYPES:
        raise UnsupportedType(
            f"the body is {media_type[:80]!r}, which is not read; send {', '.join(TYPES)}"
        )
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as spooled:
        async for part in request.stream():
            spooled.write(part)
        spooled.seek(0)
        work = partial(
            imported.take_in,
            desk.home,
            cast(BinaryIO, spooled),
            actor=actor,
            format=format,
            dry_run=dry_run,
            force=force,
        )
        async with desk.unpacking:
            summary = await asyncio.to_thread(aside, work)
    return summary.as_json()
