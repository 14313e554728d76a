"""`kill -9` of dispatchers: the run goes on."""

# B023: what is waited for is asked before the loop goes on.

from collections.abc import Callable

from tests.survival.place import (
    Place,
    asked,
    kill,
    trainer_of,
)
from toploss import models
from toploss.states import ACTIVE, RunState

MIDST = ("stage-1", "stage-2", "features", "export")  # stages of a training that has begun


def test_a_run_survives_its_dispatchers(learned_place: Callable[..., Place]) -> None:
    """Killed before the trainer has begun, killed in the midst, stopped politely; the fourth
    dispatcher sees the run to its end."""
    place = learned_place(attempts="9")
    before = models.production(place.home)
    run, gone = asked(place), []

    for attempt in (1, 2, 3):
        dispatcher = place.start("toploss", "dispatch")
        place.until(
            lambda: (
                place.run()["attempt"] == attempt  # noqa: B023
                and (attempt == 1 or place.run()["state"] == RunState.RUNNING)  # noqa: B023
                and (attempt == 1 or place.run()["stage"] in MIDST)  # noqa: B023
                and trainer_of(dispatcher)  # noqa: B023
            )
        )
        trainer = trainer_of(dispatcher)
        assert trainer is not None
        if attempt < 3:
            kill(dispatcher)
            gone.append(round(place.until(lambda: not trainer.is_running(), 60), 1))  # noqa: B023
            assert place.run()["state"] in ACTIVE  # nobody could say so yet
        else:
            dispatcher.terminate()
            assert dispatcher.wait(30) == 0
            assert not trainer.is_running()
            assert place.run()["state"] == RunState.QUEUED
            assert place.run()["error"] == "its dispatcher was stopped"
        assert models.production(place.home) == before
        assert len(place.whole()) == 1

    last = place.start("toploss", "dispatch")
    place.until(lambda: place.run()["state"] not in (*ACTIVE, RunState.QUEUED))
    shown = place.run()
    assert (shown["id"], shown["state"], shown["attempt"]) == (run, "succeeded", 4), place.log()
    assert shown["error"] is None
    assert place.nothing_is_left()
    assert place.whole()[0] == shown["version"]
    assert len(models.listed(place.home)) == 2
    place.until(lambda: trainer_of(last) is None)
    last.terminate()
    assert last.wait(30) == 0
    print(f"the trainers were gone {gone} s after their dispatchers")
