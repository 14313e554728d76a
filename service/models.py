"""Versions over HTTP, and the moves of the production alias."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from service import card, paging, times
from service.desk import Actor, OurHome
from service.paging import Cursor, Limit
from toploss import models, servers, shadow, watch
from toploss.home import Home
from toploss.models import Alias

router = APIRouter(prefix="/v1", tags=["models"])

VersionName = Annotated[str, Path(max_length=26)]


class Move(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="asked for over HTTP", min_length=1, max_length=500)


class Seen(BaseModel):
    model_config = ConfigDict(extra="forbid")

    # The generation of production that the caller saw: if it is another one by now, a 409.
    generation: int | None = Field(default=None, ge=0, lt=2**31)


class Promotion(Seen):
    reason: str | None = Field(default=None, min_length=1, max_length=500)


class Return(Seen):
    reason: str = Field(default="asked for over HTTP", min_length=1, max_length=500)
    # A version that served further back; else the one before.
    to: str | None = Field(default=None, min_length=1, max_length=26)


@router.get("/models", summary="Versions, newest first")
def listed(home: OurHome, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
    place = paging.decode(cursor, str)
    found = models.listed(home, after=place[0] if place else None, limit=limit + 1)
    with home.db.read() as connection:
        alias, candidate = models.standing(connection), shadow.candidate(connection)
        late = servers.behind(connection, alias.generation) if alias else []
    page = paging.page(found, limit, lambda version: (version.name,))
    page["items"] = [
        {
            "version": version.name,
            "production": alias is not None and alias.version == version.name,
            "shadow": version.name == candidate,
            **card.of(version),
        }
        for version in page["items"]
    ]
    watched = watch.look(home)
    return {
        **page,
        "production": _told(alias) if alias else None,
        "behind": [server.as_json() for server in late],
        "watch": watched and {**watched.as_json(), "until": times.iso(watched.until)},
    }


@router.post("/models/rollback", summary="Return production to the version before")
def rollback(home: OurHome, actor: Actor, body: Return | None = None) -> dict[str, Any]:
    """Or to one further back. It pauses the automatic retraining, which would else bring the same
    model again."""
    asked = body or Return()
    return _told(
        models.rollback(
            home, reason=asked.reason, actor=actor, to=asked.to, expected=asked.generation
        )
    )


@router.post("/models/{version}/promote", summary="Point production at a version")
def promote(
    home: OurHome,
    actor: Actor,
    version: VersionName,
    body: Promotion | None = None,
) -> dict[str, Any]:
    """One that the gate did not agree to takes a reason (409 without), and is recorded as an
    override."""
    asked = body or Promotion()
    return _told(
        models.promote(home, version, reason=asked.reason, actor=actor, expected=asked.generation)
    )


@router.post("/models/{version}/shadow", summary="Let a version score beside production")
def begin_shadow(
    home: OurHome, actor: Actor, version: VersionName, body: Move | None = None
) -> dict[str, Any]:
    """A share of the traffic (`TOPLOSS_SHADOW_SHARE`), while nobody waits for an answer; one
    version at a time."""
    shadow.begin(home, version, reason=(body or Move()).reason, actor=actor)
    return _agreements(home, version)


@router.delete("/models/{version}/shadow", summary="Let it score no more")
def end_shadow(
    home: OurHome, actor: Actor, version: VersionName, body: Move | None = None
) -> dict[str, Any]:
    """What it agreed to is kept."""
    shadow.end(home, version, reason=(body or Move()).reason, actor=actor)
    return _agreements(home, version)


@router.get("/models/{version}/shadow", summary="How far a version agreed with production")
def agreements(home: OurHome, version: VersionName) -> dict[str, Any]:
    """With each version that it scored beside, the latest first; per class of what production
    said. Servers add what they counted every few seconds."""
    return _agreements(home, version)


def _agreements(home: Home, name: str) -> dict[str, Any]:
    with home.db.read() as connection:
        version = models.found(connection, name).name
        return {
            "version": version,
            "shadow": shadow.candidate(connection) == version,
            "against": [found.as_json() for found in shadow.agreements(connection, version)],
        }


def _told(alias: Alias) -> dict[str, Any]:
    return {
        "version": alias.version,
        "generation": alias.generation,
        "kind": alias.kind,
        "reason": alias.reason,
        "at": times.iso(alias.at),
    }
