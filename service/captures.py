"""Captures over HTTP: what callers say of production's images, and what reviewers make of them."""

import asyncio
import logging
import time
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Row
from starlette.datastructures import UploadFile

from service import metrics, paging, pictures, problems, times
from service.capture import shot_of
from service.desk import Actor, Desk, OurDesk, OurHome
from service.paging import Cursor, Limit
from service.pictures import Side
from service.samples import OR_KNOWN, paths
from toploss import allowance, captures, classes, feedback, labelling, preprocess
from toploss.captures import Shot, Which, Why
from toploss.errors import NotFound, NotKept, Overloaded, UnsupportedType
from toploss.home import Home
from toploss.ids import LENGTH, is_id, new_id

log = logging.getLogger("toploss.captures")

router = APIRouter(prefix="/v1", tags=["captures"])

CaptureId = Annotated[str, Path(max_length=LENGTH, description="of the prediction")]
PATIENCE_S = 2.0  # for a prediction's image that is being kept just now
# A browser forgets as well: an image that is erased here must not stay there for a year.
SOON = "private, max-age=600"


class Label(BaseModel):
    model_config = ConfigDict(extra="forbid")

    label: str = Field(min_length=1, max_length=classes.LONGEST_NAME, description="a class")


class Claim(Label):
    prediction_id: str = Field(max_length=200)


class ClaimWithImage(Label):
    prediction_id: str | None = Field(default=None, max_length=200)


_IMAGE = {"type": "string", "format": "binary", "description": "where it was not kept"}
_FORM = ClaimWithImage.model_json_schema()
_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": Claim.model_json_schema()},
        "multipart/form-data": {
            "schema": {**_FORM, "properties": {**_FORM["properties"], "image": _IMAGE}}
        },
    },
}


@router.post(
    "/feedback",
    summary="Say what an answered image shows",
    status_code=201,
    responses=OR_KNOWN,
    openapi_extra={"requestBody": _BODY},
)
async def say(
    request: Request, desk: OurDesk, actor: Actor, response: Response
) -> dict[str, str | None]:
    """A claim, for a reviewer to judge: it labels nothing. By the `prediction_id` alone where the
    image was kept; else 410, and the image has to come along in a form, which then is kept. 200
    when the caller has said so before. `state`: `waiting`, `labelled` or `discarded` by a reviewer;
    `sample` where the image was one already: a label that differs is recorded as a conflict."""
    said, data = await _sent(request)
    if said.prediction_id is not None:
        if not is_id(said.prediction_id):  # as of any other name: what is none is not there
            raise NotFound(
                f"there is no prediction {said.prediction_id[:40]!r}; send the `prediction_id` of "
                "an answer, or the image itself"
            )
        await _arrived(desk, said.prediction_id)
    claim = partial(
        feedback.claim,
        desk.home,
        said.label,
        actor=actor,
        capture_id=said.prediction_id,
        data=data,
    )
    try:
        claimed = await asyncio.to_thread(claim)
    except NotKept:
        if data is None:
            raise
        await _keep(desk, said.prediction_id or new_id(), data)
        claimed = await asyncio.to_thread(claim)
    response.status_code = 201 if claimed.new else 200
    return {"id": claimed.id, "state": claimed.state, "label": claimed.label}


@router.get("/captures", summary="Production's images for review, claimed ones first, then newest")
def listed(
    home: OurHome,
    state: Annotated[Which, Query()] = "waiting",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    place = paging.decode(cursor, int, str)
    after = (bool(place[0]), place[1]) if place else None
    found, total = captures.listed(home, state, limit=limit + 1, after=after)
    page = paging.page(found, limit, lambda row: (int(row["claimed"] is not None), row["id"]))
    return {**page, "items": [_told(row) for row in page["items"]], "total": total}


@router.get("/captures/{capture_id}", summary="A capture as it stands")
def show(home: OurHome, capture_id: CaptureId) -> dict[str, Any]:
    return _told(captures.show(home, capture_id))


@router.get(
    "/captures/{capture_id}/image",
    summary="Its bytes as they came",
    response_class=Response,
    responses=pictures.TOLD,
)
def image(home: OurHome, request: Request, capture_id: CaptureId) -> Response:
    row = _find(home, capture_id)
    return pictures.answer(
        request,
        tag=row.sha256,
        media_type=preprocess.MEDIA_TYPES[row.format],
        make=lambda: captures.image(home, row),
        cached=SOON,
    )


@router.get(
    "/captures/{capture_id}/thumbnail",
    summary="Its small picture, PNG or JPEG",
    response_class=Response,
    responses=pictures.TOLD,
)
def thumbnail(
    home: OurHome,
    request: Request,
    capture_id: CaptureId,
    size: Side = 256,
) -> Response:
    row = _find(home, capture_id)
    return pictures.answer(
        request,
        tag=f"{row.sha256}-{size}",
        media_type=None,
        make=lambda: preprocess.thumbnail(captures.image(home, row), size, home.limits),
        cached=SOON,
    )


@router.post("/captures/{capture_id}/label", summary="Make a sample of it", status_code=201)
def label(home: OurHome, actor: Actor, capture_id: CaptureId, body: Label) -> dict[str, Any]:
    """With the reviewer's label, which need not be the claimed one. The same label again gives the
    same answer; 409 when it was decided otherwise, with what stands."""
    sample = labelling.label(home, capture_id, body.label, actor=actor)
    return {"id": capture_id, "sample": sample}


@router.post("/captures/{capture_id}/discard", summary="Put it aside, and delete its image")
def discard(home: OurHome, actor: Actor, capture_id: CaptureId) -> dict[str, Any]:
    """409 when it is a sample by now."""
    labelling.discard(home, capture_id, actor=actor)
    return {"id": capture_id, "state": "discarded"}


@router.delete("/captures/{capture_id}", summary="Erase it, with all that was said of it")
def erase(home: OurHome, actor: Actor, capture_id: CaptureId) -> dict[str, Any]:
    """`sample`: the one that was made of it, which stays."""
    sample = captures.erase(home, capture_id)
    log.info("action=erase-capture outcome=done capture=%s actor=%s", capture_id, actor)
    return {"id": capture_id, "sample": sample}


async def _sent(request: Request) -> tuple[Claim | ClaimWithImage, bytes | None]:
    """The claim of a request, and the image of its form."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    try:
        if kind == "application/json":
            return Claim.model_validate_json(await request.body()), None
        if kind not in problems.FORMS:
            raise UnsupportedType(
                f"a body of type {kind[:80]!r} is not read; send JSON with `prediction_id` and "
                "`label`, or a multipart form with `image` and `label`"
            )
        async with request.form(max_files=1, max_fields=8) as form:
            image = form.get("image")
            if not isinstance(image, UploadFile):
                return Claim.model_validate(dict(form)), None
            fields = {name: value for name, value in form.items() if name != "image"}
            return ClaimWithImage.model_validate(fields), await image.read()
    except ValidationError as exc:
        faults = exc.errors(include_url=False)
        raise RequestValidationError(
            [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
        ) from exc


async def _arrived(desk: Desk, prediction_id: str) -> None:
    """Wait for an image that is being kept just now. Raises Overloaded."""
    until = time.monotonic() + PATIENCE_S
    while desk.capture.holds(prediction_id):
        if time.monotonic() > until:
            raise Overloaded(
                f"the image of prediction {prediction_id} is being kept still; "
                "try again in a second"
            )
        await asyncio.sleep(0.02)


async def _keep(desk: Desk, capture_id: str, data: bytes) -> None:
    await asyncio.to_thread(allowance.check, desk.home, sent=True)  # before work is done on it
    shot = await _seen(desk, capture_id, data)
    if await asyncio.to_thread(captures.keep, desk.home, shot):
        metrics.CAPTURES.labels(reason=Why.FEEDBACK.value).inc()


async def _seen(desk: Desk, capture_id: str, data: bytes) -> Shot:
    """The image with what the model says of it, if there is one. Raises Overloaded, TimedOut:
    where predictions have no place, their images have none either."""
    serving = desk.swap.serving
    if serving is not None:
        answer = await desk.cache.ask(data, serving)
        return shot_of(data, serving, answer, capture_id, Why.FEEDBACK)
    await asyncio.to_thread(preprocess.verify, data, desk.home.limits)
    return Shot(id=capture_id, data=data, why=Why.FEEDBACK)


def _find(home: Home, capture_id: str) -> Row[Any]:
    with home.db.read() as connection:
        return captures.find(connection, capture_id)


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """A capture with its times spelled out and where its pictures are; null: nowhere any more."""
    pictures: dict[str, str | None] = {"image": None, "thumbnail": None}
    if row["sample"] is not None:
        pictures = {**paths(row["sample"])}
    elif row["state"] == captures.State.WAITING:
        base = f"/v1/captures/{row['id']}"
        pictures = {"image": f"{base}/image", "thumbnail": f"{base}/thumbnail"}
    return {
        **times.spelled(row),
        "until": None if row["until"] is None else times.iso(row["until"]),
        "claimed": row["claimed"] and times.spelled(row["claimed"]),
        "decided": row["decided"] and times.spelled(row["decided"]),
        **pictures,
    }
