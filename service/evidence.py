"""What there is to judge a sample by: held-out scores, neighbours, and where a class was seen."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from service.desk import OurDesk, OurHome
from service.explanations import drawn
from service.predictions import serving_of
from service.samples import SampleId, paths
from service.swap import Serving
from toploss import classes, events, evidence, samples
from toploss.errors import UnknownLabel
from toploss.evidence import Like
from toploss.home import Home
from toploss.space import Space

router = APIRouter(prefix="/v1/samples/{sample_id}", tags=["review"])


@router.get("/evidence", summary="What the model says of a sample that it did not learn from")
def held_out(home: OurHome, sample_id: SampleId) -> dict[str, Any]:
    """`evidence` is null where nothing is said: a sample of test, of a class that the version does
    not know, or one that was not looked at yet."""
    found = evidence.of(home, sample_id)
    return {"id": sample_id, "evidence": None if found is None else asdict(found)}


@router.get("/neighbours", summary="The samples that are most like it, with their labels")
def neighbours(home: OurHome, sample_id: SampleId) -> dict[str, Any]:
    """`items` are the nearest, nearest first; `duplicates` show nearly the same picture."""
    return {
        "items": [_shown(like) for like in evidence.neighbours(home, sample_id)],
        "duplicates": [_shown(like) for like in evidence.alike(home, sample_id)],
    }


@router.get(
    "/heatmap",
    summary="Where in a sample a class was seen",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "A heat map over the image."}},
)
async def heatmap(
    desk: OurDesk,
    sample_id: SampleId,
    label: Annotated[
        str | None, Query(max_length=200, description="a class; without it, today's label")
    ] = None,
) -> Response:
    """By the version that this server answers with."""
    serving = serving_of(desk)
    data, place = await asyncio.to_thread(_image, desk.home, serving, sample_id, label)
    async with desk.explaining:
        png, _ = await asyncio.to_thread(drawn, serving, data, place, desk.home.limits)
    headers = {"X-Model-Version": serving.version, "Cache-Control": "private, max-age=60"}
    return Response(png, media_type="image/png", headers=headers)


def _image(home: Home, serving: Serving, sample_id: str, label: str | None) -> tuple[bytes, int]:
    """The sample's bytes, and the version's output for the class: it may have another name since,
    or have become one with another."""
    with home.db.read() as connection:
        row, known = samples.find(connection, sample_id), classes.load(connection)
        space = Space.of(connection, serving.version)
    events.refuse_erased(row)
    wanted = row.class_id if label is None else known.ids.get(label)
    if wanted not in space.place:
        raise UnknownLabel(
            f"{label or known.names[row.class_id]!r} is none of the {len(serving.labels)} classes "
            f"of version {serving.version}; GET /v1/model lists them"
        )
    return home.blobs.get_image(sample_id), space.columns.tolist().index(space.place[wanted])


def _shown(like: Like) -> dict[str, Any]:
    return {**asdict(like), **paths(like.id)}
