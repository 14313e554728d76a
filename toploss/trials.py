"""What versions called the samples of the holdout, and how often that is right by today's labels.

An answer is kept as a class, so that a label which is corrected says at once what it makes of every
version. The counts change with the labels: to count a holdout anew takes longer than to show it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from toploss import classes, holdout, models
from toploss.figures import IN_A_QUERY, chunks
from toploss.intervals import Interval, wilson
from toploss.models import Version
from toploss.schema import holdout_answers as answers
from toploss.schema import holdout_tallies as tallies
from toploss.schema import samples
from toploss.scoring import ACTIVE, Standing
from toploss.space import Space

KEPT = 6  # versions whose answers are, beside production's
AT_ONCE = 5000  # rows in memory


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Versions before the same samples of the holdout."""

    ids: Sequence[str]
    called: Mapping[str, Sequence[int]]  # version → the class of each, by its id


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A version on the holdout, by the labels of then and of today."""

    version: str
    production: bool
    at_training: dict[str, Any] | None  # accuracy, loss (nats) and samples, by its snapshot
    today: dict[str, Any]  # accuracy and samples: of those it answered that still take part
    interval: Interval | None  # of today's accuracy: 95 %, Wilson's


def keep(connection: Connection, trial: Trial) -> None:
    """Record what versions have answered, in the place of what they answered before. Where there
    are two, the queue of the holdout is made of what they differ on."""
    known = classes.load(connection)
    rows = _rows(connection, trial.ids)
    called = {
        version: [known.ids[known.names[class_id]] for class_id in each]
        for version, each in trial.called.items()
    }
    for version, each in called.items():
        _write(connection, version, rows, each)
    if len(called) == 2:
        _ask(connection, called, rows)
    _forget(connection)


def follow(connection: Connection, sample: Row[Any], standing: Standing) -> None:
    """A sample of test has another label, or takes part no longer, or again.

    Args:
        sample: its row, as it was before.
    """
    before = sample.class_id if sample.state == ACTIVE else None
    after = None if standing.excluded else standing.class_id
    if before == after:
        return
    query = select(answers.c.version, answers.c.class_id)
    for version, said in connection.execute(query.where(answers.c.sample_seq == sample.seq)).all():
        connection.execute(
            tallies.update()
            .where(tallies.c.version == version)
            .values(
                samples=tallies.c.samples + int(after is not None) - int(before is not None),
                hits=tallies.c.hits + int(said == after) - int(said == before),
            )
        )


def merge(connection: Connection, gone: int, kept: int) -> None:
    """Two classes have become one, in the answers and in the labels. It looks at every answer."""
    connection.execute(answers.update().where(answers.c.class_id == gone).values(class_id=kept))
    recount(connection)


def recount(connection: Connection) -> None:
    """Every version, anew from the answers."""
    for version in connection.execute(select(tallies.c.version)).scalars().all():
        _count(connection, version)


def measured(connection: Connection) -> list[Measured]:
    """Production and the versions that were made last, newest first."""
    alias = models.standing(connection)
    counts = {row.version: row for row in connection.execute(select(tallies))}
    production = alias.version if alias else None
    names = sorted({*counts, *([production] if production else [])}, reverse=True)
    return [
        _measured(models.found(connection, name), counts.get(name), name == production)
        for name in names
    ]


def _measured(version: Version, count: Row[Any] | None, production: bool) -> Measured:
    number, hits = (count.samples, count.hits) if count else (0, 0)
    return Measured(
        version=version.name,
        production=production,
        at_training=_at_training(version.manifest),
        today={"accuracy": hits / number if number else None, "samples": number},
        interval=wilson(hits, number) if number else None,
    )


def _at_training(manifest: dict[str, Any]) -> dict[str, Any] | None:
    found = manifest.get("metrics", {}).get("test")
    counts = manifest.get("snapshot", {}).get("counts", {}).get("test", {})
    return found and {**found, "samples": sum(counts.values())}


def _ask(connection: Connection, called: dict[str, list[int]], rows: Sequence[Any]) -> None:
    """A class that one of the versions does not know is no difference between them."""
    both = set.intersection(*(set(Space.of(connection, name).class_ids) for name in called))
    pairs = [
        (row.seq, one == other)
        for row, one, other in zip(rows, *called.values(), strict=True)
        if row is not None and {one, other} <= both
    ]
    holdout.ask(
        connection,
        differing=[seq for seq, same in pairs if not same],
        agreeing=[seq for seq, same in pairs if same],
    )


def _rows(connection: Connection, ids: Sequence[str]) -> list[Row[Any] | None]:
    """Of each sample; None where there is none of that id any more."""
    found: dict[str, Row[Any]] = {}
    for some in chunks(ids, IN_A_QUERY):
        query = select(samples.c.id, samples.c.seq).where(samples.c.id.in_(some))
        found |= {row.id: row for row in connection.execute(query)}
    return [found.get(sample_id) for sample_id in ids]


def _write(
    connection: Connection, version: str, rows: Sequence[Row[Any] | None], called: Sequence[int]
) -> None:
    connection.execute(answers.delete().where(answers.c.version == version))
    written = [
        {"version": version, "sample_seq": row.seq, "class_id": class_id}
        for row, class_id in zip(rows, called, strict=True)
        if row is not None
    ]
    for start in range(0, len(written), AT_ONCE):
        connection.execute(answers.insert(), written[start : start + AT_ONCE])
    _count(connection, version)


def _count(connection: Connection, version: str) -> None:
    """Anew, from the answers."""
    right = (samples.c.state == ACTIVE) & (samples.c.class_id == answers.c.class_id)
    number, hits = connection.execute(
        select(
            func.count().filter(samples.c.state == ACTIVE),
            func.count().filter(right),
        )
        .join_from(answers, samples, samples.c.seq == answers.c.sample_seq)
        .where(answers.c.version == version)
    ).one()
    connection.execute(tallies.delete().where(tallies.c.version == version))
    connection.execute(tallies.insert().values(version=version, samples=number, hits=hits))


def _forget(connection: Connection) -> None:
    """Drop the answers of versions that are neither production nor among the newest."""
    alias = models.standing(connection)
    newest = connection.execute(select(tallies.c.version).order_by(tallies.c.version.desc()))
    for version in newest.scalars().all()[KEPT:]:
        if alias is None or version != alias.version:
            for table in (answers, tallies):
                connection.execute(table.delete().where(table.c.version == version))
