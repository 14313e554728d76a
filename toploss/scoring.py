"""What a version says of the pool, kept so that the review can list it: held-out probabilities, and
of each sample a number for every order. A label that changes is scored again at once.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Row, func, select

from toploss import orders, tally
from toploss.database import one_at_a_time
from toploss.orders import LEAST_VOTE, Labels, Neighbours, Order, Probabilities, Scale, Scores
from toploss.schema import sample_events, samples, scores, scorings
from toploss.space import Space
from toploss.tally import Cell

AT_ONCE = 5000  # rows in memory
IN_A_QUERY = 500  # parameters; databases bound them
EXCLUDED = "excluded"  # of `decisions.State`
UNKNOWN = -1.0  # of the order by neighbours, where they are not known
# A decision stands until the evidence against it has grown by this much, in nats: the label is ten
# times less likely than it was then.
MUCH = math.log(10)

NEAR = np.dtype([("seq", "<i4"), ("cosine", "<f2")])  # a neighbour, as it is kept

COLUMNS = {
    Order.LOSS: scores.c.loss,
    Order.MARGIN: scores.c.margin,
    Order.COMBINED: scores.c.combined,
    Order.CONFIDENT_WRONG: scores.c.confident_wrong,
    Order.NEIGHBOURS: scores.c.neighbours,
}


class Listed(IntEnum):
    """Where a scored sample stands in its version's list."""

    OUT = 0  # its label is no class of the version
    PENDING = 1
    DECIDED = 2


class Standing(Protocol):
    """What is said of a sample, as `decisions.Standing` has it."""

    @property
    def class_id(self) -> int: ...
    @property
    def decision_id(self) -> str | None: ...
    @property
    def excluded(self) -> bool: ...


class Source(StrEnum):
    """Who scored a sample, and why that is held out."""

    FOLDS = "folds"  # a model of the other folds
    VALID = "valid"  # the version itself: the sample is of the validation split
    NEWCOMER = "newcomer"  # the version itself: the sample came after its snapshot


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """Held-out probabilities of samples, and which others they are near to."""

    ids: Sequence[str]
    probabilities: Probabilities  # float32, (n, classes of the version), rows sum to 1
    folds: Sequence[int] | None = None  # that held each out
    neighbours: Neighbours | None = None  # of each, among `known`
    known: Sequence[str] = ()  # ids


def keep(
    connection: Connection, version: str, opinion: Opinion, learned: Iterable[str] = ()
) -> None:
    """Record what a version that has just been made says of the pool, under today's labels. Samples
    of test, and those whose label is no class of the version, are left out: they stay unscored.

    Args:
        learned: ids of all samples that the version was made from: what came after them, the
            version itself may score.
    """
    one_at_a_time(connection)
    space = Space.of(connection, version)
    found = _Found.of(connection, opinion.ids, space)
    merged = space.merged(opinion.probabilities[found.rows])
    scale = Scale.of(merged, found.places)
    newest = max(
        (
            connection.execute(
                select(func.max(samples.c.seq)).where(samples.c.id.in_(some))
            ).scalar()
            or 0
            for some in chunks(learned, IN_A_QUERY)
        ),
        default=0,
    )
    made = connection.execute(
        scorings.insert().values(
            version=version,
            thresholds=list(zip(space.class_ids, scale.thresholds.tolist(), strict=True)),
            loss_knots=scale.knots[0].tolist(),
            margin_knots=scale.knots[1].tolist(),
            newest=max(newest, int(found.seqs.max(initial=0))),
        )
    ).inserted_primary_key
    assert made is not None
    source = Source.VALID if opinion.folds is None else Source.FOLDS
    _write(connection, made[0], space, scale, opinion, found, source)


def add(connection: Connection, scoring: Row[Any], opinion: Opinion, *, up_to: int) -> int:
    """Record what a version says of samples that came after its snapshot; returns how many of them
    its list has now: none, when another process was faster.

    Args:
        scoring: of `scoring_of`.
        up_to: the newest sample that was looked at, whether it could be scored or not.
    """
    one_at_a_time(connection)
    this = scorings.c.id == scoring.id
    newest = connection.execute(select(scorings.c.newest).where(this)).scalar()
    if newest != scoring.newest:
        return 0
    space = Space.of(connection, scoring.version)
    found = _Found.of(connection, opinion.ids, space)
    _write(connection, scoring.id, space, space.scale(scoring), opinion, found, Source.NEWCOMER)
    connection.execute(scorings.update().where(this).values(newest=up_to))
    return len(found.seqs)


def scoring_of(connection: Connection, version: str) -> Row[Any] | None:
    """The row of what a version says of the pool; None when it was never asked."""
    return connection.execute(select(scorings).where(scorings.c.version == version)).first()


def follow(
    connection: Connection, sample: Row[Any], standing: Standing, *, relabelled: bool
) -> None:
    """A sample was decided, or a decision taken back: in every version's list it stands where it
    belongs, and under another label it is scored anew. Under a label that a version does not know
    it is in no list of that version, until its label is one of them again.

    Args:
        sample: its row, as it was before.
    """
    seen = _evidence(connection, [standing.decision_id]).get(standing.decision_id)
    counts: Counter[Cell] = Counter()
    for row in connection.execute(select(scores).where(scores.c.sample_seq == sample.seq)).all():
        new: dict[str, Any] = {**row._asdict(), "class_id": standing.class_id}
        if relabelled:
            this = scorings.c.id == row.scoring
            scoring = connection.execute(select(scorings).where(this)).one()
            space = Space.of(connection, scoring.version)
            if standing.class_id in space.place:
                scale = space.scale(scoring)
                new |= _again(connection, row, space, scale, standing.class_id)
                new |= _stands(new, standing.decision_id, standing.excluded, seen)
            else:
                new |= {"listed": Listed.OUT, "returned": False}
        elif row.listed != Listed.OUT:
            new |= _stands(new, standing.decision_id, standing.excluded, seen)
        _change(connection, row, new, counts)
    tally.shift(connection, counts)


def follow_merge(connection: Connection, kept: int) -> None:
    """Another class has become one with `kept`: so do their probabilities, in every version that
    knew either. It looks at every sample of every version, which for a million takes a minute."""
    counts: Counter[Cell] = Counter()
    for scoring in connection.execute(select(scorings)).all():
        space = Space.of(connection, scoring.version)
        knew = kept in space.place
        scale = space.scale(scoring)
        last = 0
        while rows := connection.execute(
            select(
                scores, samples.c.class_id.label("today"), samples.c.decision_id, samples.c.state
            )
            .join(samples, samples.c.seq == scores.c.sample_seq)
            .where((scores.c.scoring == scoring.id) & (scores.c.sample_seq > last))
            .order_by(scores.c.sample_seq)
            .limit(AT_ONCE)
        ).all():
            last = rows[-1].sample_seq
            back = [row.decision_id for row in rows if row.listed == Listed.OUT]
            seen = _evidence(connection, back)
            for row in rows:
                if not knew and row.class_id == row.today:
                    continue
                new: dict[str, Any] = {**row._asdict(), "class_id": row.today}
                if row.today in space.place:
                    new |= _again(connection, row, space, scale, row.today)
                    if row.listed == Listed.OUT:
                        excluded = row.state == EXCLUDED
                        new |= _stands(new, row.decision_id, excluded, seen.get(row.decision_id))
                else:
                    new |= {"listed": Listed.OUT, "returned": False}
                _change(connection, row, new, counts)
    tally.shift(connection, counts)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Those of some samples that a version's list can have."""

    rows: npt.NDArray[np.intp]  # (m,), which of them
    seqs: npt.NDArray[np.int64]  # (m,)
    places: Labels  # (m,), of their labels among the version's classes
    splits: list[str]
    decisions: list[str | None]  # the events that stand
    excluded: list[bool]

    @classmethod
    def of(cls, connection: Connection, ids: Sequence[str], space: Space) -> "_Found":
        rows, seqs, places, splits, decisions, excluded = [], [], [], [], [], []
        wanted = (
            samples.c.id,
            samples.c.seq,
            samples.c.class_id,
            samples.c.split,
            samples.c.decision_id,
            samples.c.state,
        )
        start = 0
        for some in chunks(ids, IN_A_QUERY):
            query = select(*wanted).where(samples.c.id.in_(some))
            known = {row.id: row for row in connection.execute(query)}
            for number, sample_id in enumerate(some, start):
                row = known[sample_id]
                if row.split == "test" or row.class_id not in space.place:
                    continue
                rows.append(number)
                seqs.append(row.seq)
                places.append(space.place[row.class_id])
                splits.append(row.split)
                decisions.append(row.decision_id)
                excluded.append(row.state == EXCLUDED)
            start += len(some)
        return cls(
            rows=np.array(rows, np.intp),
            seqs=np.array(seqs, np.int64),
            places=np.array(places, np.intp),
            splits=splits,
            decisions=decisions,
            excluded=excluded,
        )


def _write(
    connection: Connection,
    scoring: int,
    space: Space,
    scale: Scale,
    opinion: Opinion,
    found: _Found,
    source: Source,
) -> None:
    near_seqs, near_classes = _seqs_and_classes(connection, opinion.known)
    for start in range(0, len(found.rows), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        rows, places = found.rows[some], found.places[some]
        given = opinion.probabilities[rows]
        nearest: list[bytes | None] = [None] * len(rows)
        by_neighbours = np.full(len(rows), UNKNOWN)
        if opinion.neighbours is not None:
            near = np.empty(opinion.neighbours.places[rows].shape, NEAR)
            near["seq"] = near_seqs[opinion.neighbours.places[rows]]
            near["cosine"] = opinion.neighbours.cosines[rows]
            classes = near_classes[opinion.neighbours.places[rows]]
            own = np.array(space.class_ids)[places]
            by_neighbours = _disagreement(near["cosine"], classes == own[:, None])
            nearest = [row.tobytes() for row in near]
        numbers = _numbers(space, scale, space.merged(given), places, by_neighbours)
        written = [
            {
                "scoring": scoring,
                "sample_seq": seq,
                "split": split,
                "class_id": space.class_ids[place],
                **{column: values[row] for column, values in numbers.items()},
                "source": source,
                "fold": None if opinion.folds is None else int(opinion.folds[rows[row]]),
                "probabilities": given[row].astype("<f4").tobytes(),
                "nearest": nearest[row],
                "listed": Listed.PENDING,
                "returned": False,
            }
            for row, (seq, place, split) in enumerate(
                zip(found.seqs[some].tolist(), places.tolist(), found.splits[some], strict=True)
            )
        ]
        _stand_decided(connection, written, found.decisions[some], found.excluded[some])
        connection.execute(scores.insert(), written)
        counts = Counter(_cell(scoring, row) for row in written)
        tally.shift(connection, counts)


def _stand_decided(
    connection: Connection,
    written: list[dict[str, Any]],
    decisions: Sequence[str | None],
    excluded: Sequence[bool],
) -> None:
    seen = _evidence(connection, decisions)
    for row, decision_id, out in zip(written, decisions, excluded, strict=True):
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
    """How a sample stands in a list: what was decided stays so, unless the evidence against it has
    grown much. What was excluded says nothing of a label."""
    if decision_id is None:
        return {"listed": Listed.PENDING, "returned": False}
    grown = row["loss"] - (seen or {}).get("loss_after", math.inf)
    differs = row["predicted_class_id"] != row["class_id"]
    returned = not excluded and differs and grown >= MUCH
    return {"listed": Listed.PENDING if returned else Listed.DECIDED, "returned": returned}


def _again(
    connection: Connection, row: Row[Any], space: Space, scale: Scale, class_id: int
) -> dict[str, Any]:
    """The numbers of a sample under another label, or in other classes."""
    given = np.frombuffer(row.probabilities, "<f4")[None]
    by_neighbours = np.array([UNKNOWN])
    if row.nearest is not None:
        near = np.frombuffer(row.nearest, NEAR)
        these = samples.c.seq.in_(near["seq"].tolist())
        query = select(samples.c.seq, samples.c.class_id).where(these)
        today = {row.seq: row.class_id for row in connection.execute(query)}
        same = np.array([today.get(seq) == class_id for seq in near["seq"].tolist()])
        by_neighbours = _disagreement(near["cosine"][None], same[None])
    places = np.array([space.place[class_id]])
    numbers = _numbers(space, scale, space.merged(given), places, by_neighbours)
    return {column: values[0] for column, values in numbers.items()}


def _numbers(
    space: Space, scale: Scale, shares: Probabilities, places: Labels, by_neighbours: Scores
) -> dict[str, list[Any]]:
    """What the columns of the table have of each sample."""
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


def _disagreement(cosines: npt.NDArray[np.float16], same: npt.NDArray[np.bool_]) -> Scores:
    """As `orders.neighbours` has it, (n,)."""
    weights = np.maximum(cosines.astype(float), LEAST_VOTE)
    shares: Scores = 1 - (weights * same).sum(axis=1) / weights.sum(axis=1)
    return shares


def _change(
    connection: Connection, row: Row[Any], new: dict[str, Any], counts: Counter[Cell]
) -> None:
    """Write what is new of a row; `counts` hears of it."""
    before = row._asdict()
    changed = {name: new[name] for name in scores.c.keys() if new[name] != before[name]}  # noqa: SIM118  # of columns
    if not changed:
        return
    where = (scores.c.scoring == row.scoring) & (scores.c.sample_seq == row.sample_seq)
    connection.execute(scores.update().where(where).values(**changed))
    counts[_cell(row.scoring, before)] -= 1
    counts[_cell(row.scoring, new)] += 1


def _cell(scoring: int, row: dict[str, Any]) -> Cell:
    return (scoring, int(row["listed"]), row["split"], row["class_id"], row["predicted_class_id"])


def _seqs_and_classes(
    connection: Connection, ids: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of each sample; −1 where there is none of that id any more."""
    seqs, class_ids = np.full((2, len(ids)), -1, np.int64)
    start = 0
    for some in chunks(ids, IN_A_QUERY):
        query = select(samples.c.id, samples.c.seq, samples.c.class_id)
        known = {row.id: row for row in connection.execute(query.where(samples.c.id.in_(some)))}
        for number, sample_id in enumerate(some, start):
            if sample_id in known:
                seqs[number] = known[sample_id].seq
                class_ids[number] = known[sample_id].class_id
        start += len(some)
    return seqs, class_ids


def chunks(items: Iterable[str], size: int) -> Iterator[list[str]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
