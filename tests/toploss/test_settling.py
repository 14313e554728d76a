"""What a verdict settles: at once, or in batches after it that any process may do."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from sqlalchemy import select

from tests.toploss import given
from tests.toploss.deciding import changed, decide
from toploss import policy, settling, snapshots
from toploss.figures import chunks
from toploss.home import Home
from toploss.samples import Added
from toploss.schema import facts, samples


@pytest.fixture(autouse=True)
def three_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "AT_ONCE", 3)


def verdict(home: Home) -> None:
    """A run on today's data has its verdict, and does not follow it up."""
    given.settled(home, snapshots.freeze(home).fingerprint)


def left(home: Home) -> bool:
    with home.db.read() as connection:
        return settling.going_on(connection) is not None


def killed_after_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever settles ends after its first batch."""

    class Killed(Exception): ...

    def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
        yield next(iter(chunks(items, size)))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(settling, "chunks", batches)
        with pytest.raises(Killed):
            settling.finish(home)


def changes(*those: Added) -> int:
    """How many of them count."""
    return sum(one.split != "test" for one in those)


def learned(home: Home) -> list[int | None]:
    with home.db.read() as connection:
        query = select(samples.c.settled_class_id).order_by(samples.c.seq)
        return list(connection.execute(query).scalars())


def test_a_few_are_settled_in_the_verdict_itself(any_home: Home) -> None:
    given.two_classes(any_home)
    verdict(any_home)
    settling.finish(any_home)
    given.sample(any_home, 99, "cat")

    verdict(any_home)

    assert not left(any_home)
    assert changed(any_home) == 0


def test_many_are_settled_after_it_and_no_run_is_due_until_they_are(any_home: Home) -> None:
    given.two_classes(any_home)

    verdict(any_home)

    assert left(any_home)
    assert changed(any_home) == 6
    told = policy.due(any_home, now=time.time() + 10_000)
    assert (told.due, told.why) == (
        False,
        "what the last run has learned is still being counted",
    )
    settling.finish(any_home)
    assert not left(any_home)
    assert changed(any_home) == 0
    settling.finish(any_home)  # nothing is left to do
    assert "changed samples" in policy.due(any_home).why


def test_a_change_between_two_batches_counts(
    any_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = given.two_classes(any_home)
    verdict(any_home)
    killed_after_one(any_home, monkeypatch)
    assert sum(one is not None for one in learned(any_home)) == 3

    decide(any_home, first[0].id, "relabel", "dog")  # settled by now
    decide(any_home, first[-1].id, "exclude")  # not settled yet
    settling.finish(any_home)

    assert not left(any_home)
    assert None not in learned(any_home)
    assert changed(any_home) == changes(first[0], first[-1])


def test_what_a_later_verdict_has_learned_stands(
    any_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = given.two_classes(any_home, each=8)
    verdict(any_home)
    killed_after_one(any_home, monkeypatch)
    decide(any_home, first[0].id, "relabel", "dog")  # settled by now
    decide(any_home, first[-1].id, "exclude")  # not settled yet

    verdict(any_home)
    assert left(any_home)
    settling.finish(any_home)

    assert not left(any_home)
    assert changed(any_home) == 0
    assert learned(any_home)[-1] is None
    assert learned(any_home)[0] == learned(any_home)[-2]


def test_who_is_overtaken_stops(any_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    given.two_classes(any_home)
    verdict(any_home)
    plain = settling.unsettled

    def overtaken(home: Home, fingerprint: str) -> settling.Unsettled:
        found = plain(home, fingerprint)
        with home.db.write() as connection:
            connection.execute(facts.update().values(value="of another run"))
        return found

    monkeypatch.setattr(settling, "unsettled", overtaken)

    settling.finish(any_home)

    assert learned(any_home) == [None] * 8
    assert left(any_home)
