"""Predictions: from an image's bytes to an answer. No database on the way."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile

from service import metrics, problems
from service.connection import Gone, while_connected
from service.desk import Desk, OurDesk
from service.swap import Serving
from toploss.errors import (
    BadInput,
    Broken,
    NoModel,
    Overloaded,
    TimedOut,
    ToplossError,
    UnsupportedType,
)
from toploss.ids import new_id

router = APIRouter(tags=["predictions"])

TOP = 3
LARGEST_BATCH = 100  # images
RAW_TYPES = ("image/", "application/octet-stream")

OUTCOMES: dict[type[ToplossError], str] = {
    NoModel: "no_model",
    Overloaded: "overloaded",
    TimedOut: "timed_out",
    Gone: "gone",
    Broken: "failed",
}

Top = Annotated[int, Query(ge=1, description="how many classes; at most all of them")]

_FILE = {"type": "string", "format": "binary"}
_GUESS = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "confidence": {"type": "number"}},
}
_PREDICTION = {
    "type": "object",
    "required": ["label", "confidence", "top", "uncertain", "model", "prediction_id"],
    "properties": {
        **_GUESS["properties"],  # type: ignore[dict-item]  # a literal of ours
        "top": {"type": "array", "items": _GUESS},
        "uncertain": {
            "type": "boolean",
            "description": "not to be gone by without a look: little confidence, or a novel image",
        },
        "novelty": {
            "type": "number",
            "description": "distance to the nearest training images, 0 to 2; the model's card has "
            "the threshold",
        },
        "model": {"type": "string", "description": "the version that answered"},
        "prediction_id": {"type": "string"},
    },
}


def form(field: str, schema: dict[str, Any] = _FILE, *, raw: str = "") -> dict[str, Any]:
    """How OpenAPI shows a multipart body with this field; `raw`: or the bytes alone, with this
    type."""
    described = {"type": "object", "required": [field], "properties": {field: schema}}
    content: dict[str, Any] = {"multipart/form-data": {"schema": described}}
    return {"required": True, "content": content | ({raw: {"schema": _FILE}} if raw else {})}


def _answers(schema: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    header = {"X-Model-Version": {"schema": {"type": "string"}}}
    content = {"application/json": {"schema": schema}}
    return {200: {"description": "Answered.", "headers": header, "content": content}}


@router.post(
    "/predict",
    summary="What one image shows",
    responses=_answers(_PREDICTION),
    openapi_extra={"requestBody": form("image", raw="image/*")},
)
async def predict(request: Request, desk: OurDesk, top: Top = TOP) -> JSONResponse:
    """A multipart field `image`, or the image's bytes as the body."""
    serving = serving_of(desk)
    try:
        data = await image_of(request)
        answer = await while_connected(request, _answer(desk, serving, data, top))
    except ToplossError as exc:
        _count(exc)
        refused = problems.response_to(exc)
        refused.headers["X-Model-Version"] = serving.version
        return refused
    return JSONResponse(answer, headers={"X-Model-Version": serving.version})


@router.post(
    "/predict_batch",
    summary="What several images show",
    responses=_answers({"type": "array", "items": {"anyOf": [_PREDICTION, {"type": "object"}]}}),
    openapi_extra={"requestBody": form("images", {"type": "array", "items": _FILE})},
)
async def predict_batch(request: Request, desk: OurDesk, top: Top = TOP) -> JSONResponse:
    """A multipart form with several `images`. The list is in the order sent; each element is a
    prediction or a problem, with its `status`: one bad image spoils no other."""
    serving = serving_of(desk)
    async with _parts(request, "images", LARGEST_BATCH) as parts:
        if not parts:
            raise BadInput("no image was sent; send a form with one or more files `images`")
        at_once = asyncio.Semaphore(desk.batcher.fair_share)

        async def answered(part: UploadFile | str) -> dict[str, Any]:
            async with at_once:
                try:
                    return await _answer(desk, serving, await _read(part), top)
                except ToplossError as exc:
                    _count(exc)
                    return problems.body_of(exc)

        answers = await while_connected(request, asyncio.gather(*map(answered, parts)))
    return JSONResponse(answers, headers={"X-Model-Version": serving.version})


def serving_of(desk: OurDesk) -> Serving:
    """What answers now, taken once for a request. Raises NoModel."""
    try:
        return desk.swap.now()
    except NoModel as exc:
        _count(exc)
        raise


async def image_of(request: Request) -> bytes:
    """The bytes of the one image of a request, from a form or as its body."""
    kind = _content_type(request)
    if kind == "multipart/form-data":
        async with _parts(request, "image", 1) as parts:
            if not parts:
                raise BadInput("no image was sent: the form has no file `image`; add it")
            return await _read(parts[0])
    if kind.startswith(RAW_TYPES):
        return await request.body()
    if not kind:
        raise BadInput("no image was sent: the request has no Content-Type; send image/… bytes")
    raise UnsupportedType(
        f"a body of type {kind[:80]!r} is not read; "
        "send a multipart form with a file `image`, or the bytes with their image/… type"
    )


@asynccontextmanager
async def _parts(request: Request, field: str, most: int) -> AsyncIterator[list[UploadFile | str]]:
    """The parts of a form under one name; their files last as long as the context."""
    if _content_type(request) != "multipart/form-data":
        raise UnsupportedType(
            f"a body of type {_content_type(request)[:80]!r} is not read; "
            f"send a multipart form with the files `{field}`"
        )
    most_parts = LARGEST_BATCH + 1
    async with request.form(max_files=most_parts, max_fields=most_parts) as form:
        parts = form.getlist(field)
        if len(parts) > most:
            raise BadInput(
                f"{len(parts)} files `{field}` were sent, more than the {most} taken; "
                + ("send several to /predict_batch" if most == 1 else "send fewer at a time")
            )
        yield list(parts)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def _read(part: UploadFile | str) -> bytes:
    if isinstance(part, str):
        raise BadInput(
            f"the image is text ({part[:40]!a}), not a file; "
            "send the file itself, addresses are not fetched"
        )
    return await part.read()


async def _answer(desk: Desk, serving: Serving, data: bytes, top: int) -> dict[str, Any]:
    began = time.monotonic()
    try:
        found = await desk.cache.ask(data, serving)
    except Broken:
        desk.reports.failed(serving)
        raise
    metrics.STAGE_SECONDS.labels(stage="whole").observe(time.monotonic() - began)
    metrics.answered(found)
    desk.traffic.count(serving, found)
    desk.reports.answered(serving, found)
    desk.shadow.offer(data, serving, found)
    prediction_id = new_id()
    desk.capture.offer(data, serving, found, prediction_id)
    guesses = [asdict(guess) for guess in found.guesses[:top]]
    return {
        **guesses[0],
        "top": guesses,
        "uncertain": found.uncertain,
        **({} if found.novelty is None else {"novelty": found.novelty}),
        "model": serving.version,
        "prediction_id": prediction_id,
    }


def _count(error: ToplossError) -> None:
    outcome = OUTCOMES.get(type(error), "refused")
    metrics.PREDICTIONS.labels(outcome=outcome).inc()
