"""How many samples a list has, by what they are and how they stand: kept as they change, because to
count a million takes longer than to show a page of them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, select, text

from toploss.schema import tallies

# scoring, how it stands in the list, split, id of the given class, id of the predicted one
Cell = tuple[int, int, str, int, int]

_SHIFT = text(
    "INSERT INTO tallies (scoring, listed, split, class_id, predicted_class_id, samples) "
    "VALUES (:scoring, :listed, :split, :class_id, :predicted_class_id, :samples) "
    "ON CONFLICT (scoring, listed, split, class_id, predicted_class_id) "
    "DO UPDATE SET samples = tallies.samples + excluded.samples"
)


@dataclass(frozen=True)
class Pair:
    """Samples given as one class and predicted as another, or the same."""

    class_id: int
    predicted_class_id: int
    samples: int


def shift(connection: Connection, counts: Counter[Cell]) -> None:
    """Add to the counts, or take away."""
    columns = "scoring", "listed", "split", "class_id", "predicted_class_id"
    rows = [
        {**dict(zip(columns, cell, strict=True)), "samples": number}
        for cell, number in sorted(counts.items())
        if number
    ]
    if rows:
        connection.execute(_SHIFT, rows)


def total(connection: Connection, where: ColumnElement[bool]) -> int:
    """How many scored samples there are of the kinds that a condition on `tallies` takes."""
    query = select(func.coalesce(func.sum(tallies.c.samples), 0)).where(where)
    return int(connection.execute(query).scalar_one())


def pairs(connection: Connection, where: ColumnElement[bool], limit: int) -> Sequence[Pair]:
    """Given and predicted class, the most frequent first."""
    number = func.sum(tallies.c.samples)
    kinds = tallies.c.class_id, tallies.c.predicted_class_id
    query = (
        select(*kinds, number)
        .where(and_(where, tallies.c.samples > 0))
        .group_by(*kinds)
        .order_by(number.desc(), *kinds)
        .limit(limit)
    )
    return [Pair(*map(int, row)) for row in connection.execute(query)]
