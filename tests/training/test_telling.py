"""What a terminal is told of runs."""

from collections.abc import Callable

from tests.training.conftest import Toploss
from toploss import records, runs, schema
from toploss.home import Home
from training import telling


def test_a_run_is_told_from_its_reasons_to_the_gate(learned_home: Callable[..., Home]) -> None:
    home = learned_home()
    found = records.listed(home)[0]

    told = telling.run(found)

    for said in (
        found["id"],
        "state    succeeded",
        "batches of",
        "stage-2      1",
        f"test     accuracy {found['metrics']['test']['accuracy']:.4f}",
        f"gate     {found['gate']['verdict']}",
    ):
        assert said in told


def test_one_that_waits_is_told_without_what_it_has_not(learned_home: Callable[..., Home]) -> None:
    home = learned_home()
    run = runs.enqueue(home, reason="more pictures", actor="ann")

    told = telling.run(records.show(home, run["id"]))

    assert told.splitlines()[1] == "state    queued"
    assert told.splitlines()[2].endswith("by ann (command): more pictures")
    assert told.splitlines()[3].startswith("recipe   ")
    assert len(told.splitlines()) == 4


def test_a_long_error_is_short_in_the_list_and_whole_when_shown(
    toploss: Toploss, learned_home: Callable[..., Home]
) -> None:
    home = learned_home()
    run = runs.enqueue(home, reason="more pictures", actor="ann")["id"]
    error = "the disk is full: " + "no space is left on it, " * 20 + "make some"
    with home.db.write() as connection:
        failed = schema.runs.update().where(schema.runs.c.id == run)
        connection.execute(failed.values(state="failed", error=error))

    listed = toploss("runs", "list", home=home).stdout.splitlines()
    (line,) = [line for line in listed if run in line]

    assert line.endswith("…")
    assert max(map(len, listed)) < 240
    assert f"error    {error}" in toploss("runs", "show", run, home=home).stdout
