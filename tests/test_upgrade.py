"""Databases of released versions come up to today's schema with everything in them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from toploss import classes, decisions, duplicates, losses, models, policy, runs, snapshots, trail
from toploss.decisions import Standing
from toploss.home import Home
from toploss.orders import Order
from toploss.schema import REVISION, likenesses, sample_events, samples
from toploss.schema import classes as class_table

RELEASED = sorted((Path(__file__).parent / "data").glob("toploss-*.db"))


@pytest.fixture(params=RELEASED, ids=lambda path: path.stem)
def upgraded(
    request: pytest.FixtureRequest, tmp_path: Path, open_home: Callable[..., Home]
) -> Home:
    from toploss.database import Database

    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(request.param, folder / "toploss.db")
    database = Database(f"sqlite:///{folder / 'toploss.db'}")
    assert database.upgrade()[1] == REVISION
    database.close()
    return open_home()


def test_every_projection_is_the_replay_of_its_events(upgraded: Home) -> None:
    with upgraded.db.read() as connection:
        merged = {
            row.id: row.merged_into
            for row in connection.execute(select(class_table))
            if row.merged_into
        }
        rows = connection.execute(select(samples)).all()
        for row in rows:
            events = connection.execute(
                select(sample_events)
                .where(sample_events.c.sample_id == row.id)
                .order_by(sample_events.c.seq)
            ).all()
            assert decisions.replay(events, merged) == Standing.of(row)
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
    """The storage does not come with the database here: nothing can be looked at, nothing fails."""
    with upgraded.db.read() as connection:
        before = connection.execute(select(samples.c.id, samples.c.split)).all()

    duplicates.fill(upgraded)

    with upgraded.db.read() as connection:
        assert connection.execute(select(likenesses)).all() == []
        assert connection.execute(select(samples.c.id, samples.c.split)).all() == before
    assert snapshots.overview(upgraded)["quarantined"] == 0
