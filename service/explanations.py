"""What the network looked at: a heat map over the image."""

import asyncio
import io
import logging
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from service.desk import OurDesk
from service.predictions import form, image_of, serving_of
from service.swap import Serving
from toploss import heatmap
from toploss.errors import Broken, UnknownLabel
from toploss.preprocess import Limits, read, squared

log = logging.getLogger("toploss.explanations")

router = APIRouter(tags=["predictions"])

Label = Annotated[
    str | None, Query(max_length=200, description="a class; without it, the likeliest one")
]


@router.post(
    "/explain",
    summary="Where in an image a class was seen",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "A heat map over the image."}},
    openapi_extra={"requestBody": form("image", raw="image/*")},
)
async def explain(request: Request, desk: OurDesk, label: Label = None) -> Response:
    """What speaks for the class is laid over the image, from violet to yellow. The header
    `X-Label` says for which class, percent-encoded."""
    serving = serving_of(desk)
    if label is not None and label not in serving.labels:
        raise UnknownLabel(
            f"label {label!r} is not one of the {len(serving.labels)} classes of version "
            f"{serving.version}; GET /v1/model lists them"
        )
    data = await image_of(request)
    desk.batcher.expect_room()  # predictions go first
    place = None if label is None else serving.labels.index(label)
    async with desk.explaining:
        png, shown = await asyncio.to_thread(drawn, serving, data, place, desk.home.limits)
    headers = {"X-Model-Version": serving.version, "X-Label": quote(serving.labels[shown])}
    return Response(png, media_type="image/png", headers=headers)


def drawn(serving: Serving, data: bytes, place: int | None, limits: Limits) -> tuple[bytes, int]:
    """The image as PNG, with what speaks for one of the version's outputs laid over it; and which.

    Args:
        place: None: the likeliest, by the same pass through the network.

    Raises:
        NotAnImage, UnsupportedType, TooLarge. Broken: the engine fails.
    """
    _, picture = read(data, limits)
    try:
        pooled, feature_map = serving.engine.seen(squared(picture, serving.size)[None])
    except Exception as exc:  # whatever a runtime raises
        log.exception("action=explain outcome=failed version=%s", serving.version)
        raise Broken(f"version {serving.version} has failed ({exc}); see the log") from exc
    if place is None:
        place = int(serving.head.logits(pooled).argmax())
    shares = heatmap.heat(serving.head, pooled, feature_map, place)
    out = io.BytesIO()
    heatmap.laid_over(picture, shares).save(out, "PNG")
    return out.getvalue(), place
