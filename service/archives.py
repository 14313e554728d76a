"""Many samples at a time: a zip or tar of class folders."""

import asyncio
import tempfile
from functools import partial
from typing import Any, BinaryIO, cast

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile

from service.auth import caller_of
from service.desk import Actor, OurDesk
from service.predictions import form
from toploss import archive, intake
from toploss.errors import BadInput
from toploss.home import Home
from toploss.intake import Summary
from toploss.keys import Role
from toploss.priority import aside

router = APIRouter(prefix="/v1", tags=["samples"])

IN_MEMORY = 2**20  # bytes of an archive; more goes to a temporary file


@router.post(
    "/samples/archive",
    summary="Add the images of a zip or tar",
    openapi_extra={"requestBody": form("archive", raw="application/octet-stream")},
)
async def add_archive(request: Request, desk: OurDesk, actor: Actor) -> dict[str, Any]:
    """A form with one file, or the archive's bytes as the body: `<class>/<file>`, or
    `train|valid|test/<class>/<file>`. The summary is that of `toploss import`. What is refused is
    told with its reason, and spoils nothing else. An admin's archive may bring new classes;
    whoever else sends one uses those there are."""
    new_classes = caller_of(request.scope).key.role.covers(Role.ADMIN)
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as spooled:
        if request.headers.get("content-type", "").startswith("multipart/"):
            async with request.form(max_files=1, max_fields=8) as sent:
                files = [part for part in sent.values() if isinstance(part, UploadFile)]
                if not files:
                    raise BadInput("no archive was sent: the form has no file; add it")
                return await _taken(desk, files[0].file, actor, new_classes)
        async for part in request.stream():
            spooled.write(part)
        if not spooled.tell():
            raise BadInput(
                "no archive was sent: the body is empty; send a form with one file, or the bytes"
            )
        spooled.seek(0)
        return await _taken(desk, cast(BinaryIO, spooled), actor, new_classes)


async def _taken(desk: OurDesk, file: BinaryIO, actor: str, new_classes: bool) -> dict[str, Any]:
    async with desk.unpacking:
        take_in = partial(_take_in, desk.home, file, actor, new_classes)
        return await asyncio.to_thread(aside, take_in)  # and its threads: predictions go first


def _take_in(home: Home, file: BinaryIO, actor: str, new_classes: bool) -> dict[str, Any]:
    summary = Summary()
    settings = home.settings
    found = archive.items(
        file, most=settings.max_archive, largest=settings.max_bytes, summary=summary
    )
    intake.take_in(home, found, summary, actor=actor, new_classes=new_classes)
    return summary.as_json()
