"""The blind queues over HTTP, what reviewers differ on, how far they agree, and the holdout."""

import logging
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from service import paging, times
from service.desk import Actor, OurHome
from service.paging import Cursor, Limit
from service.review import IdempotencyKey
from service.samples import paths
from toploss import agreement, blind, holdout, opinions, trials
from toploss.blind import ACTIONS, Item, Queue
from toploss.errors import ToplossError
from toploss.home import Home
from toploss.opinions import Disagreement, Opinion, Said

log = logging.getLogger("toploss.review")

router = APIRouter(prefix="/v1", tags=["review"])


class NewOpinion(BaseModel):
    model_config = ConfigDict(extra="forbid")

    queue: Queue
    sample: str = Field(max_length=64, description="its id")
    action: str = Field(max_length=16, json_schema_extra={"enum": [*ACTIONS]})
    label: str | None = Field(
        default=None, max_length=200, description="of the action label: the class it belongs to"
    )
    revision: int = Field(ge=0, lt=2**31, description="the sample's, as the reviewer saw it")
    seconds: float | None = Field(
        default=None, ge=0, le=86_400, description="that the reviewer looked at it"
    )

    def spoken(self, key: str | None) -> Opinion:
        return Opinion(**self.model_dump(exclude={"queue"}), key=key)


@router.get("/blind", summary="Images to judge without being told their label")
def queued(
    home: OurHome,
    actor: Actor,
    queue: Annotated[Queue, Query(description="the holdout; others' decisions; one's own again")],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Neither label nor prediction nor the reason why they are here. Those that others hold are
    left out, and counted in `total`."""
    place = paging.decode(cursor, int, int)
    after = (place[0], place[1]) if place else None
    found = blind.listed(home, queue, reviewer=actor, limit=limit + 1, after=after)
    page = paging.page(found.items, limit, lambda item: (item.place, item.seq))
    page["items"] = [_shown(item) for item in page["items"]]
    return {**page, "total": found.total}


@router.post("/blind", summary="Say what an image shows", status_code=201)
def judge(
    home: OurHome, actor: Actor, body: NewOpinion, key: IdempotencyKey = None
) -> dict[str, Any]:
    """Of the holdout it is a decision; of a decision it is a second opinion, which changes no
    label. 409 when the sample has changed since `revision`, or the caller is not asked about it.
    The same Idempotency-Key again gives the same answer and records nothing. `next` is the next of
    the queue that nobody else holds; it is the caller's from now on."""
    given = blind.answer(home, body.queue, body.spoken(key), reviewer=actor)
    return {**asdict(given), "next": _next(home, body.queue, actor)}


@router.get("/disagreements", summary="Decisions that a second opinion contradicts")
def disagreements(home: OurHome, limit: Limit = 50, cursor: Cursor = None) -> dict[str, Any]:
    """The oldest first. Another decision on the sample settles it."""
    place = paging.decode(cursor, int)
    found = opinions.disagreements(home, limit=limit + 1, after=place[0] if place else None)
    page = paging.page(found.items, limit, lambda item: (item.seq,))
    page["items"] = [_told(item) for item in page["items"]]
    return {**page, "total": found.total}


@router.get("/agreement", summary="How far reviewers agree, beyond chance")
def agreeing(home: OurHome) -> dict[str, Any]:
    """Cohen's kappa with its 95 % interval, of reviewers with each other (`second`) and of each
    with himself (`again`); null where it is undefined."""
    return agreement.figures(home)


@router.get("/holdout", summary="How far the holdout was looked at, and how versions do on it")
def held_out(home: OurHome) -> dict[str, Any]:
    """Under the labels of each version's own snapshot and under today's. `interval` is today's
    accuracy's: 95 %, Wilson's."""
    with home.db.read() as connection:
        figures = holdout.figures(connection, home.settings.holdout_slice)
        measured = trials.measured(connection)
    return {**asdict(figures), "versions": [asdict(version) for version in measured]}


def _next(home: Home, queue: Queue, actor: str) -> dict[str, Any] | None:
    try:
        found = blind.following(home, queue, reviewer=actor)
    except ToplossError as exc:  # the answer is recorded, whatever comes of this
        log.warning("action=claim outcome=failed error=%s", exc)
        return None
    return _shown(found) if found else None


def _shown(item: Item) -> dict[str, Any]:
    told = {name: getattr(item, name) for name in ("id", "revision", "width", "height")}
    return {**told, **paths(item.id)}


def _told(item: Disagreement) -> dict[str, Any]:
    told = {name: getattr(item, name) for name in ("id", "label", "revision", "split")}
    sides = {"first": _side(item.first), "second": _side(item.second)}
    return {**told, **paths(item.id), **sides}


def _side(said: Said) -> dict[str, Any]:
    return times.spelled(asdict(said))
