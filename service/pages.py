"""The pages: what a browser shows. They run our own scripts and nothing else, and read what they
show from the same places as every other client."""

import time
from collections.abc import Callable, Coroutine
from pathlib import Path as File
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from service import paging, problems, timelines, times
from service.auth import caller_of
from service.desk import OurHome
from service.models import VersionName
from service.paging import Cursor
from service.retraining import RunId
from toploss import (
    artifact,
    curves,
    drift,
    findings,
    growth,
    models,
    policy,
    records,
    servers,
    snapshots,
    watch,
)
from toploss.errors import ToplossError
from toploss.home import Home
from toploss.states import ENDED
from toploss.times import DAY_S, left

WEB = File(__file__).parent / "web"
STRICT = (
    "default-src 'none'; img-src 'self' blob:; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

CLASSES, VERSIONS, RUNS, MOVES = 50, 25, 25, 10  # rows of a table
LOOK_MS = 2000  # between two looks of a page at a run that goes on
PageNumber = Annotated[int, Query(alias="page", ge=1, le=10_000)]

templates = Jinja2Templates(WEB)
templates.env.trim_blocks = templates.env.lstrip_blocks = True
templates.env.globals["objection"] = models.objection
templates.env.filters |= {"iso": times.iso, "minute": times.minute, "span": times.span}
templates.env.globals["left"] = left


class PageRoute(APIRoute):
    """Tells a browser on a page what went wrong; every other client gets the problem."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await answer(request)
            except (ToplossError, RequestValidationError) as error:
                if "text/html" not in request.headers.get("accept", ""):
                    raise
                home, body = request.app.state.desk.home, problems.body_of_any(error)
                status = body["status"]
                return signed_page(home, request, "problem.html", status=status, problem=body)

        return told


router = APIRouter(tags=["pages"], route_class=PageRoute)


@router.get("/review", summary="The review page", response_class=Response)
def review_page(home: OurHome, request: Request) -> Response:
    return signed_page(home, request, "review.html")


@router.get("/data", summary="The data set's page", response_class=Response)
def data_page(home: OurHome, request: Request, number: PageNumber = 1) -> Response:
    """What takes seconds at a million samples comes later, from `/data/counts`."""
    now = time.time()
    with home.db.read() as connection:
        course = growth.course(connection)
        recent = {days: growth.since(connection, now - days * DAY_S) for days in (1, 7, 30)}
    return signed_page(
        home,
        request,
        "data.html",
        number=number,
        chart=timelines.growth(course, now=now),
        recent=recent,
        due=policy.due(home),
        drifted=drift.look(home) if models.production(home) else None,
    )


@router.get("/data/counts", summary="A part of it: counts and findings", response_class=Response)
def data_counts(home: OurHome, request: Request, number: PageNumber = 1) -> Response:
    counts = snapshots.overview(home)
    classes = list(counts["classes"].items())
    first = (number - 1) * CLASSES
    return page(
        home,
        request,
        "counts.html",
        counts=counts,
        found=findings.by_counts(counts["classes"]),
        shown=classes[first : first + CLASSES],
        most=max((sum(of.values()) for _, of in classes), default=0),
        number=number,
        pages=-(-len(classes) // CLASSES),
    )


@router.get("/models", summary="The versions' page", response_class=Response)
def models_page(home: OurHome, request: Request, cursor: Cursor = None) -> Response:
    place = paging.decode(cursor, str)
    found = models.listed(home, after=place[0] if place else None, limit=VERSIONS + 1)
    shown = paging.page(found, VERSIONS, lambda version: (version.name,))
    with home.db.read() as connection:
        alias = models.standing(connection)
        late = servers.behind(connection, alias.generation) if alias else []
    oldest_first = shown["items"][::-1]
    return signed_page(
        home,
        request,
        "models.html",
        versions=shown["items"],
        older=shown["next_cursor"],
        cursor=cursor,
        alias=alias,
        before=models.before(home),
        moves=models.moves(home, limit=MOVES),
        watched=watch.look(home),
        late=[servers.told(server) for server in late],
        charts=[
            draw(oldest_first, alias.version if alias else None)
            for draw in (timelines.accuracies, timelines.losses)
        ],
    )


@router.get("/models/{version}", summary="A version's page", response_class=Response)
def version_page(home: OurHome, request: Request, version: VersionName) -> Response:
    found = models.get(home, version)
    return signed_page(
        home,
        request,
        "version.html",
        version=found,
        run=records.show(home, found.run),
        alias=models.production(home),
        has_report=home.blobs.exists(f"{found.path}/{artifact.REPORT}"),
    )


@router.get("/runs", summary="The runs' page", response_class=Response)
def runs_page(home: OurHome, request: Request, cursor: Cursor = None) -> Response:
    place = paging.decode(cursor, str)
    found = records.listed(home, after=place[0] if place else None, limit=RUNS + 1)
    shown = paging.page(found, RUNS, lambda run: (run["id"],))
    return signed_page(
        home,
        request,
        "runs.html",
        runs=shown["items"],
        due=policy.due(home),
        pause=policy.paused(home),
        older=shown["next_cursor"],
        cursor=cursor,
        now=time.time(),
        poll=_poll(shown["items"]),
    )


@router.get("/runs/{run_id}", summary="A run's page", response_class=Response)
def run_page(home: OurHome, request: Request, run_id: RunId) -> Response:
    """While the run goes on, a browser looks at it every few seconds."""
    run = records.show(home, run_id)
    history, finder, rate = run["history"], run["finder"], (run["settings"] or {}).get("lr")
    charts = [curves.losses(history), curves.accuracies(history)] if history else []
    if finder:
        charts.append(curves.sweep(finder, finder["chosen"] if rate is None else rate))
    path = run["version"] and models.get(home, run["version"]).path
    return signed_page(
        home,
        request,
        "run.html",
        run=run,
        charts=charts,
        log=records.log_tail(home, run_id),
        has_report=bool(path) and home.blobs.exists(f"{path}/{artifact.REPORT}"),
        now=time.time(),
        poll=_poll([run]),
    )


def _poll(shown: list[dict[str, Any]]) -> int | None:
    """Milliseconds until a page of these runs looks again; None: nothing of it changes."""
    return LOOK_MS if any(run["state"] not in ENDED for run in shown) else None


def signed_page(
    home: Home, request: Request, template: str, *, status: int = 200, **values: Any
) -> Response:
    """A page for who is signed in, with the token that a change has to bring along."""
    caller = caller_of(request.scope)
    who = caller.key if caller.session else None
    values |= {"csrf": caller.csrf, "key": caller.key, "who": who}
    return page(home, request, template, status=status, **values)


def page(
    home: Home, request: Request, template: str, *, status: int = 200, **values: Any
) -> Response:
    """A template, filled in, under the strict policy for scripts."""
    return templates.TemplateResponse(
        request,
        template,
        {"name": home.settings.name, "here": request.url.path, **values},
        status_code=status,
        headers={"Content-Security-Policy": STRICT},
    )


class Assets(StaticFiles):
    """The pages' scripts and styles: kept by browsers, and asked after each time."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response
