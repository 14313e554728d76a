"""The FastAPI application: every route of ours. BentoML mounts it."""

from fastapi import FastAPI

from service import (
    archives,
    blind,
    captures,
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


def build() -> FastAPI:
    """The routes, without a desk: whoever serves them lays one at `app.state.desk`."""
    api = FastAPI(
        title="Toploss",
        version=__version__,
        description="Predictions, the review of what the model was most wrong about, retraining.",
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        responses=problems.DECLARED,
    )
    problems.install(api)
    for part in (
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
        models,
        drift,
        lineage,
        pages,
        login,
    ):
        api.include_router(part.router)
    api.include_router(lineage.web)
    api.mount("/web", Assets(directory=WEB), name="web")
    return api
