"""The FastAPI application: every route of ours. BentoML mounts it."""

from collections.abc import Callable, Iterable

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
        responses=problems.DECLARED,
    )
    api.state.front, api.state.elsewhere, api.state.needed = front, elsewhere, needed
    problems.install(api)
    for router in routers:
        api.include_router(router)
    return api
