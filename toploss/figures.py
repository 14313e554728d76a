"""The numbers of scored samples, one for every order of the review list; how they stand in it."""

import math
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Row, select

from toploss import orders
from toploss.orders import LEAST_VOTE, Labels, Probabilities, Scale, Scores
from toploss.schema import sample_events, samples
from toploss.space import Space

T = TypeVar("T")

IN_A_QUERY = 500  # parameters; databases bound them
UNKNOWN = -1.0  # of the order by neighbours, where they are not known
# A decision stands until the evidence against it has grown by this much, in nats: the label is ten
# times less likely than it was then.
MUCH = math.log(10)

NEAR = np.dtype([("seq", "<i4"), ("cosine", "<f2")])  # a neighbour, as it is kept


class Listed(IntEnum):
    """Where a scored sample stands in its version's list."""

    OUT = 0  # its label is no class of the version
    PENDING = 1
    DECIDED = 2


def numbers(
    space: Space, scale: Scale, shares: Probabilities, places: Labels, by_neighbours: Scores
) -> dict[str, list[Any]]:
    """What the columns of the table have of each sample.

    Args:
        shares: (n, classes of the space).
        places: (n,), of the labels among them.
        by_neighbours: of `disagreement`, or UNKNOWN.
    """
    best = shares.argmax(axis=1)
    loss = orders.loss(shares, places)
    margin = orders.margin(shares, places, scale.thresholds)
    return {
        "predicted_class_id": np.array(space.class_ids)[best].tolist(),
        "confidence": np.minimum(shares.max(axis=1).astype(float), 1.0).tolist(),
        "loss": loss.tolist(),
        "margin": margin.tolist(),
        "combined": scale.combined(loss, margin).tolist(),
        "confident_wrong": orders.confident_wrong(shares, places).tolist(),
        "neighbours": by_neighbours.tolist(),
    }


def disagreement(cosines: npt.NDArray[np.float16], same: npt.NDArray[np.bool_]) -> Scores:
    """As `orders.neighbours` has it, (n,)."""
    weights = np.maximum(cosines.astype(float), LEAST_VOTE)
    shares: Scores = 1 - (weights * same).sum(axis=1) / weights.sum(axis=1)
    return shares


def again(
    connection: Connection,
    rows: Sequence[Row[Any]],
    space: Space,
    scale: Scale,
    class_ids: Sequence[int],
) -> list[dict[str, Any]]:
    """The numbers of scored samples under other labels, or in other classes.

    Args:
        rows: of one scoring.
        class_ids: of each, the label; all are classes of the space.
    """
    if not rows:
        return []
    given = np.stack([np.frombuffer(row.probabilities, "<f4") for row in rows])
    by_neighbours = _voted(connection, [row.nearest for row in rows], np.array(class_ids))
    places = np.array([space.place[class_id] for class_id in class_ids], np.intp)
    columns = numbers(space, scale, space.merged(given), places, by_neighbours)
    return [{column: values[row] for column, values in columns.items()} for row in range(len(rows))]


def _voted(
    connection: Connection, nearest: Sequence[bytes | None], own: npt.NDArray[np.int64]
) -> Scores:
    """By the labels that the neighbours have today, (n,)."""
    by_neighbours = np.full(len(nearest), UNKNOWN)
    by_length: dict[int, list[int]] = {}
    for place, kept in enumerate(nearest):
        if kept is not None:
            by_length.setdefault(len(kept), []).append(place)
    for places in by_length.values():
        near = np.stack([np.frombuffer(nearest[place] or b"", NEAR) for place in places])
        seqs, which = np.unique(near["seq"], return_inverse=True)
        today = _class_ids(connection, seqs.tolist())[which.reshape(near.shape)]
        by_neighbours[places] = disagreement(near["cosine"], today == own[places][:, None])
    return by_neighbours


def _class_ids(connection: Connection, seqs: Sequence[int]) -> npt.NDArray[np.int64]:
    """Of each sample, its label; −1 where there is none of that number any more."""
    today: dict[int, int] = {}
    for some in chunks(seqs, IN_A_QUERY):
        query = select(samples.c.seq, samples.c.class_id).where(samples.c.seq.in_(some))
        today.update({row.seq: row.class_id for row in connection.execute(query)})
    return np.array([today.get(seq, -1) for seq in seqs], np.int64)


def stand(
    connection: Connection,
    rows: Sequence[dict[str, Any]],
    decisions: Sequence[str | None],
    excluded: Sequence[bool],
) -> None:
    """Write into each row how its sample stands in the list: what was decided stays so, unless the
    evidence against it has grown much. What was excluded says nothing of a label.

    Args:
        decisions: of each, the event of the decision that stands.
    """
    seen = _evidence(connection, decisions)
    for row, decision_id, out in zip(rows, decisions, excluded, strict=True):
        row |= _stands(row, decision_id, out, seen.get(decision_id))


def _evidence(
    connection: Connection, decisions: Iterable[str | None]
) -> dict[str | None, dict[str, Any]]:
    """What there was to decide by, by the decision's event."""
    found: dict[str | None, dict[str, Any]] = {}
    for some in chunks(filter(None, decisions), IN_A_QUERY):
        query = select(sample_events.c.id, sample_events.c.evidence)
        for event in connection.execute(query.where(sample_events.c.id.in_(some))):
            found[event.id] = event.evidence or {}
    return found


def _stands(
    row: dict[str, Any], decision_id: str | None, excluded: bool, seen: dict[str, Any] | None
) -> dict[str, Any]:
    if decision_id is None:
        return {"listed": Listed.PENDING, "returned": False}
    grown = row["loss"] - (seen or {}).get("loss_after", math.inf)
    differs = row["predicted_class_id"] != row["class_id"]
    returned = not excluded and differs and grown >= MUCH
    return {"listed": Listed.PENDING if returned else Listed.DECIDED, "returned": returned}


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items at most, in order."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
