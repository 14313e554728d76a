"""The automatic policy over HTTP: whether a run is due, paused and resumed."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from service import times
from service.desk import Actor, OurHome
from toploss import policy
from toploss.home import Home

router = APIRouter(prefix="/v1/policy", tags=["retraining"])


class Pausing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=500)


class Resuming(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="resumed over HTTP", min_length=1, max_length=500)


@router.get("", summary="Whether a retraining is due by itself, and whether that is paused")
def show(home: OurHome) -> dict[str, Any]:
    """`pause` says why, by whom and since when; null: it is not paused."""
    return _told(home)


@router.post("/pause", summary="Start no run automatically until it is resumed")
def pause(home: OurHome, actor: Actor, body: Pausing) -> dict[str, Any]:
    """Runs can still be asked for."""
    policy.pause(home, reason=body.reason, actor=actor)
    return _told(home)


@router.post("/resume", summary="Let runs start automatically again")
def resume(home: OurHome, actor: Actor, body: Resuming | None = None) -> dict[str, Any]:
    policy.resume(home, reason=(body or Resuming()).reason, actor=actor)
    return _told(home)


def _told(home: Home) -> dict[str, Any]:
    pause = policy.paused(home)
    due = policy.due(home).as_json()
    return {**due, "pause": None if pause is None else times.spelled(pause.as_json())}
