"""How attempts end without a verdict."""

import errno
from collections.abc import Callable

import pytest
from safetensors import SafetensorError

from tests.toploss import given
from tests.toploss.queueing import taken
from toploss import records
from toploss.errors import (
    BadData,
    BadInput,
    Broken,
    Cancelled,
    Fenced,
    Refused,
    ToplossError,
)
from toploss.home import Home
from training import ending

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("exc", "cause"),
    [
        (BadData("too few"), "bad_data"),
        (BadInput("a size of 0"), "bad_data"),
        (Broken("away"), "away"),
        (FULL, "away"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "away"),
        (Refused("no"), "error"),
        (ZeroDivisionError("by zero"), "error"),
    ],
)
def test_every_end_has_its_cause(home: Home, exc: Exception, cause: str) -> None:
    lease = given.running(home)  # in the foreground: never again by itself

    with pytest.raises(type(exc)), ending.written(home, lease), ending.logged(home, lease):
        raise exc

    told = records.show(home, lease.run)
    assert (told["state"], told["cause"]) == ("failed", cause)
    assert told["error"] == str(exc)
    assert str(exc) in records.read_log(home, lease.run)


def test_what_may_heal_goes_back_to_the_queue(any_home: Home) -> None:
    lease = taken(any_home)

    with pytest.raises(OSError, match="No space"), ending.written(any_home, lease):
        raise FULL

    told = records.show(any_home, lease.run)
    assert (told["state"], told["cause"], told["losses"]) == ("queued", "away", 1)


@pytest.mark.parametrize(
    ("exc", "end"), [(Cancelled("stop"), "cancelled"), (Fenced("void"), "running")]
)
def test_who_was_asked_to_stop_and_who_is_void(home: Home, exc: ToplossError, end: str) -> None:
    lease = taken(home)

    with pytest.raises(type(exc)), ending.written(home, lease):
        raise exc

    told = records.show(home, lease.run)
    assert (told["state"], told["cause"]) == (end, None)


def test_a_storage_that_is_away_at_the_beginning_is_told(open_home: Callable[..., Home]) -> None:
    home = open_home()
    lease = taken(home)
    (home.settings.home / "storage").touch()

    with (
        pytest.raises(OSError, match="storage"),
        ending.written(home, lease),
        ending.logged(home, lease),
    ):
        pytest.fail("it should not have begun")

    assert records.show(home, lease.run)["cause"] == "away"
