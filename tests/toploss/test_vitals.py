"""How the whole stands: read from rows, on both databases."""

from tests.toploss import given
from tests.toploss.queueing import enqueue, finish, taken
from toploss import attempts, decisions, policy, records, runs, vitals
from toploss.database import clock
from toploss.home import Home
from toploss.states import Cause, RunState
from toploss.triggers import Kind


def now(home: Home) -> float:
    with home.db.read() as connection:
        return clock(connection)


def test_nothing_is_there(any_home: Home) -> None:
    found = vitals.look(any_home)

    assert (found.generation, found.samples, found.refusals) == (0, 0, 0)
    assert (found.queued_at, found.active_at, found.dispatcher_at) == (None, None, None)
    assert (found.added_at, found.changed_at) == (None, None)
    assert set(found.ended_at.values()) == {0.0}
    assert (found.pending, found.decided) == (0, 0)


def test_what_came_in_and_what_was_decided(any_home: Home) -> None:
    added = [given.sample(any_home, seed, "cat" if seed % 2 else "dog") for seed in range(4)]
    version = given.promoted(any_home, "cat", "dog")
    given.opinion(any_home, version, [one.id for one in added], [[0.9, 0.1]] * 4)
    before = vitals.look(any_home)
    decisions.decide(any_home, added[0].id, "relabel", label="cat", revision=1, actor="ann")
    policy.pause(any_home, reason="for the test", actor="ann")

    found = vitals.look(any_home)

    assert (before.pending, before.decided) == (4, 0)
    assert (found.generation, found.samples, found.pending, found.decided) == (1, 4, 3, 1)
    assert found.added_at == before.added_at == before.changed_at
    assert found.changed_at > found.added_at
    assert (found.due.paused, found.due.changed) == (True, 4)


def test_a_run_waits_is_worked_on_and_put_off(any_home: Home) -> None:
    asked = now(any_home)
    enqueue(any_home)
    waits = vitals.look(any_home)
    lease = runs.claim(any_home, owner="elsewhere:1:1.00")
    launched = vitals.look(any_home)
    patient = Home(
        settings=any_home.settings.model_copy(update={"retry_s": 500.0}),
        db=any_home.db,
        blobs=any_home.blobs,
    )
    attempts.give_up(patient, lease, error="lost", cause=Cause.LOST)
    put_off = vitals.look(any_home)

    assert asked - 1 <= waits.queued_at <= now(any_home) + 1
    assert waits.active_at is None
    assert launched.queued_at is None
    assert launched.active_at == waits.queued_at  # its training has not begun
    assert put_off.active_at is None
    assert put_off.queued_at == records.show(any_home, lease.run)["not_before"]
    assert put_off.queued_at > now(any_home) + 400


def test_a_run_that_a_pause_holds_back_does_not_wait(home: Home) -> None:
    enqueue(home, kind=Kind.POLICY)
    waits = vitals.look(home)
    policy.pause(home, reason="for the test", actor="ann")
    held = vitals.look(home)
    policy.resume(home, actor="ann")

    assert held.queued_at is None
    assert vitals.look(home).queued_at == waits.queued_at is not None


def test_how_the_last_runs_ended_and_what_the_gate_said(any_home: Home) -> None:
    verdicts = ({"passed": True}, {"passed": False}, {"passed": False})
    for gate in verdicts:
        finish(any_home, taken(any_home), gate=gate)
    refused = vitals.look(any_home)
    lease = taken(any_home)
    began = vitals.look(any_home).active_at
    finish(any_home, lease, RunState.FAILED, error="for the test")
    failed = vitals.look(any_home)
    finish(any_home, taken(any_home), gate={"passed": True})
    passed = vitals.look(any_home)

    assert refused.refusals == failed.refusals == 2
    assert passed.refusals == 0
    assert refused.ended_at[RunState.FAILED] == 0
    assert failed.ended_at[RunState.FAILED] >= began
    assert failed.ended_at[RunState.FAILED] > failed.ended_at[RunState.SUCCEEDED]
    assert passed.ended_at[RunState.FAILED] < passed.ended_at[RunState.SUCCEEDED]
    assert passed.ended_at[RunState.CANCELLED] == 0


def test_a_dispatcher_says_that_it_works(any_home: Home) -> None:
    began = now(any_home)
    vitals.dispatches(any_home)
    first = vitals.look(any_home).dispatcher_at
    vitals.dispatches(any_home)

    assert began - 1 <= first <= vitals.look(any_home).dispatcher_at <= now(any_home) + 1
