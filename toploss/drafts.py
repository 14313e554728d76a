"""What a new version says of the pool, before the version is published: written in batches, so that
nobody waits long, and seen by no reader until all of it is there.

Labels may change between two batches. What is written follows them like every version's scores;
what is not yet written will be under the labels of then. A draft whose trainer has died is never
shown; `toploss.upkeep` removes it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Row, func, select

from toploss import attempts
from toploss.attempts import Lease
from toploss.database import one_at_a_time
from toploss.figures import IN_A_QUERY, chunks
from toploss.home import Home
from toploss.orders import Scale
from toploss.schema import samples, scorings, versions
from toploss.scoring import Near, Opinion, Pool, Source, State, Writer
from toploss.space import Space

AT_ONCE = 2000  # samples in one transaction: about a third of a second


def write(
    home: Home,
    version: str,
    opinion: Opinion,
    learned: Iterable[str] = (),
    *,
    class_ids: Iterable[int] | None = None,
    began: int = 0,
    lease: Lease | None = None,
    heard: Callable[[float], None] = lambda _: None,
) -> None:
    """Record what a version that has just been made says of the pool. Samples of test, and those
    whose label is no class of the version, are left out: they stay unscored.

    Args:
        learned: ids of all samples that the version was made from: what came after them, the
            version itself may score.
        class_ids: of its outputs; None: it is published, and says so itself.
        began: the newest sample that the network which the version began with may have learned
            from: it may be in no data of today.
        lease: of the attempt that made it.
        heard: hears after every batch how much is done, 0 to 1; may raise.

    Raises:
        Fenced: the run is another attempt's by now; what is written is never shown.
    """
    with home.db.read() as connection:
        outputs = _outputs(connection, version) if class_ids is None else tuple(class_ids)
        space = Space.of_outputs(connection, outputs)
        pool = Pool.of(connection, opinion.ids, space)
        near = Near.of(connection, opinion.known)
        learned_upto = max(began, newest_of(connection, learned))
    scale = Scale.of(space.merged(opinion.probabilities[pool.rows]), pool.places(space))
    with _step(home, lease) as connection:
        made = connection.execute(
            scorings.insert().values(
                version=version,
                thresholds=list(zip(space.class_ids, scale.thresholds.tolist(), strict=True)),
                loss_knots=scale.knots[0].tolist(),
                margin_knots=scale.knots[1].tolist(),
                newest=max(learned_upto, int(pool.seqs.max(initial=0))),
                learned=learned_upto,
                state=State.DRAFT,
                run_id=lease and lease.run,
                fence=lease and lease.fence,
                class_ids=list(outputs),
            )
        ).inserted_primary_key
        assert made is not None
        row = connection.execute(select(scorings).where(scorings.c.id == made[0])).one()
    source = Source.VALID if opinion.folds is None else Source.FOLDS
    for start in range(0, len(pool.seqs), AT_ONCE):
        home.db.give_way()
        with _step(home, lease) as connection:
            Writer(
                scoring=row,
                space=Space.of_outputs(connection, outputs),
                opinion=opinion,
                pool=pool,
                near=near,
                source=source,
            ).write(connection, slice(start, start + AT_ONCE))
        heard(min(1.0, (start + AT_ONCE) / len(pool.seqs)))


def publish(connection: Connection, version: str) -> None:
    """From here on it is the version's list. In the transaction that publishes the version, which
    checks the lease."""
    this = (scorings.c.version == version) & (scorings.c.state == State.DRAFT)
    ready = {"state": State.READY, "run_id": None, "fence": None, "class_ids": None}
    written = connection.execute(scorings.update().where(this).values(**ready)).rowcount
    assert written == 1, f"nothing was written of {version}"


def learned_by(connection: Connection, version: str) -> int:
    """The newest sample that a version may have learned from, itself or what it began with."""
    query = select(func.coalesce(scorings.c.learned, scorings.c.newest))
    return connection.execute(query.where(scorings.c.version == version)).scalar() or 0


def dead(connection: Connection, draft: Row[Any]) -> bool:
    """Whether nobody writes it any more."""
    return draft.run_id is not None and not attempts.holds(
        connection, Lease(run=draft.run_id, fence=draft.fence)
    )


@contextmanager
def _step(home: Home, lease: Lease | None) -> Iterator[Connection]:
    with home.db.write() as connection:
        one_at_a_time(connection)
        if lease is not None:
            attempts.owned(connection, lease)
        yield connection


def _outputs(connection: Connection, version: str) -> tuple[int, ...]:
    found = connection.execute(select(versions.c.class_ids).where(versions.c.name == version))
    return tuple(found.scalar_one())


def newest_of(connection: Connection, ids: Iterable[str]) -> int:
    """The number of the sample that came last."""
    newest = 0
    for some in chunks(ids, IN_A_QUERY):
        query = select(func.max(samples.c.seq)).where(samples.c.id.in_(some))
        newest = max(newest, connection.execute(query).scalar() or 0)
    return newest
