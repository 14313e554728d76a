"""Held-out losses, and the list of the samples that the model was most wrong about."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select

from toploss import classes, models
from toploss.home import Home
from toploss.schema import classes as class_table
from toploss.schema import samples, scores, versions

ReviewState = Literal["pending", "decided", "all"]


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which samples of the list."""

    label: str | None = None  # today's
    predicted: str | None = None
    split: str | None = None  # None: train and valid
    state: ReviewState = "pending"


@dataclass(frozen=True, kw_only=True)
class Item:
    """A sample in the review list."""

    id: str
    rank: int  # place in the list that was asked for, from 1
    label: str  # today's
    predicted: str
    confidence: float  # probability of the predicted class
    loss: float  # −log probability of today's label in nats; higher is more suspicious
    score: float  # what the list is ordered by, highest first
    fold: int | None
    held_out: bool  # the model that gave the loss did not learn from the sample
    split: str
    state: str  # pending, decided
    decision: str | None  # the one that stands
    revision: int
    seq: int  # order of arrival; ties are broken by it

    def as_json(self) -> dict[str, Any]:
        shown = asdict(self)
        del shown["seq"]
        return shown


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a page of the list begins: after this item."""

    loss: float
    seq: int
    rank: int


def keep(
    connection: Connection,
    version: str,
    sample_ids: Sequence[str],
    probabilities: npt.NDArray[np.float32],
    *,
    held_out: bool = True,
    folds: Sequence[int] | None = None,
) -> None:
    """Record a version's probabilities for samples, with the loss under today's labels.

    Samples whose label is no class of the version are left out: they stay unscored.

    Args:
        probabilities: float32, (n, classes of the version), rows sum to 1.
        folds: the one that each sample was held out in; None: it was so as one of a split.
    """
    class_ids = _class_ids(connection, version)
    found = {
        row.id: row
        for chunk in _chunks(sample_ids, 500)
        for row in connection.execute(
            select(samples.c.id, samples.c.seq, samples.c.class_id).where(samples.c.id.in_(chunk))
        )
    }
    rows = []
    which = [None] * len(sample_ids) if folds is None else [int(fold) for fold in folds]
    for sample_id, p, fold in zip(sample_ids, probabilities, which, strict=True):
        sample = found[sample_id]
        if sample.class_id not in class_ids:
            continue
        rows.append(
            {
                "version": version,
                "sample_seq": sample.seq,
                **_scored(p, class_ids, sample.class_id),
                "probabilities": p.astype("<f4").tobytes(),
                "fold": fold,
                "held_out": held_out,
            }
        )
    if rows:
        connection.execute(scores.insert(), rows)


def rescore(connection: Connection, sample_seq: int, class_id: int) -> None:
    """A sample has another label: its losses under every version that knows the class follow.
    Under the others it is unscored, until its label is one of theirs again."""
    for row in connection.execute(select(scores).where(scores.c.sample_seq == sample_seq)).all():
        _rescore(connection, row, _class_ids(connection, row.version), class_id)


def follow_merge(connection: Connection, kept: int) -> None:
    """Another class has become one with `kept`: so do their probabilities, in every version that
    knew either."""
    for (version,) in connection.execute(select(versions.c.name)).all():
        today = _class_ids(connection, version)
        if kept not in today:
            continue
        query = select(scores, samples.c.class_id).where(scores.c.version == version)
        for row in connection.execute(
            query.join(samples, samples.c.seq == scores.c.sample_seq)
        ).all():
            _rescore(connection, row, today, row.class_id)


def top(
    home: Home, which: Filter | None = None, *, limit: int = 50, after: Place | None = None
) -> tuple[list[Item], int, str | None]:
    """A page of the review list: highest held-out loss first.

    Returns:
        The items; how many the whole list has; the version whose losses these are (production's,
        else the newest; None when nothing has been trained).

    Raises:
        UnknownLabel: the filter names no class.
    """
    with home.db.read() as connection:
        version = scoring_version(connection)
        if version is None:
            return [], 0, None
        known = classes.load(connection)
        where = _is_scored(connection, version) & _where(which or Filter(), known)
        source = scores.join(samples, samples.c.seq == scores.c.sample_seq)
        total = connection.execute(select(func.count()).select_from(source).where(where)).scalar()
        query = select(scores, samples).select_from(source).where(where)
        if after is not None:
            query = query.where(
                or_(
                    scores.c.loss < after.loss,
                    and_(scores.c.loss == after.loss, scores.c.sample_seq > after.seq),
                )
            )
        query = query.order_by(scores.c.loss.desc(), scores.c.sample_seq).limit(limit)
        first = (after.rank if after else 0) + 1
        rows = connection.execute(query).all()
        items = [
            Item(
                id=row.id,
                rank=rank,
                label=known.names[row.class_id],
                predicted=known.names[row.predicted_class_id],
                confidence=row.confidence,
                loss=row.loss,
                score=row.loss,
                fold=row.fold,
                held_out=row.held_out,
                split=row.split,
                state="decided" if row.decision else "pending",
                decision=row.decision,
                revision=row.revision,
                seq=row.seq,
            )
            for rank, row in enumerate(rows, start=first)
        ]
        return items, int(total or 0), version


def scoring_version(connection: Connection) -> str | None:
    """The version whose losses are reviewed: production's, else the newest."""
    standing = models.standing(connection)
    if standing is not None:
        return standing.version
    newest = connection.execute(
        select(versions.c.name).order_by(versions.c.created_at.desc()).limit(1)
    ).scalar()
    return None if newest is None else str(newest)


def evidence(
    connection: Connection, sample_seq: int, known: classes.Classes
) -> dict[str, Any] | None:
    """What the list showed of a sample: version, loss, prediction; None when it was not scored."""
    version = scoring_version(connection)
    if version is None:
        return None
    row = connection.execute(
        select(scores)
        .join(samples, samples.c.seq == scores.c.sample_seq)
        .where((scores.c.sample_seq == sample_seq) & _is_scored(connection, version))
    ).first()
    if row is None:
        return None
    return {
        "version": version,
        "loss": row.loss,
        "predicted": known.names[row.predicted_class_id],
        "confidence": row.confidence,
    }


def nats(probability: float) -> float:
    """−log of a probability; a probability that rounded to 0 counts as float32's smallest."""
    # Sums of probabilities round to more than 1.
    return float(-np.log(min(max(probability, float(np.finfo(np.float32).tiny)), 1.0)))


def _is_scored(connection: Connection, version: str) -> ColumnElement[bool]:
    """The version knows the sample's label of today."""
    known = samples.c.class_id.in_(_class_ids(connection, version))
    return and_(scores.c.version == version, known)


def _where(which: Filter, known: classes.Classes) -> ColumnElement[bool]:
    conditions = [
        samples.c.split != "test" if which.split is None else samples.c.split == which.split
    ]
    if which.label is not None:
        conditions.append(samples.c.class_id == known.id_of(which.label))
    if which.predicted is not None:
        conditions.append(scores.c.predicted_class_id == known.id_of(which.predicted))
    if which.state == "pending":
        conditions.append(samples.c.decision.is_(None))
    elif which.state == "decided":
        conditions.append(samples.c.decision.is_not(None))
    return and_(*conditions)


def _class_ids(connection: Connection, version: str) -> list[int]:
    """Of each output of the version, the class it stands for today: merged ones stand for one."""
    found = connection.execute(select(versions.c.class_ids).where(versions.c.name == version))
    gone = connection.execute(select(class_table).where(class_table.c.merged_into.is_not(None)))
    merged = {row.id: row.merged_into for row in gone}
    return [merged.get(class_id, class_id) for class_id in found.scalar_one()]


def _scored(
    p: npt.NDArray[np.float32], class_ids: Sequence[int], class_id: int
) -> dict[str, float | int]:
    """Prediction and loss under a label, from probabilities in the order of `class_ids`."""
    shares: dict[int, float] = {}
    for known, share in zip(class_ids, p.tolist(), strict=True):
        shares[known] = shares.get(known, 0.0) + share
    best = max(shares, key=lambda known: shares[known])
    return {
        "predicted_class_id": best,
        "confidence": min(shares[best], 1.0),
        "loss": nats(shares[class_id]),
    }


def _rescore(
    connection: Connection, row: Row[Any], class_ids: Sequence[int], class_id: int
) -> None:
    if class_id in class_ids:
        connection.execute(
            scores.update()
            .where((scores.c.version == row.version) & (scores.c.sample_seq == row.sample_seq))
            .values(_scored(np.frombuffer(row.probabilities, "<f4"), class_ids, class_id))
        )


def _chunks(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (items[start : start + size] for start in range(0, len(items), size))
