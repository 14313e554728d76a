"""Retraining over HTTP: runs are asked for, watched and stopped. The dispatcher does the rest."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from service import paging, times
from service.desk import Actor, OurHome
from service.paging import Cursor, Limit
from toploss import artifact, models, records, runs
from toploss.errors import NotFound
from toploss.triggers import Kind

router = APIRouter(prefix="/v1/retrainings", tags=["retraining"])

# A report is one page with its style and pictures inside.
REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"

RunId = Annotated[str, Path(max_length=26)]


class Wish(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="asked for over HTTP", min_length=1, max_length=500)
    force: bool = False  # even if these data and settings have a verdict


@router.post("", summary="Ask for a run", status_code=202)
def ask(home: OurHome, actor: Actor, body: Wish | None = None) -> dict[str, Any]:
    """While one waits it is the same one, with the reason added. It only enqueues: a run on data
    that cannot be trained on fails, and says why; one that would make the same model once more
    ends as cancelled, unless `force` is set."""
    wish = body or Wish()
    run = runs.enqueue(home, reason=wish.reason, actor=actor, kind=Kind.HTTP, force=wish.force)
    return {"id": run["id"], "state": run["state"]}


@router.get("", summary="Runs, newest first")
def listed(home: OurHome, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
    place = paging.decode(cursor, str)
    found = records.listed(home, after=place[0] if place else None, limit=limit + 1)
    return paging.page([_told(run) for run in found], limit, lambda run: (run["id"],))


@router.get("/{run_id}", summary="State, stage, epoch, losses so far")
def show(home: OurHome, run_id: RunId) -> dict[str, Any]:
    return _told(records.show(home, run_id))


@router.get(
    "/{run_id}/log", summary="What it wrote, each attempt's", response_class=PlainTextResponse
)
def log(home: OurHome, run_id: RunId) -> PlainTextResponse:
    return PlainTextResponse(records.read_log(home, run_id))


@router.get("/{run_id}/report", summary="The report of its version", response_class=HTMLResponse)
def report(home: OurHome, run_id: RunId) -> Response:
    run = records.show(home, run_id)
    path = run["version"] and f"{models.get(home, run['version']).path}/{artifact.REPORT}"
    if not path or not home.blobs.exists(path):
        raise NotFound(
            f"run {run_id} has no report: it is {run['state']}; "
            "a run that publishes a version writes one"
        )
    return Response(
        home.blobs.get(path),
        media_type="text/html; charset=utf-8",
        headers={"Content-Security-Policy": REPORT_POLICY},
    )


@router.post("/{run_id}/cancel", summary="Stop a run")
def cancel(home: OurHome, run_id: RunId) -> dict[str, Any]:
    """One that waits ends at once, an active one within seconds. 409 when it has ended."""
    run = runs.cancel(home, run_id)
    return {"id": run["id"], "state": run["state"], "cancel_asked": run["cancel_asked"]}


def _told(run: dict[str, Any]) -> dict[str, Any]:
    return times.spelled(run) | {"reasons": [times.spelled(asked) for asked in run["reasons"]]}
