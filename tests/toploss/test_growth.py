"""How the data set has grown, from a few look-ups."""

from sqlalchemy import update

from tests.toploss import given
from toploss import growth
from toploss.schema import likenesses, sample_events, samples


def test_the_course_and_what_came_since(any_home):
    added = [given.sample(any_home, seed, "cat") for seed in range(9)]
    with any_home.db.write() as connection:
        connection.execute(update(samples).values(added_at=1000.0 * samples.c.seq))
        # PostgreSQL leaves out the number of what was rolled back.
        connection.execute(likenesses.delete().where(likenesses.c.sample_seq == 5))
        connection.execute(sample_events.delete().where(sample_events.c.sample_id == added[4].id))
        connection.execute(samples.delete().where(samples.c.seq == 5))

    with any_home.db.read() as connection:
        course = growth.course(connection, points=3)
        everything = growth.course(connection)
        since = [growth.since(connection, when) for when in (0, 1000, 1001, 5500, 9000, 9001)]

    assert course == [(1000.0, 1), (9000.0, 9)], "there is none in the middle"
    assert [number for _, number in everything] == [1, 2, 3, 4, 6, 7, 8, 9]
    assert since == [9, 9, 8, 4, 1, 0]


def test_nothing_has_come(any_home):
    with any_home.db.read() as connection:
        assert growth.course(connection) == []
        assert growth.since(connection, 0.0) == 0
