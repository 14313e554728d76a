"""Attempts that are given up, lost, cancelled or silent: a run ends once, and by its owner."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from tests.toploss import given
from tests.toploss.queueing import ALIVE, DEAD, FAR, enqueue, finish, state, taken
from toploss import attempts, records, runs, schema
from toploss.attempts import Lease
from toploss.errors import Fenced, Refused
from toploss.states import HEALS, Cause, RunState, delay_s


def test_an_attempt_that_was_given_up_changes_nothing_any_more(home):
    late = taken(home)
    attempts.give_up(home, late, error="lost")
    again = runs.claim(home, owner=FAR)

    assert again == Lease(run=late.run, fence=2)
    for act in (
        lambda: attempts.beat(home, late),
        lambda: attempts.note(home, late, stage="head"),
        lambda: attempts.take_up(home, late, owner=FAR),
        lambda: attempts.give_up(home, late, error="again"),
        lambda: finish(home, late),
    ):
        with pytest.raises(Fenced, match=r"attempt 1 at run \w+ is void: .* in attempt 2"):
            act()
    told = records.show(home, late.run)
    assert (told["state"], told["stage"], told["attempt"]) == ("leased", None, 2)


def test_what_a_void_attempt_wrote_beside_its_end_is_undone(home):
    """The version's row and the end of the run are one transaction, under the fence."""
    late = taken(home)
    attempts.give_up(home, late, error="lost")

    def publish():
        with home.db.write() as connection:
            connection.execute(schema.facts.insert().values(key="version", value="late"))
            attempts.finish(connection, late, RunState.SUCCEEDED)

    with pytest.raises(Fenced):
        publish()

    with home.db.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.facts)).scalar() == 0


@pytest.mark.parametrize("end", [RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED])
def test_an_end_is_an_end(home, end):
    lease = taken(home)
    finish(home, lease, end)

    for act in (
        lambda: attempts.beat(home, lease),
        lambda: attempts.note(home, lease, stage="head"),
        lambda: attempts.give_up(home, lease, error="late"),
        lambda: finish(home, lease, RunState.FAILED),
    ):
        with pytest.raises(Fenced):
            act()
    assert state(home, lease.run) == end


def test_a_lost_run_is_tried_so_many_times(open_home):
    home = open_home(attempts=3)
    run, states = enqueue(home)["id"], []

    while lease := runs.claim(home, owner=FAR):
        states.append(attempts.give_up(home, lease, error=f"lost {lease.fence}"))

    assert states == [RunState.QUEUED, RunState.QUEUED, RunState.FAILED]
    told = records.show(home, run)
    assert (told["state"], told["error"], told["attempt"]) == ("failed", "lost 3", 3)
    assert told["ended_at"] is not None


def test_a_dispatcher_that_stops_loses_no_attempt_and_nobody_waits(open_home):
    home = open_home(attempts=1, retry_s=100)
    for _ in range(3):
        lease = taken(home)
        assert attempts.give_up(home, lease, error="stopped", lost=False) is RunState.QUEUED

    assert records.show(home, lease.run)["losses"] == 0
    assert runs.claim(home, owner=FAR)


def test_a_lost_run_waits_twice_as_long_each_time(any_home):
    home = replace(any_home, settings=any_home.settings.model_copy(update={"retry_s": 100}))
    lease = taken(home)
    for losses, wait_s in ((1, 100), (2, 200)):
        attempts.give_up(home, lease, error="lost")

        told = records.show(home, lease.run)
        assert (told["state"], told["losses"], told["cause"]) == ("queued", losses, "lost")
        assert told["not_before"] == pytest.approx(time.time() + wait_s, abs=10)
        assert runs.claim(home, owner=FAR) is None

        with home.db.write() as connection:
            past = told["not_before"] - wait_s - 1
            connection.execute(schema.runs.update().values(not_before=past))
        lease = runs.claim(home, owner=FAR)
        assert records.show(home, lease.run)["not_before"] is None


def test_no_wait_is_longer_than_a_quarter_of_an_hour():
    assert [delay_s(30, losses) for losses in (1, 2, 6, 2000)] == [30, 60, 900, 900]


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause not in HEALS])
def test_what_no_attempt_can_heal_is_not_tried_again(home, cause):
    lease = taken(home)

    assert attempts.give_up(home, lease, error="so it is", cause=cause) is RunState.FAILED

    told = records.show(home, lease.run)
    assert (told["cause"], told["error"], told["losses"]) == (cause, "so it is", 1)


def test_whoever_gives_an_attempt_up_waits_for_its_last_transaction(any_home):
    home, lease = any_home, taken(any_home)

    with ThreadPoolExecutor(1) as pool:
        with home.db.write() as connection:
            attempts.owned(connection, lease)
            late = pool.submit(attempts.give_up, home, lease, error="silent")
            time.sleep(0.3)
            assert not late.done()
            attempts.finish(connection, lease, RunState.SUCCEEDED)
        with pytest.raises(Fenced):
            late.result()

    assert state(home, lease.run) == "succeeded"


@pytest.mark.parametrize("skew_s", [-600, 600])
def test_clocks_that_are_apart_make_nobody_silent(any_home, monkeypatch, skew_s):
    real = time.time
    enqueue(any_home)
    lease = runs.claim(any_home, owner=FAR)
    monkeypatch.setattr(time, "time", lambda: real() + skew_s)  # the trainer's
    attempts.take_up(any_home, lease, owner=FAR)
    attempts.beat(any_home, lease)
    monkeypatch.setattr(time, "time", lambda: real() - skew_s)  # the next dispatcher's

    assert not attempts.silent(any_home, lease)
    assert attempts.reap(any_home) is None


def test_who_has_been_away_calls_nobody_silent(open_home):
    home = open_home(lease_s=1.01)
    lease = taken(home)
    time.sleep(1.1)

    assert attempts.reap(home, silent=False) is None
    assert attempts.silent(home, lease)
    assert attempts.reap(home) == lease.run


def test_a_lost_foreground_run_is_not_tried_again(home):
    lease = given.running(home)

    assert attempts.give_up(home, lease, error="lost") is RunState.FAILED


def test_a_lost_run_makes_way_for_the_one_that_waits(home):
    lost = taken(home)
    waiting = enqueue(home)["id"]

    assert attempts.give_up(home, lost, error="lost") is RunState.FAILED

    assert records.show(home, lost.run)["error"] == f"lost; run {waiting} goes on in its place"
    reasons = [entry["reason"] for entry in records.show(home, waiting)["reasons"]]
    assert reasons == ["asked", "asked"]  # its own, and the lost one's


def test_reap_leaves_the_living_alone(home):
    assert attempts.reap(home) is None
    lease = taken(home, ALIVE)

    assert attempts.reap(home) is None
    attempts.beat(home, lease)
    assert state(home, lease.run) == "running"


@pytest.mark.parametrize("taken_up", [True, False])
def test_reap_settles_a_run_whose_process_is_dead(home, taken_up):
    enqueue(home)
    lease = runs.claim(home, owner=DEAD)
    if taken_up:
        attempts.take_up(home, lease, owner=DEAD)

    assert attempts.reap(home) == lease.run

    told = records.show(home, lease.run)
    assert (told["state"], told["error"]) == ("queued", "its process has ended")
    assert attempts.reap(home) is None


def test_reap_settles_a_run_that_has_fallen_silent(open_home):
    home = open_home(lease_s=1.01)
    lease = taken(home)
    assert attempts.reap(home) is None

    time.sleep(0.6)
    attempts.beat(home, lease)
    time.sleep(0.6)
    assert attempts.reap(home) is None
    time.sleep(0.6)

    assert attempts.reap(home) == lease.run
    assert records.show(home, lease.run)["error"] == "its process has fallen silent"


def test_of_many_reapers_one_settles(open_home):
    home = open_home(attempts=100)
    lease = taken(home, DEAD)

    with ThreadPoolExecutor(10) as pool:
        settled = [run for run in pool.map(lambda _: attempts.reap(home), range(20)) if run]

    assert settled == [lease.run]
    assert runs.claim(home, owner=FAR) == Lease(run=lease.run, fence=2)


def test_cancel_a_run_that_waits(home):
    run = enqueue(home)["id"]

    assert runs.cancel(home, run)["state"] == "cancelled"
    assert runs.claim(home, owner=FAR) is None
    assert runs.cancel(home, run)["state"] == "cancelled"
    assert enqueue(home)["id"] != run


@pytest.mark.parametrize("taken_up", [True, False])
def test_cancel_an_active_run_asks_it_to_stop(home, taken_up):
    enqueue(home)
    lease = runs.claim(home, owner=FAR)
    if taken_up:
        attempts.take_up(home, lease, owner=FAR)

    told = runs.cancel(home, lease.run)

    assert (told["state"], told["cancel_asked"]) == ("running" if taken_up else "leased", True)
    assert attempts.beat(home, lease) is True
    finish(home, lease, RunState.CANCELLED)
    assert runs.cancel(home, lease.run)["state"] == "cancelled"


def test_a_run_that_dies_after_it_was_asked_to_stop_is_cancelled(home):
    lease = taken(home, DEAD)
    runs.cancel(home, lease.run)

    attempts.reap(home)

    assert state(home, lease.run) == "cancelled"


@pytest.mark.parametrize("end", [RunState.SUCCEEDED, RunState.FAILED])
def test_what_has_ended_cannot_be_cancelled(home, end):
    lease = taken(home)
    finish(home, lease, end)

    with pytest.raises(Refused, match=f"cannot be cancelled: it has {end} already"):
        runs.cancel(home, lease.run)
