"""Near-duplicates among the samples, found by an index.

A newcomer joins the group of the sample it is nearest to, and so its split.
"""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, select

from toploss import likeness, preprocess
from toploss.database import by_index
from toploss.errors import ToplossError
from toploss.home import Home
from toploss.likeness import BANDS, SAME, Likeness
from toploss.schema import likenesses, samples
from toploss.splits import Split

# Who has more than so many near-duplicates has none: such pictures are alike by their making (a
# fixed camera, a flat-bed scanner), and one group of them all would swallow a class.
MANY = 50
# What a look-up weighs at most: pictures alike by the thousand would make an import quadratic.
CANDIDATES = 2000
BATCH = 256  # samples of one transaction, when likenesses are filled in


@dataclass(frozen=True, kw_only=True)
class Near:
    """A sample that shows the same picture."""

    seq: int
    id: str
    group: str
    split: Split
    class_id: int
    state: str
    quarantined: bool
    similarity: float  # SAME to 1


_PICTURES = select(samples, likenesses).join(likenesses, likenesses.c.sample_seq == samples.c.seq)


def near(connection: Connection, like: Likeness, *, but: int | None = None) -> list[Near]:
    """The samples that show the same picture, nearest first, then oldest; none when more than
    `MANY` do.

    Args:
        but: the sequence number of the sample itself.
    """
    if like.bands is None:
        return []
    with by_index(connection):
        candidates = connection.exec_driver_sql(_candidates(like.bands)).all()
    close = [
        seq
        for seq, *bands in candidates
        if seq != but and likeness.distance(like.bands, bands) <= likeness.RADIUS
    ]
    if not close:
        return []
    found = []
    for row in connection.execute(_PICTURES.where(samples.c.seq.in_(close))):
        similarity = likeness.similarity(like, _likeness(row))
        if similarity >= SAME:
            found.append(_near(row, similarity))
    if len(found) > MANY:
        return []
    return sorted(found, key=lambda one: (-one.similarity, one.seq))


def _candidates(bands: Sequence[int]) -> str:
    """The query for the hashes that share a band, nearly. Multi-index hashing (Norouzi, Punjani and
    Fleet, 2012). Hundreds of numbers: written down as they are it takes a third of the time."""
    places = (
        f"band_{number} IN ({', '.join(map(str, near))})"
        for number, near in enumerate(likeness.probes(bands))
    )
    columns = ", ".join(f"band_{number}" for number in range(len(BANDS)))
    return (
        f"SELECT sample_seq, {columns} FROM likenesses "  # noqa: S608  # of integers alone
        f"WHERE {' OR '.join(places)} LIMIT {CANDIDATES}"
    )


def to_join(found: list[Near], among: Collection[Split]) -> Near | None:
    """Whose group a newcomer joins: the nearest sample's of these splits."""
    return next((one for one in found if one.split in among), None)


def keep(connection: Connection, seq: int, like: Likeness) -> None:
    """Write a sample's likeness down."""
    bands = like.bands or (None,) * len(BANDS)
    named = {f"band_{number}": band for number, band in enumerate(bands)}
    connection.execute(likenesses.insert().values(sample_seq=seq, points=like.points, **named))


def fill(home: Home) -> None:
    """Give a likeness to samples that have none: those from before 0.2.0. One whose bytes are
    missing or damaged stays without."""
    query = select(samples.c.seq, samples.c.id).outerjoin(
        likenesses, likenesses.c.sample_seq == samples.c.seq
    )
    with home.db.read() as connection:
        lacking = connection.execute(
            query.where(likenesses.c.sample_seq.is_(None), samples.c.state != "erased")
        ).all()
    if not lacking:
        return
    rest = iter(lacking)
    with ThreadPoolExecutor(home.settings.thread_count) as pool:
        while batch := list(islice(rest, BATCH)):
            made = pool.map(lambda row: _look(home, row.id), batch)
            _keep_all(home, {row.seq: like for row, like in zip(batch, made, strict=True) if like})


def pairs(connection: Connection) -> Iterator[tuple[Row[Any], Near]]:
    """Every pair of near-duplicates once: the row of the later one, and the earlier one."""
    for row in connection.execute(_PICTURES.order_by(samples.c.seq)).all():
        for one in near(connection, _likeness(row), but=row.seq):
            if one.seq < row.seq:
                yield row, one


def _near(row: Row[Any], similarity: float) -> Near:
    return Near(
        seq=row.seq,
        id=row.id,
        group=row.group_id,
        split=Split(row.split),
        class_id=row.class_id,
        state=row.state,
        quarantined=row.quarantined_by is not None,
        similarity=similarity,
    )


def _likeness(row: Row[Any]) -> Likeness:
    bands = (row.band_0, row.band_1, row.band_2)
    return Likeness(bands=None if None in bands else bands, points=row.points)


def _look(home: Home, sample_id: str) -> Likeness | None:
    try:
        data = home.blobs.get_image(sample_id)
        return likeness.of(preprocess.read(data, home.limits)[1])
    except ToplossError:
        return None


def _keep_all(home: Home, made: dict[int, Likeness]) -> None:
    with home.db.write() as connection:
        known = select(likenesses.c.sample_seq).where(likenesses.c.sample_seq.in_(list(made)))
        there = set(connection.execute(known).scalars())  # another process fills them in too
        for seq in made.keys() - there:
            keep(connection, seq, made[seq])
