import time

import pytest
from sqlalchemy import select

from tests.toploss import given
from tests.toploss.queueing import finish, taken
from toploss import alarms, attempts, models, outbox, runs
from toploss.alarms import Alarm
from toploss.outbox import GIVEN_UP_S, KEPT_S, KNOWN_S, PATIENT, Type
from toploss.schema import facts
from toploss.schema import outbox as table
from toploss.states import RunState

BOTH = ["a", "b"]


def put(home, *reasons, type=Type.FAILED):
    with home.db.write() as connection:
        for reason in reasons:
            outbox.put(connection, type, {"reason": reason})


def reasons(messages):
    return sorted((m.receiver, m.data["reason"]) for m in messages)


def waiting(home):
    outbox.address(home, ["a"])
    found = []
    while messages := outbox.due(home, ["a"]):
        for message in messages:
            outbox.told(home, message)
        found += messages
    return found


def test_what_did_not_happen_is_not_told(any_home):
    lease = taken(any_home)

    def undone():
        with any_home.db.write() as connection:
            attempts.finish(connection, lease, RunState.SUCCEEDED)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        undone()
    assert outbox.counts(any_home) == (0, 0)


def test_a_run_s_end_a_promotion_and_a_roll_back_are_told_in_their_order(any_home):
    given.two_classes(any_home)
    first, second = (given.promoted(any_home, "cat", "dog") for _ in range(2))
    models.promote(any_home, second, reason="again", actor="ann")  # it stands already
    models.rollback(any_home, reason="cats look odd", actor="ann")
    lease = taken(any_home)
    finish(any_home, lease, RunState.FAILED, error="the disk is full")
    cancelled = runs.enqueue(any_home, reason="asked", actor="ann")["id"]
    runs.cancel(any_home, cancelled)

    found = waiting(any_home)

    assert [m.type for m in found] == [
        *["run.succeeded", "version.promoted"] * 2,
        *["version.rolled_back", "run.failed", "run.cancelled"],
    ]
    rolled_back, failed = found[4].data, found[5].data
    assert (rolled_back["version"], rolled_back["reason"]) == (first, "cats look odd")
    assert (failed["run"], failed["reason"]) == (lease.run, "the disk is full")
    assert found[6].data["run"] == cancelled


def test_an_alarm_of_drift_is_told_once(any_home):
    given.two_classes(any_home)
    version = given.promoted(any_home, "cat", "dog")
    waiting(any_home)
    said = {"statistic": 0.5, "threshold": 0.25, "answers": 300, "why": "classes have shifted"}
    with any_home.db.write() as connection:
        for _ in range(2):
            alarms.begin(connection, Alarm(version=version, kind="classes", at=1.0, **said))
    (found,) = waiting(any_home)
    assert (found.type, found.data["version"]) == ("drift.alarm", version)
    assert found.data["reason"] == "classes have shifted"


def test_each_receiver_has_its_own_in_order(any_home):
    put(any_home, "first", "second")
    outbox.address(any_home, ["a", "b"])
    now = time.time()

    found = outbox.due(any_home, BOTH)

    assert reasons(found) == [("a", "first"), ("b", "first")]
    assert len({m.id for m in found}) == 1
    to_a, to_b = sorted(found, key=lambda m: m.receiver)
    assert [outbox.take(any_home, m, now=now) for m in (to_a, to_a, to_b)] == [True, False, True]
    outbox.told(any_home, to_b)
    outbox.not_told(any_home, to_a, "it answered 500")
    assert reasons(outbox.due(any_home, BOTH, now=now)) == [
        ("b", "second")
    ]  # a's second waits for it
    later = outbox.due(any_home, BOTH, now=now + 21)
    assert reasons(later) == [("a", "first"), ("b", "second")]
    assert later[0].id == to_a.id or later[1].id == to_a.id


def test_attempts_come_later_and_later_and_let_the_others_pass(any_home):
    put(any_home, "first", "second")
    outbox.address(any_home, ["a"])
    now, waits = time.time(), []
    for _ in range(PATIENT):
        (message,) = outbox.due(any_home, BOTH, now=now)
        assert message.data["reason"] == "first"
        assert outbox.take(any_home, message, now=now)
        before = now
        while not outbox.due(any_home, BOTH, now=now):
            now += 1
        waits.append(now - before)
        if len(waits) == PATIENT:
            assert reasons(outbox.due(any_home, BOTH, now=before + 1)) == [("a", "second")]

    assert waits[:4] == pytest.approx([20, 40, 80, 160], abs=1)


def test_it_is_given_up_after_a_day_and_counted_for_thirty(any_home):
    put(any_home, "first")
    outbox.address(any_home, ["a", "b"])
    now = time.time()
    assert outbox.address(any_home, ["a", "b"], now=now + GIVEN_UP_S - 1) == 0
    assert outbox.address(any_home, ["a", "b"], now=now + GIVEN_UP_S + 1) == 2
    assert outbox.counts(any_home) == (0, 2)
    assert outbox.due(any_home, BOTH, now=now + GIVEN_UP_S + 2) == []
    outbox.address(any_home, ["a", "b"], now=now + GIVEN_UP_S + KEPT_S + 2)
    assert outbox.counts(any_home) == (0, 0)


def test_where_nobody_is_to_be_told_nothing_piles_up(any_home):
    put(any_home, "first")
    outbox.address(any_home, [])
    assert outbox.counts(any_home) == (0, 0)


def test_dispatchers_with_other_addresses_leave_each_other_s_messages_alone(any_home):
    put(any_home, "before either has named its own")
    outbox.address(any_home, ["a"])
    outbox.address(any_home, ["b"])
    put(any_home, "after")
    for receivers in (["b"], ["a"], []):
        outbox.address(any_home, receivers)

    assert reasons(outbox.due(any_home, ["b"])) == [("b", "after")]
    (first,) = outbox.due(any_home, ["a"])
    assert reasons([first]) == [("a", "before either has named its own")]
    outbox.told(any_home, first)
    assert reasons(outbox.due(any_home, ["a"])) == [("a", "after")]
    assert outbox.counts(any_home) == (2, 0)


def test_what_is_for_a_receiver_that_nobody_has_any_more_is_given_up_with_the_reason(any_home):
    outbox.address(any_home, ["a"])
    outbox.address(any_home, ["b"])  # a's dispatcher has ended
    put(any_home, "first")
    now = time.time()
    later = now + KNOWN_S + 1
    outbox.address(any_home, ["b"], now=later)
    with any_home.db.read() as connection:
        assert outbox._known(connection, later) == ["b"]  # who is not named is known for an hour
    (told,) = outbox.due(any_home, ["b"])
    outbox.told(any_home, told)

    assert outbox.address(any_home, ["b"], now=now + GIVEN_UP_S + 1) == 1
    with any_home.db.read() as connection:
        (row,) = connection.execute(select(table)).all()
    assert (row.receiver, row.error) == ("a", outbox.NOBODY)


def test_a_receiver_is_named_once_a_minute(any_home):
    now = time.time()

    def named(after_s):
        outbox.address(any_home, ["a"], now=now + after_s)
        with any_home.db.read() as connection:
            this = facts.c.key == f"{outbox.NAMED}a"
            return float(connection.execute(select(facts.c.value).where(this)).scalar_one())

    assert [named(after) - now for after in (0, 30, 61)] == pytest.approx([0, 0, 61])
