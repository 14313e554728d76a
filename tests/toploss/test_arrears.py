"""What an older release's servers have written beside this one, in the tables they do not know."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import select

from tests.toploss import given
from tests.toploss.deciding import consistent, decide, row
from toploss import arrears, decisions, erasure, events, holdout, questions, scoring, trials
from toploss.home import Home
from toploss.schema import (
    REVISION,
    holdout_samples,
    holdout_tallies,
    sample_events,
    samples,
    upgrades,
)
from toploss.splits import Split


@pytest.fixture
def home(any_home: Home) -> Home:
    return any_home


@contextmanager
def older() -> Iterator[None]:
    """As a server of 0.1.0 writes: the events and the samples, and nothing else."""
    unknown = [(module, "follow") for module in (scoring, trials, questions)]
    unknown += [(questions, "ask"), (holdout, "add"), (holdout, "undo")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "REVISION", None)
        for module, name in unknown:
            patch.setattr(module, name, lambda *_, **__: None)
        yield


def test_what_an_older_server_decided_stands_in_every_table_afterwards(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrears, "AT_ONCE", 2)
    added = given.two_classes(home)
    version = given.promoted(home, "cat", "dog")
    listed = [one.id for one in added if one.split != Split.TEST]
    given.opinion(home, version, listed, [[0.9, 0.1]] * len(listed))
    held = [one.id for one in added if one.split == Split.TEST]
    with home.db.write() as connection:
        called = {version: [row(home, held[0]).class_id] * len(held)}
        trials.keep(connection, trials.Trial(ids=held, called=called))
    with older():
        decide(home, listed[0], "relabel", "dog")
        decide(home, listed[1], "exclude")
        taken_back = decide(home, listed[2], "confirm")
        decisions.undo(home, taken_back.id, actor="ann")
        decide(home, held[1], "exclude")
        newcomer = given.sample(home, 99, "cat", Split.TEST)
    with pytest.raises(AssertionError):
        consistent(home, version)

    told = 0
    while number := arrears.follow(home):
        told += number

    consistent(home, version)
    assert told >= 5
    with home.db.read() as connection:
        known = connection.execute(select(holdout_samples.c.sample_seq)).scalars().all()
        assert row(home, newcomer.id).seq in known
        assert connection.execute(select(holdout_tallies.c.samples)).scalars().all() == [1]


def test_what_this_release_writes_is_never_in_arrears(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = given.sample(home, 1, "cat")
    decide(home, one.id, "confirm")
    monkeypatch.setattr(arrears, "_tell", lambda *_: pytest.fail("nothing was in arrears"))

    assert arrears.follow(home) == 0
    with home.db.read() as connection:
        assert set(connection.execute(select(sample_events.c.schema)).scalars()) == {REVISION}


def test_a_later_look_begins_where_the_last_one_ended(home: Home) -> None:
    with older():
        one = given.sample(home, 1, "cat")
    assert arrears.follow(home) == 1
    assert arrears.follow(home) == 0
    decide(home, one.id, "confirm")
    assert arrears.follow(home) == 0
    with older():
        decide(home, one.id, "skip")
    assert arrears.follow(home) == 1


def test_what_a_newer_release_has_to_tell_is_left_to_it(home: Home) -> None:
    with older():
        given.sample(home, 1, "cat")
    with home.db.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        row = {"min_compatible": REVISION, "at": 0.0, "events_told": 0}
        connection.execute(upgrades.insert().values(revision="9999", **row))

    assert arrears.follow(home) == 0
    with home.db.read() as connection:
        assert connection.execute(select(upgrades.c.events_told)).scalars().all() == [0, 0]


def test_an_erased_sample_stays_gone(home: Home) -> None:
    with older():
        one = given.sample(home, 1, "cat", Split.TEST)
    erasure.erase(home, one.id, reason="she asked", actor="ann")

    assert arrears.follow(home) == 1
    with home.db.read() as connection:
        assert connection.execute(select(holdout_samples)).first() is None
        assert connection.execute(select(samples.c.state)).scalar() == "erased"
