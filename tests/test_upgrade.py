"""Databases of released versions come up to today's schema with everything in them."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Integer, MetaData, select, text
from sqlalchemy.exc import IntegrityError

from toploss import (
    classes,
    decisions,
    duplicates,
    events,
    likeness,
    losses,
    models,
    policy,
    runs,
    snapshots,
    trail,
)
from toploss.database import MIGRATIONS, Database
from toploss.errors import Refused
from toploss.events import Standing
from toploss.home import Home
from toploss.orders import Order
from toploss.schema import REVISION, likenesses, sample_events, samples
from toploss.schema import classes as class_table

pytestmark = pytest.mark.filterwarnings(
    "ignore:Skipped unsupported reflection of expression-based index"
)
RELEASED = sorted((Path(__file__).parent / "data").glob("toploss-*.db"))


HASH = 0xF0E1D2C3B4A59687  # of the pictures that were looked at before the bands changed


def migrated(database: Database, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def tables(database: Database) -> MetaData:
    found = MetaData()
    with database.read() as connection:
        found.reflect(connection)
    return found


def look(database: Database) -> None:
    """Two samples are looked at, as release 0.1's successors did before the bands changed."""
    bands = {f"band_{n}": HASH >> 48 - 16 * n & 0xFFFF for n in range(4)}
    rows = [{"sample_seq": seq, "points": bytes(768), **bands} for seq in (1, 2)]
    with database.write() as connection:
        connection.execute(tables(database).tables["likenesses"].insert(), rows)


def copied(source: Database, target: Database) -> None:
    """Every row of one to another of the same schema, which numbers further rows after them."""
    there = tables(target)
    with source.read() as reading, target.write() as writing:
        for table in tables(source).sorted_tables:
            name = table.name
            rows = [row._asdict() for row in reading.execute(select(table))]
            if rows and name != "alembic_version":
                writing.execute(there.tables[name].insert(), rows)
                numbered = [column for column in table.primary_key if column.name in ("id", "seq")]
                for column in numbered:
                    if isinstance(column.type, Integer):
                        newest = f"pg_get_serial_sequence('{name}', '{column.name}'), max({column})"
                        writing.execute(text(f"SELECT setval({newest}) FROM {name}"))


@pytest.fixture(params=["sqlite", "postgresql"])
def before(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Database, dict[str, str]]]:
    """A filled database at 0004, and how a home finds it."""
    (tmp_path / "home").mkdir()
    (path,) = RELEASED
    shutil.copy(path, tmp_path / "home" / "toploss.db")
    database = Database(f"sqlite:///{tmp_path / 'home' / 'toploss.db'}")
    migrated(database, "0004")
    look(database)
    settings = {}
    if request.param == "postgresql":
        settings["database_url"] = request.getfixturevalue("new_postgres")("template0")
        other = Database(settings["database_url"])
        migrated(other, "0004")
        copied(database, other)
        database.close()
        database = other
    yield database, settings
    database.close()


@pytest.fixture
def upgraded(before: tuple[Database, dict[str, str]], open_home: Callable[..., Home]) -> Home:
    database, settings = before
    assert database.upgrade() == ("0004", REVISION)
    return open_home(**settings)


def test_every_projection_is_the_replay_of_its_events(upgraded: Home) -> None:
    with upgraded.db.read() as connection:
        merged = {
            row.id: row.merged_into
            for row in connection.execute(select(class_table))
            if row.merged_into
        }
        rows = connection.execute(select(samples)).all()
        for row in rows:
            happened = connection.execute(
                select(sample_events)
                .where(sample_events.c.sample_id == row.id)
                .order_by(sample_events.c.seq)
            ).all()
            assert events.replay(happened, merged) == Standing.of(row)
    assert len(rows) == 3 * (16 + 5 + 8) + 2


def test_nothing_is_lost(upgraded: Home) -> None:
    overview = snapshots.overview(upgraded)
    assert (overview["samples"], overview["excluded"], overview["conflicts"]) == (88, 1, 1)
    assert [entry["name"] for entry in classes.listed(upgraded)] == ["blue", "grass", "red"]
    actions = [entry["action"] for entry in trail.listed(upgraded)]
    assert actions == ["undo", "exclude", "skip", "confirm", "exclude", "relabel"]
    assert len(models.listed(upgraded)) == 2
    alias = models.production(upgraded)
    assert alias is not None
    assert alias.version == models.listed(upgraded)[-1].name
    assert policy.due(upgraded).paused


def test_work_goes_on(upgraded: Home) -> None:
    for order in Order:
        page = losses.top(upgraded, order=order)
        assert page.total == len(page.items) > 0
    first = losses.top(upgraded).items[0]
    again = decisions.decide(upgraded, first.id, "confirm", revision=first.revision, actor="ann")
    assert again.revision == first.revision + 1
    lease = runs.claim(upgraded, owner="host:1:1.00")
    assert lease is not None


def test_samples_of_before_have_no_likeness_until_they_are_looked_at(upgraded: Home) -> None:
    """The storage does not come with the database here: nothing can be looked at, nothing fails.
    The likeness of what was looked at is the same in other bands."""
    with upgraded.db.read() as connection:
        before = connection.execute(select(samples.c.id, samples.c.split)).all()

    duplicates.fill(upgraded)

    with upgraded.db.read() as connection:
        kept = connection.execute(select(likenesses).order_by(likenesses.c.sample_seq)).all()
        bands = likeness.split(HASH)
        assert kept == [(seq, *bands, bytes(768)) for seq in (1, 2)]
        assert connection.execute(select(samples.c.id, samples.c.split)).all() == before
    assert snapshots.overview(upgraded)["quarantined"] == 0


def test_what_points_to_nothing_is_refused_as_before(upgraded: Home) -> None:
    with pytest.raises(IntegrityError), upgraded.db.write() as connection:
        connection.execute(text("DELETE FROM scorings"))


def test_while_a_run_is_active_there_is_no_upgrade(
    before: tuple[Database, dict[str, str]],
) -> None:
    database, _ = before
    with database.write() as connection:
        connection.execute(
            text(
                "UPDATE runs SET state = 'running', owner = 'elsewhere:1:1.0', "
                "lease_until = :until WHERE id = (SELECT max(id) FROM runs)"
            ),
            {"until": time.time() + 60},
        )

    with pytest.raises(Refused, match=r"run .* is active.*--force"):
        database.upgrade()

    assert database.revision() == "0004"
    assert database.upgrade(force=True) == ("0004", REVISION)
