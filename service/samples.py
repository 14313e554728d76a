"""Samples over HTTP: images in and out, the classes, the data set in numbers."""

import logging
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Path, Query, Request, Response, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy import Row, select

from service import paging, pictures, times
from service.desk import Actor, OurHome
from service.paging import Cursor, Limit
from service.pictures import Side
from toploss import (
    classes,
    erasure,
    events,
    policy,
    preprocess,
    quarantine,
    samples,
    snapshots,
    trail,
)
from toploss.errors import BadInput
from toploss.events import State
from toploss.schema import samples as table

log = logging.getLogger("toploss.samples")

router = APIRouter(prefix="/v1", tags=["samples"])

LONGEST_FILENAME = 255

SampleId = Annotated[str, Path(max_length=64, description="SHA-256 of the image's bytes, in hex")]
Format = Annotated[Literal["json", "csv"], Query()]

# How OpenAPI shows what is no JSON.
OR_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}}}
OR_KNOWN: dict[int | str, dict[str, Any]] = {
    200: {"description": "It was known.", "content": {"application/json": {}}}
}


class NewClass(BaseModel):
    name: str = Field(min_length=1, max_length=classes.LONGEST_NAME)


class Why(BaseModel):
    reason: str


async def _one_of_each(request: Request) -> None:
    """Of two fields of one name FastAPI takes the last: a label that nobody may have meant."""
    form = await request.form()
    if twice := next((name for name in form if len(form.getlist(name)) > 1), None):
        raise BadInput(
            f"{len(form.getlist(twice))} fields {twice[:40]!r} were sent, and one is taken; "
            "send a request for each image, or an archive"
        )


@router.post(
    "/samples",
    summary="Add a labelled image",
    status_code=201,
    dependencies=[Depends(_one_of_each)],
    responses=OR_KNOWN,
)
def add(
    home: OurHome,
    actor: Actor,
    response: Response,
    image: Annotated[UploadFile, File(description="the image's file")],
    label: Annotated[str, Form(max_length=classes.LONGEST_NAME, description="one of the classes")],
) -> dict[str, Any]:
    """201 when it is new; 200 when its bytes were known: it keeps its label, and another one is
    recorded as a conflict. A near-duplicate of a known image joins its group, and so its split."""
    added = samples.add(
        home, image.file.read(), label, name=_file_name(image.filename), actor=actor
    )
    response.status_code = 201 if added.new else 200
    return {
        "id": added.id,
        "label": added.label,
        "split": added.split,
        "revision": added.revision,
        "new": added.new,
        "conflict": added.conflict,
        "near_duplicate_of": added.joined,
        "quarantined": [entry.as_json() for entry in added.quarantined],
    }


@router.get("/samples", summary="The samples, newest first")
def listed(
    home: OurHome,
    label: Annotated[str | None, Query(description="today's")] = None,
    split: Literal["train", "valid", "test"] | None = None,
    state: Annotated[
        Literal["active", "excluded", "quarantined", "erased"] | None,
        Query(description="without it, all but those that were erased"),
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    query = select(table).order_by(table.c.seq.desc()).limit(limit + 1)
    if (place := paging.decode(cursor, int)) is not None:
        query = query.where(table.c.seq < place[0])
    if split is not None:
        query = query.where(table.c.split == split)
    there = table.c.state != State.ERASED
    query = query.where(there if state is None else quarantine.is_in(state))
    with home.db.read() as connection:
        known = classes.load(connection)
        if label is not None:
            query = query.where(table.c.class_id == known.id_of(label))
        rows = connection.execute(query).all()
    page = paging.page(rows, limit, lambda row: (row.seq,))
    page["items"] = [_told(row, known) for row in page["items"]]
    return page


@router.get("/samples/{sample_id}", summary="A sample as it stands")
def show(home: OurHome, sample_id: SampleId) -> dict[str, Any]:
    with home.db.read() as connection:
        return _told(samples.find(connection, sample_id), classes.load(connection))


@router.delete("/samples/{sample_id}", summary="Erase a sample for good")
def erase(
    home: OurHome,
    actor: Actor,
    sample_id: SampleId,
    reason: Annotated[
        str, Query(description="why it has to go, which is kept; or in the body")
    ] = "",
    body: Why | None = None,
) -> dict[str, Any]:
    """Its image goes, and all that was made of it: thumbnails, likeness, scores, captures, its rows
    in the features and golden images of every version, its picture in reports. A tombstone stays.
    `ended` is null while a run that began before may publish more of it; the rest follows then.
    `doubt` says what the storage could not make sure of, else it is null.
    To ask again changes nothing."""
    why = reason or (body.reason if body else "")
    stone = erasure.erase(home, sample_id, reason=why, actor=actor)
    log.info("action=erase-sample outcome=done sample=%s actor=%s", sample_id, actor)
    return {
        "id": stone.id,
        "state": State.ERASED,
        "reason": stone.reason,
        "actor": stone.actor,
        "at": times.iso(stone.at),
        "ended": None if stone.ended_at is None else times.iso(stone.ended_at),
        "doubt": stone.doubt,
    }


@router.get(
    "/samples/{sample_id}/image",
    summary="The bytes as they came",
    response_class=Response,
    responses=pictures.TOLD,
)
def image(home: OurHome, request: Request, sample_id: SampleId) -> Response:
    row = _picture_of(home, sample_id)
    return pictures.answer(
        request,
        tag=row.id,
        media_type=preprocess.MEDIA_TYPES[row.format],
        make=lambda: home.blobs.get_image(row.id),
    )


@router.get(
    "/samples/{sample_id}/thumbnail",
    summary="A small picture, PNG or JPEG",
    response_class=Response,
    responses=pictures.TOLD,
)
def thumbnail(
    home: OurHome,
    request: Request,
    sample_id: SampleId,
    size: Side = 256,
) -> Response:
    row = _picture_of(home, sample_id)
    return pictures.answer(
        request,
        tag=f"{row.id}-{size}",
        media_type=None,
        make=lambda: preprocess.thumbnail(home.blobs.get_image(row.id), size, home.limits),
    )


@router.get("/samples/{sample_id}/history", summary="Everything that happened to it, oldest first")
def history(
    home: OurHome, sample_id: SampleId, limit: Limit = 100, cursor: Cursor = None
) -> dict[str, Any]:
    _find(home, sample_id)
    place = paging.decode(cursor, int)
    told = [
        times.spelled(event)
        for event in trail.of(home, sample_id)
        if place is None or event["seq"] > place[0]
    ]
    return paging.page(told, limit, lambda event: (event["seq"],))


@router.get("/classes", summary="The classes, by name", tags=["classes"])
def list_classes(home: OurHome, limit: Limit = 500, cursor: Cursor = None) -> dict[str, Any]:
    place = paging.decode(cursor, str)
    rows = [row for row in classes.listed(home) if place is None or row["name"] > place[0]]
    return paging.page(rows, limit, lambda row: (row["name"],))


@router.post(
    "/classes", summary="Add a class", tags=["classes"], status_code=201, responses=OR_KNOWN
)
def add_class(home: OurHome, actor: Actor, response: Response, body: NewClass) -> dict[str, Any]:
    """201 when it is new, 200 when there is one of that name. It is served from the next run on."""
    new = classes.add(home, body.name, actor=actor)
    response.status_code = 201 if new else 200
    return {"name": classes.checked(body.name), "new": new}


@router.get(
    "/dataset",
    summary="The data set in numbers, or every sample as CSV",
    tags=["dataset"],
    responses=OR_CSV,
)
def dataset(home: OurHome, format: Format = "json") -> Any:
    if format == "csv":
        return csv_file(snapshots.export(home), "dataset.csv")
    return {**snapshots.overview(home), "retraining": policy.due(home).as_json()}


def csv_file(content: str | Iterator[str], name: str) -> Response:
    """A file to keep, whole or piece by piece."""
    pieces = [content] if isinstance(content, str) else content
    return StreamingResponse(
        pieces,
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def paths(sample_id: str) -> dict[str, str]:
    """Where a sample's pictures are, from the root."""
    base = f"/v1/samples/{sample_id}"
    return {"image": f"{base}/image", "thumbnail": f"{base}/thumbnail"}


def _told(row: Row[Any], known: classes.Classes) -> dict[str, Any]:
    return {
        **events.present(row, known),
        "state": quarantine.state(row),
        "width": row.width,
        "height": row.height,
        "added": times.iso(row.added_at),
        **(paths(row.id) if row.state != State.ERASED else dict.fromkeys(("image", "thumbnail"))),
    }


def _find(home: OurHome, sample_id: str) -> Row[Any]:
    with home.db.read() as connection:
        return samples.find(connection, sample_id)


def _picture_of(home: OurHome, sample_id: str) -> Row[Any]:
    """A sample that has a picture. Raises NotFound, Erased."""
    row = _find(home, sample_id)
    events.refuse_erased(row)
    return row


def _file_name(sent: str | None) -> str:
    """The last part of what the client calls the file, on one line."""
    name = (sent or "").replace("\\", "/").rpartition("/")[2]
    return "".join(filter(str.isprintable, name))[:LONGEST_FILENAME] or "unnamed"
