"""Reviewing over HTTP: the top losses, decisions and their undoing."""

import logging
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service import paging, problems
from service.desk import Actor, OurHome
from service.paging import Cursor, Limit
from service.samples import paths
from toploss import claims, classes, decisions, events, losses
from toploss.claims import HELD_S
from toploss.decisions import Decision
from toploss.errors import BadInput, ToplossError
from toploss.home import Home
from toploss.losses import Filter, Item, Place
from toploss.orders import Order

log = logging.getLogger("toploss.review")

router = APIRouter(prefix="/v1", tags=["review"])

Split = Literal["train", "valid", "test"]
JUDGED_BLIND = (
    "samples of test are never listed by what a model says of them, or the gate would favour that "
    "model; GET /v1/blind?queue=holdout has those to judge"
)
Label = Annotated[str | None, Query(max_length=200)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
LONGEST_KEY = 200  # the column's width
IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=LONGEST_KEY)
]
# A decision's place among several goes with it.
KeyOfSeveral = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=LONGEST_KEY - 10)
]
MOST_DECISIONS = 500  # in one request
MOST_CLAIMED = 50  # samples


class Listing(BaseModel):
    """The list that a reviewer is going through."""

    model_config = ConfigDict(extra="forbid")

    order: Order = Order.LOSS
    label: str | None = Field(default=None, max_length=200)
    predicted: str | None = Field(default=None, max_length=200)
    split: Split | None = None
    text: Text | None = None

    def filter(self) -> Filter:
        return Filter(**self.model_dump(include={"label", "predicted", "split", "text"}))


class OneDecision(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sample: str = Field(max_length=64, description="its id")
    action: str = Field(max_length=16, json_schema_extra={"enum": [*events.ACTIONS]})
    label: str | None = Field(default=None, max_length=200, description="of a relabel")
    revision: int = Field(ge=0, lt=2**31, description="the sample's, as the reviewer saw it")
    rank: int | None = Field(default=None, ge=1, lt=2**31, description="its place in the list")
    seconds: float | None = Field(
        default=None, ge=0, le=86_400, description="that the reviewer looked at it"
    )

    def spoken(self, key: str | None, order: Order) -> Decision:
        told = self.model_dump(exclude={"list"})
        return Decision(**told, key=key, order=order)


class NewDecision(OneDecision):
    list: Listing | None = Field(
        default=None, description="where `next` comes from; else the whole list"
    )


class Claim(Listing):
    """Samples of a list, to look at next."""

    number: int = Field(default=10, ge=1, le=MOST_CLAIMED)
    cursor: str | None = Field(
        default=None, max_length=500, description="the list's: begin there, not at the top"
    )


class SeveralDecisions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    decisions: list[OneDecision] = Field(min_length=1, max_length=MOST_DECISIONS)
    order: Order = Field(default=Order.LOSS, description="of the list that they were seen in")


@router.get("/top-losses", summary="What the model was most wrong about, worst first")
def top_losses(
    home: OurHome,
    order: Annotated[Order, Query(description="what puts a sample first")] = Order.LOSS,
    label: Annotated[str | None, Query(max_length=200, description="today's")] = None,
    predicted: Label = None,
    split: Annotated[Split | None, Query(description="test has no such list")] = None,
    text: Annotated[
        Text | None, Query(description="what the file's name, or the sample's id, begins with")
    ] = None,
    state: losses.ReviewState = "pending",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Held-out losses of production's version, else of the newest. `total` is null where too many
    names begin like the text to be counted; `model` where there are no losses to list. `note` says
    why there is no list."""
    after = _place(cursor, order)
    which = Filter(label=label, predicted=predicted, split=split, text=text, state=state)
    found = losses.top(home, which, order=order, limit=limit + 1, after=after)
    page = paging.page(found.items, limit, lambda item: _cursor(item, order))
    page["items"] = [_shown(item) for item in page["items"]]
    note = found.note or (JUDGED_BLIND if split == "test" else None)
    return {**page, "total": found.total, "model": found.version, "note": note}


@router.get("/top-losses/pairs", summary="Which classes are taken for which, most often first")
def pairs(
    home: OurHome,
    label: Annotated[str | None, Query(max_length=200, description="today's")] = None,
    predicted: Label = None,
    split: Split | None = None,
    state: losses.ReviewState = "pending",
    limit: Limit = 50,
) -> dict[str, Any]:
    """Of the list's samples that were given one label and predicted to have another."""
    which = Filter(label=label, predicted=predicted, split=split, state=state)
    return {"items": [asdict(pair) for pair in losses.pairs(home, which, limit=limit)]}


@router.post("/claims", summary="The next samples that nobody else is looking at")
def claim(home: OurHome, actor: Actor, body: Claim) -> dict[str, Any]:
    """Of the list, from its top. They are the caller's for five minutes, or until they are decided:
    other reviewers get others. Nobody is kept from deciding by a claim."""
    found = claims.following(
        home,
        body.filter(),
        order=body.order,
        holder=actor,
        number=body.number,
        after=_place(body.cursor, body.order),
    )
    cursor = paging.encode(*_cursor(found[-1], body.order)) if found else None
    return {"items": [_shown(item) for item in found], "next_cursor": cursor, "seconds": HELD_S}


@router.post("/decisions", summary="Say what a sample is", status_code=201)
def decide(
    home: OurHome,
    actor: Actor,
    body: NewDecision,
    key: IdempotencyKey = None,
) -> dict[str, Any]:
    """409 when the sample has changed since `revision`, with its present state. The same
    Idempotency-Key again gives the same answer and records nothing. `next` is the next sample of
    the list that nobody else holds; it is the caller's from now on."""
    listing = body.list or Listing()
    _check_labels(home, listing)  # now: once it is recorded, nothing may go wrong
    (answer,) = decisions.decide_all(home, [body.spoken(key, listing.order)], actor=actor)
    if isinstance(answer, ToplossError):
        raise answer
    return {**asdict(answer), "next": _next(home, listing, actor)}


@router.post("/decisions/bulk", summary="Say what several samples are")
def decide_several(
    home: OurHome, actor: Actor, body: SeveralDecisions, key: KeyOfSeveral = None
) -> list[dict[str, Any]]:
    """In order; each element of the answer is as that of one decision, without `next`, or a
    problem, with its `status`: one that is refused spoils no other. The same Idempotency-Key again
    gives the same answers and records nothing."""
    spoken = [
        one.spoken(f"{key}:{place}" if key else None, body.order)
        for place, one in enumerate(body.decisions)
    ]
    return [
        problems.body_of(answer) if isinstance(answer, ToplossError) else asdict(answer)
        for answer in decisions.decide_all(home, spoken, actor=actor)
    ]


@router.delete("/decisions/{decision_id}", summary="Take a decision back")
def undo(
    home: OurHome, actor: Actor, decision_id: Annotated[str, Path(max_length=26)]
) -> dict[str, Any]:
    """As an event: nothing is forgotten. 409 when a later decision stands on it."""
    undone = decisions.undo(home, decision_id, actor=actor)
    return {"id": undone.id, "sample": undone.sample, "revision": undone.revision}


def _next(home: Home, listing: Listing, actor: str) -> dict[str, Any] | None:
    try:
        found = claims.following(
            home, listing.filter(), order=listing.order, holder=actor, number=1
        )
    except ToplossError as exc:  # the decision is recorded, whatever comes of this
        log.warning("action=claim outcome=failed error=%s", exc)
        return None
    return _shown(found[0]) if found else None


def _place(cursor: str | None, order: Order) -> Place | None:
    place = paging.decode(cursor, str, float, int, int)
    if place is None:
        return None
    if place[0] != order:  # another order's scores say nothing of a place in this one
        raise BadInput(
            f"the cursor is of the list by {place[0][:40]}, not by {order}; leave it out to begin "
            "at the top"
        )
    return Place(score=place[1], seq=place[2], rank=place[3])


def _cursor(item: Item, order: Order) -> tuple[str, float, int, int]:
    return order.value, item.score, item.seq, item.rank


def _shown(item: Item) -> dict[str, Any]:
    return {**item.as_json(), **paths(item.id)}


def _check_labels(home: Home, listing: Listing) -> None:
    with home.db.read() as connection:
        known = classes.load(connection)
    for label in filter(None, (listing.label, listing.predicted)):
        known.id_of(label)
