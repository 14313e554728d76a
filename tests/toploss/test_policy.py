import time

import pytest

from tests.toploss import given
from toploss import alarms, attempts, classes, decisions, merging, models, policy, runs, snapshots
from toploss.alarms import Alarm
from toploss.states import RunState


@pytest.fixture
def home(open_home):
    """Six changed samples are enough; ten seconds of quiet, a hundred of rest."""
    return open_home(retrain_after=6, retrain_quiet_s=10, retrain_cooldown_s=100)


def end(home, state, *, fingerprint=None):
    lease = given.running(home)
    if fingerprint:
        given.settled(home, fingerprint)
    with home.db.write() as connection:
        attempts.finish(connection, lease, state)


def test_too_few_changes(home):
    given.sample(home, 1, "cat")
    given.sample(home, 2, "cat")

    found = policy.due(home, now=time.time() + 1000)

    assert (found.due, found.why) == (False, "2 of 6 changed samples")
    assert (found.changed, found.needed, found.paused) == (2, 6, False)


def test_what_no_run_would_learn_makes_none_due(home):
    """Classes of a single image each wait: the snapshot would be the last one's."""
    given.two_classes(home)
    before = snapshots.freeze(home).fingerprint
    end(home, RunState.SUCCEEDED, fingerprint=before)
    for seed in range(20, 26):
        given.sample(home, seed, f"kind {seed}")

    found = policy.due(home, now=time.time() + 1000)

    assert snapshots.freeze(home).fingerprint == before
    assert (found.due, found.changed) == (False, 6)
    assert found.why == (
        "0 of 6 changed samples; 6 more wait, of classes with too few images to be learned"
    )
    for seed in range(20, 26):
        given.sample(home, 100 + seed, f"kind {seed}")
    assert policy.due(home, now=time.time() + 1000).why == "12 samples have changed"


def test_a_relabel_into_a_class_that_waits_counts_where_it_came_from(home):
    added = given.two_classes(home, each=8)
    end(home, RunState.SUCCEEDED, fingerprint=snapshots.freeze(home).fingerprint)
    classes.add(home, "cow", actor="ann")
    decisions.decide(home, added[0].id, "relabel", label="cow", revision=1, actor="ann")

    assert policy.due(home, now=time.time() + 1000).why == "1 of 6 changed samples"


def test_changes_that_came_between_two_attempts_at_a_run_still_make_one_due(home):
    """A later attempt trains on the first one's snapshot."""
    given.two_classes(home)
    before = snapshots.freeze(home).fingerprint
    for seed in range(20, 26):
        given.sample(home, seed, "cat")
    end(home, RunState.SUCCEEDED, fingerprint=before)

    assert policy.due(home, now=time.time() + 1000).due


def test_due_when_enough_has_changed_and_it_is_quiet(home):
    given.two_classes(home)

    assert policy.due(home, now=time.time() + 5).why == "the last change is 5 s old, of 10 s quiet"
    assert policy.due(home, now=time.time() + 11).due


def test_rests_after_a_run_and_counts_from_its_verdict(home):
    given.two_classes(home)
    end(home, RunState.SUCCEEDED, fingerprint=snapshots.freeze(home).fingerprint)
    assert policy.due(home, now=time.time() + 1000).changed == 0

    for seed in range(20, 26):
        given.sample(home, seed, "cat")

    assert (
        policy.due(home, now=time.time() + 50).why == "the last run ended 50 s ago, of 100 s rest"
    )
    assert policy.due(home, now=time.time() + 101).due


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CANCELLED])
def test_a_run_that_failed_is_not_tried_again_on_the_same_data(home, state):
    given.two_classes(home)
    end(home, state)

    found = policy.due(home, now=time.time() + 1000)

    assert (found.due, found.changed) == (False, 6)
    assert found.why == f"the last run on these data {state}; change them, or ask for one"


def test_data_that_changed_since_the_failure_are_tried(home):
    given.two_classes(home)
    end(home, RunState.FAILED)

    given.sample(home, 50, "cat")

    assert policy.due(home, now=time.time() + 1000).due


def test_a_look_without_a_change_is_no_change(home):
    """A confirm, a skip or a conflict neither wakes a failed run nor disturbs the quiet."""
    first, second, *_ = given.two_classes(home)
    end(home, RunState.FAILED)

    decisions.decide(home, first.id, "confirm", revision=1, actor="ann")
    decisions.decide(home, second.id, "skip", revision=1, actor="ann")
    given.sample(home, 0, "dog")

    assert not policy.due(home, now=time.time() + 1000).due


def test_a_merge_is_a_change_of_the_data(home):
    given.two_classes(home)
    given.sample(home, 50, "kitten")
    end(home, RunState.FAILED)  # a class with one image

    merging.merge(home, "kitten", "cat", actor="ann")

    assert policy.due(home, now=time.time() + 5).why == "the last change is 5 s old, of 10 s quiet"
    assert policy.due(home, now=time.time() + 1000).due


def test_pause_and_resume(home):
    given.two_classes(home)
    policy.pause(home, reason="the holidays", actor="ann")

    found = policy.due(home, now=time.time() + 1000)
    assert (found.due, found.paused, found.why) == (False, True, "paused: the holidays")

    policy.resume(home, actor="ann")
    assert policy.due(home, now=time.time() + 1000).due


def test_a_roll_back_pauses_the_policy_with_its_reason(home):
    given.two_classes(home)
    versions = [given.promoted(home, "cat", "dog") for _ in range(2)]
    models.rollback(home, reason="cats look odd", actor="ann")

    found = policy.due(home, now=time.time() + 1000)

    assert found.why == f"paused: rolled back from {versions[1]}: cats look odd"


def alarm(home, version):
    with home.db.write() as connection:
        found = Alarm(
            version=version,
            kind="classes",
            statistic=0.5,
            threshold=0.25,
            answers=300,
            why="classes have shifted",
            at=time.time(),
        )
        assert alarms.begin(connection, found)


@pytest.mark.parametrize("asked", [True, False])
def test_an_alarm_makes_a_run_due_once_where_the_settings_say_so(open_home, asked):
    home = open_home(retrain_after=6, retrain_quiet_s=10, retrain_cooldown_s=0, drift_retrain=asked)
    given.two_classes(home)
    version = given.promoted(home, "cat", "dog")
    end(home, RunState.SUCCEEDED, fingerprint=snapshots.freeze(home).fingerprint)
    alarm(home, version)
    later = time.time() + 1000
    assert policy.due(home, now=later).why == f"0 of {1 if asked else 6} changed samples"

    given.sample(home, 50, "cat")

    found = policy.due(home, now=later)
    assert found.due == asked
    if asked:
        told = "1 samples have changed, and the traffic has drifted: classes have shifted"
        assert found.why == told
        end(home, RunState.SUCCEEDED, fingerprint=snapshots.freeze(home).fingerprint)
        given.sample(home, 51, "cat")
        assert policy.due(home, now=later).why == "1 of 6 changed samples"
        policy.pause(home, reason="the holidays", actor="ann")
        assert policy.due(home, now=later).why == "paused: the holidays"


def test_nothing_is_due_while_a_run_waits_or_goes_on(home):
    """A cron job that asks every minute adds no reasons without end, and no run behind the one
    that learns from the same data."""
    given.two_classes(home)
    later = time.time() + 1000
    run = runs.enqueue(home, reason="asked", actor="ann")["id"]
    assert policy.due(home, now=later).why == f"run {run} is queued"

    runs.claim(home, owner="elsewhere:1:1.0")

    found = policy.due(home, now=later)
    assert (found.due, found.why, found.changed) == (False, f"run {run} is leased", 6)


@pytest.mark.parametrize("more", [1, 6])
def test_the_trigger_is_drift_where_fewer_changes_are_enough_because_of_it(open_home, more):
    home = open_home(retrain_after=6, retrain_quiet_s=10, retrain_cooldown_s=0, drift_retrain=True)
    given.two_classes(home)
    version = given.promoted(home, "cat", "dog")
    end(home, RunState.SUCCEEDED, fingerprint=snapshots.freeze(home).fingerprint)
    alarm(home, version)
    for seed in range(50, 50 + more):
        given.sample(home, seed, "cat")

    found = policy.due(home, now=time.time() + 1000)

    assert (found.due, found.kind) == (True, "drift" if more == 1 else "policy")
