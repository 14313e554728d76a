"""Why a sample is in the review list, and what there is to judge it by."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Row, select

from toploss import classes, losses, samples
from toploss.classes import Classes
from toploss.events import State
from toploss.figures import NEAR, UNKNOWN
from toploss.home import Home
from toploss.schema import samples as table
from toploss.scoring import Source
from toploss.space import Space

SHOWN = 3  # classes
THERE = table.c.state != State.ERASED
NEIGHBOURS = 8
ALIKE = 20  # near-duplicates, at most


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A class, and how likely the sample is one of it, as who did not learn from it says."""

    label: str
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a version says of a sample."""

    version: str
    label: str  # today's
    top: tuple[Guess, ...]  # the likeliest classes, first the likeliest
    own: float  # probability of today's label
    loss: float  # in nats
    margin: float  # of `orders.margin`
    disagreement: float | None  # of `orders.neighbours`; None: not known
    source: Source
    fold: int | None
    returned: bool  # decided once; since then the evidence against that has grown
    why: str  # it is in the list, in words


@dataclass(frozen=True, kw_only=True)
class Like:
    """Another sample beside one."""

    id: str
    label: str  # today's
    split: str
    state: str
    similarity: float | None  # cosine of the features, −1 to 1; None: a near-duplicate


def of(home: Home, sample_id: str) -> Evidence | None:
    """What the list's version says of a sample; None when it says nothing: the sample is of test,
    or of a class that the version does not know, or has not been looked at yet.

    Raises:
        NotFound: no such sample.
    """
    with home.db.read() as connection:
        row = samples.find(connection, sample_id)
        version, score = losses.score_of(connection, row.seq)
        if version is None or score is None:
            return None
        known = classes.load(connection)
        space = Space.of(connection, version)
        shares = space.merged(np.frombuffer(score.probabilities, "<f4")[None])[0]
        best = np.argsort(-shares, kind="stable")[:SHOWN]
        return Evidence(
            version=version,
            label=known.names[row.class_id],
            top=tuple(
                Guess(
                    label=known.names[space.class_ids[place]],
                    confidence=min(float(shares[place]), 1.0),
                )
                for place in best
            ),
            own=float(shares[space.place[row.class_id]]),
            loss=score.loss,
            margin=score.margin,
            disagreement=None if score.neighbours == UNKNOWN else score.neighbours,
            source=Source(score.source),
            fold=score.fold,
            returned=score.returned,
            why=_why(score, known),
        )


def neighbours(home: Home, sample_id: str) -> list[Like]:
    """The nearest of other samples in what a network sees, nearest first, with their labels of
    today; none, where they are not known. They were chosen among those that the sample was held
    out from, so its near-duplicates are not among them.

    Raises:
        NotFound: no such sample.
    """
    with home.db.read() as connection:
        row = samples.find(connection, sample_id)
        _, score = losses.score_of(connection, row.seq)
        if score is None or score.nearest is None:
            return []
        near = np.frombuffer(score.nearest, NEAR)[:NEIGHBOURS]
        names = classes.load(connection).names
        query = select(table).where(table.c.seq.in_(near["seq"].tolist()), THERE)
        rows = {one.seq: one for one in connection.execute(query)}
        return [
            _like(rows[int(one["seq"])], names, float(one["cosine"]))
            for one in near
            if int(one["seq"]) in rows
        ]


def alike(home: Home, sample_id: str) -> list[Like]:
    """Its near-duplicates: the others of its group, oldest first.

    Raises:
        NotFound: no such sample.
    """
    with home.db.read() as connection:
        row = samples.find(connection, sample_id)
        names = classes.load(connection).names
        query = (
            select(table)
            .where((table.c.group_id == row.group_id) & (table.c.seq != row.seq) & THERE)
            .order_by(table.c.seq)
            .limit(ALIKE)
        )
        return [_like(one, names, None) for one in connection.execute(query)]


def _why(score: Row[Any], known: Classes) -> str:
    judge = {
        Source.FOLDS: "a model that learned from the other images",
        Source.VALID: "the model, which keeps the validation split for checking itself",
        Source.NEWCOMER: "the model, which was made before the image came",
    }[Source(score.source)]
    label, predicted = known.names[score.class_id], known.names[score.predicted_class_id]
    if predicted == label:
        said = f"{judge}, agrees that it is {label}"
    else:
        said = f"{judge}, takes it for {predicted}, not for {label}"
    if score.returned:
        said += "; it was decided once, and much more speaks against that now"
    return said


def _like(row: Row[Any], names: dict[int, str], similarity: float | None) -> Like:
    return Like(
        id=row.id,
        label=names[row.class_id],
        split=row.split,
        state=row.state,
        similarity=similarity,
    )
