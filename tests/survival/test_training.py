"""`kill -9` of trainings at bad moments: nothing is half."""

# B023: what is waited for is asked before the loop goes on.

import signal
from collections.abc import Callable

import pytest

from tests.survival.place import Place, asked, trainer_of
from tests.toploss.deciding import consistent
from toploss import models, records

LATE = ["export", "half-copied", "uncommitted", "committed"]


@pytest.mark.parametrize(
    "moments",
    # In stage one a training is killed by default as well: see test_service.
    [LATE, pytest.param(["stage-1", *LATE], marks=pytest.mark.slow)],
    ids=" ".join,
)
def test_a_training_killed_at_every_bad_moment_leaves_nothing_half(
    learned_place: Callable[..., Place], moments: list[str]
) -> None:
    place = learned_place(attempts="9")
    before = models.production(place.home)
    run = asked(place)

    dispatcher = place.start("toploss", "dispatch", DIE_AT=",".join(moments))

    for attempt, moment in enumerate(moments[:-1], start=1):
        place.until(lambda: place.run()["attempt"] > attempt)  # noqa: B023
        assert f"exit code {-signal.SIGKILL}" in place.run()["error"], moment
        assert len(place.whole()) == 1, moment
        assert models.production(place.home) == before, moment
    strays = sorted(len(list(folder.iterdir())) for folder in place.stray_versions())
    assert strays[0] < strays[1] == 9  # half-copied, and whole but for its row: the kills struck
    place.until(place.nothing_is_left)
    shown = records.show(place.home, run)
    assert (shown["state"], shown["attempt"]) == ("succeeded", len(moments))
    assert place.whole()[0] == shown["version"]
    assert len(models.listed(place.home)) == 2
    alias = models.production(place.home)
    assert alias is not None
    assert (alias.version == shown["version"]) == shown["gate"]["promoted"]
    consistent(place.home, shown["version"])
    place.until(lambda: trainer_of(dispatcher) is None)
    assert "done in" not in records.read_log(place.home, run)  # it died before it could say so
    assert records.show(place.home, run) == shown


@pytest.mark.slow  # tests/training/test_dispatcher.py says it of a launcher that records
def test_a_training_that_always_dies_fails_with_words(learned_place: Callable[..., Place]) -> None:
    place = learned_place(attempts="1")
    before = models.production(place.home)
    asked(place)

    assert place.start("toploss", "dispatch", "--once", DIE_AT="stage-1").wait(240) == 0

    assert place.run()["state"] == "failed"
    assert "ended without a word (exit code -9); see its log" in place.run()["error"]
    assert "stage-1" in records.read_log(place.home, place.run()["id"])
    assert models.production(place.home) == before
    assert len(place.whole()) == 1
