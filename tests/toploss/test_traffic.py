"""Counts of answers: of several servers they add up, and old ones are forgotten."""

from tests.toploss import given
from toploss import classes, traffic
from toploss.traffic import HOUR_S, KEPT_H

NOW = 1_000_000 * float(HOUR_S)


def test_counts_add_up_within_the_hours_asked_for(any_home):
    classes.add(any_home, "cat", actor="ann")
    one, other = (given.version(any_home, "cat", at=at) for at in range(2))
    hour = traffic.hour(NOW)
    with any_home.db.write() as connection:
        traffic.add(connection, one, hour, {(0, 0): 3, (1, 4): 3})
        traffic.add(connection, one, hour, {(0, 0): 2, (0, 1): 1, (1, 4): 3})
        traffic.add(connection, one, hour - 2, {(0, 1): 10})
        traffic.add(connection, other, hour, {(0, 0): 100})
        traffic.add(connection, other, hour, {})

    def seen(hours):
        with any_home.db.read() as connection:
            return traffic.seen(connection, one, hours=hours, now=NOW + 5)

    assert (seen(1).answers, seen(1).since) == (6, NOW)
    assert (seen(2).answers, seen(2).since) == (16, NOW - 2 * HOUR_S)
    assert seen(2).of(0, 3) == [5, 11, 0]
    assert seen(2).of(1, 5) == [0, 0, 0, 0, 6]


def test_what_nobody_may_ask_for_any_more_is_forgotten(home):
    classes.add(home, "cat", actor="ann")
    version = given.version(home, "cat")
    with home.db.write() as connection:
        for ago in (KEPT_H + 1, KEPT_H, 0):
            traffic.add(connection, version, traffic.hour(NOW) - ago, {(0, 0): 1})
        traffic.forget(connection, now=NOW)
        left = connection.execute(traffic.traffic.select()).all()

    assert {traffic.hour(NOW) - row.hour for row in left} == {KEPT_H, 0}
