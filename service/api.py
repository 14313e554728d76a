"""The FastAPI application: every route of ours. BentoML mounts it."""

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import APIRouter, FastAPI

from service import (
    archives,
    auth,
    blind,
    captures,
    card,
    drift,
    evidence,
    explanations,
    hooks,
    lineage,
    login,
    models,
    pages,
    policy,
    predictions,
    problems,
    progress,
    retraining,
    review,
    samples,
    trail,
)
from service.pages import WEB, Assets
from toploss import __version__
from toploss.keys import Role

PARTS = (
    predictions,
    explanations,
    archives,
    samples,
    evidence,
    review,
    captures,
    progress,
    trail,
    blind,
    retraining,
    policy,
    hooks,
    card,
    models,
    drift,
    lineage,
    pages,
    login,
)

_TEXT = {"description": "Yes.", "content": {"text/plain": {"schema": {"type": "string"}}}}
OF_THE_SERVER = {
    path: {
        "get": {
            "summary": summary,
            "tags": ["health"],
            "responses": {"200": _TEXT, **problems.DECLARED},
        }
    }
    for path, summary in (
        ("/livez", "Whether the process answers"),
        ("/readyz", "Whether it can do its work; 503 with the reason where not"),
        ("/metrics", "Prometheus' text format"),
    )
}


def build() -> FastAPI:
    """Every route, without a desk: whoever serves them lays one at `app.state.desk`."""
    api = bare(
        [*(part.router for part in PARTS), lineage.web],
        front="/review",
        elsewhere="GET /docs.json lists the routes",
        needed=auth.needed,
    )
    api.mount("/web", Assets(directory=WEB), name="web")
    return api


def bare(
    routers: Iterable[APIRouter],
    *,
    front: str,
    elsewhere: str,
    needed: Callable[[str, str], Role],
) -> FastAPI:
    """These routes alone.

    Args:
        front: where a browser is led that asks for `/`.
        elsewhere: what who asks for another route is told to do.
        needed: the least role for a method and a path.
    """
    api = FastAPI(
        title="Toploss",
        version=__version__,
        description="Predictions, the review of what the model was most wrong about, retraining.",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url=None,  # below, with what the server adds
        responses=problems.DECLARED,
    )
    api.state.front, api.state.elsewhere, api.state.needed = front, elsewhere, needed
    problems.install(api)
    for router in routers:
        api.include_router(router)

    @api.get("/openapi.json", include_in_schema=False)
    def described() -> dict[str, Any]:
        ours = api.openapi()
        return {**ours, "paths": {**ours["paths"], **OF_THE_SERVER}}

    return api
