"""Where an answer comes from and where a sample went, over HTTP and on pages."""

import csv
import io
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from service import paging
from service.desk import OurHome
from service.models import VersionName
from service.pages import PageRoute, page, signed_page
from service.paging import Cursor, Limit
from service.samples import OR_CSV, SampleId, csv_file
from service.times import iso, spelled
from toploss import classes, erasure, events, lineage, models, quarantine, samples, trail
from toploss.figures import chunks
from toploss.members import COLUMNS, Row

router = APIRouter(prefix="/v1", tags=["lineage"])
web = APIRouter(tags=["pages"], route_class=PageRoute)

USES, CHAIN = 25, 10  # rows of a page's table, networks of its chain
AT_ONCE = 5000  # lines of a file in memory


@router.get(
    "/versions/{version}/lineage", summary="What a version was made of, and what came of it"
)
def of_version(home: OurHome, version: VersionName) -> dict[str, Any]:
    """Its run, triggers, settings, code and libraries; its snapshot, of which `…/samples` has every
    row; the networks that it began with, nearest first; the gate's verdict, the moves of production
    to it. `change` counts what its snapshot has that the version before it had not, which takes
    seconds at a million samples. `production` stands for the version that is."""
    found = lineage.of(home, version)
    change = lineage.change(home, found["version"])
    snapshot = found["snapshot"]
    if snapshot is not None:
        frozen = snapshot["frozen_at"]
        snapshot = snapshot | {"frozen_at": None if frozen is None else iso(frozen)}
    return found | {
        "published_at": iso(found["published_at"]),
        "run": spelled(found["run"]),
        "triggers": [spelled(one) for one in found["triggers"]],
        "moves": [spelled(one) for one in found["moves"]],
        "snapshot": snapshot,
        "samples": f"/v1/versions/{found['version']}/samples",
        "change": change,
    }


@router.get(
    "/versions/{version}/samples",
    summary="The samples of a version's snapshot, by id, or all of them as CSV",
    responses=OR_CSV,
)
def of_snapshot(
    home: OurHome,
    version: VersionName,
    format: Annotated[Literal["json", "csv"], Query(description="json: a page")] = "json",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Any:
    """Each with the label and the split that it had there, whatever they are today."""
    if format == "csv":
        return csv_file(_lines(lineage.every_row(home, version)), "snapshot.csv")
    place = paging.decode(cursor, paging.Hash)
    rows = lineage.sample_rows(home, version, after=place[0] if place else None, limit=limit + 1)
    found = paging.page(rows, limit, lambda row: (row.id,))
    found["items"] = [{name: getattr(row, name) for name in COLUMNS} for row in found["items"]]
    return found


@router.get("/samples/{sample_id}/versions", summary="The versions that learned from a sample")
def of_sample(
    home: OurHome, sample_id: SampleId, limit: Limit = 50, cursor: Cursor = None
) -> dict[str, Any]:
    """Newest first: `part` is `learned` (of train, by the version itself or, `through` an earlier
    run, by a network that it began with) or `held-out` (valid or test). Label and split are those
    of then. A page may have fewer than `limit`, and even none, while `next_cursor` leads on."""
    place = paging.decode(cursor, str)
    found, after = lineage.uses(home, sample_id, after=place[0] if place else None, limit=limit)
    items = [one.as_json() | {"published_at": iso(one.published_at)} for one in found]
    return {"items": items, "next_cursor": None if after is None else paging.encode(after)}


@web.get(
    "/models/{version}/lineage",
    summary="A part of a version's page: what it was made of",
    response_class=Response,
)
def version_part(home: OurHome, request: Request, version: VersionName) -> Response:
    found = lineage.of(home, version)
    change = lineage.change(home, found["version"])
    return page(home, request, "lineage.html", of=found, change=change, most=CHAIN)


@web.get("/samples/{sample_id}", summary="A sample's page", response_class=Response)
def sample_page(
    home: OurHome, request: Request, sample_id: SampleId, cursor: Cursor = None
) -> Response:
    place = paging.decode(cursor, str)
    with home.db.read() as connection:
        row = samples.find(connection, sample_id)
        standing = events.present(row, classes.load(connection))
    found, after = lineage.uses(home, sample_id, after=place[0] if place else None, limit=USES)
    alias = models.production(home)
    return signed_page(
        home,
        request,
        "sample.html",
        sample=row,
        standing=standing,
        state=quarantine.state(row),
        stone=erasure.of(home, sample_id),
        history=trail.of(home, sample_id)[::-1],
        uses=found,
        older=None if after is None else paging.encode(after),
        cursor=cursor,
        production=alias and alias.version,
    )


def _lines(rows: Iterator[Row]) -> Iterator[str]:
    yield ",".join(COLUMNS) + "\n"
    for some in chunks(rows, AT_ONCE):
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows([getattr(row, name) for name in COLUMNS] for row in some)
        yield out.getvalue()
