"""What waits for a database or a storage that is away, and for how long."""

from collections.abc import Callable

import pytest

from toploss.errors import Broken, Cancelled
from toploss.home import Home
from training import patience


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LOOK_S", 0.01)


def test_it_is_done_as_soon_as_it_can_be(home: Home) -> None:
    tries = iter([Broken("away"), Broken("away"), 7])

    def work() -> int:
        found = next(tries)
        if isinstance(found, Broken):
            raise found
        return found

    assert patience.through(home, work) == 7


def test_it_ends_when_they_are_away_for_too_long(open_home: Callable[..., Home]) -> None:
    tries = []

    def work() -> None:
        tries.append(1)
        raise Broken("away")

    with pytest.raises(Broken, match="away"):
        patience.through(open_home(away_s=0.1), work)
    assert len(tries) > 1


def test_who_waits_hears_that_it_should_stop(home: Home) -> None:
    def work() -> None:
        raise Broken("away")

    def check() -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled, match="stop"):
        patience.through(home, work, check)
