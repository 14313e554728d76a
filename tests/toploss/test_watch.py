import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.toploss import given
from toploss import classes, models, outcomes, policy, servers, traffic, watch
from toploss.outcomes import Outcomes
from toploss.schema import alias_moves
from toploss.schema import servers as table
from toploss.servers import ALIVE_S, Standing
from toploss.watch import Cause, Watch

HEARS = {"novelty": {"threshold": 0.5}}


@pytest.fixture
def home(any_home):
    classes.add(any_home, "cat", actor="ann")
    return any_home


@pytest.fixture
def both(home):
    """The version that served before, and the one in production, generation 2."""
    return [given.promoted(home, "cat", **HEARS) for _ in range(2)]


def heard(home, name, *, silent_s=0.0, **standing):
    here = {"version": "v", "generation": 1, "wanted": 2, "waits_s": 0.0, "error": None}
    with home.db.write() as connection:
        servers.say(connection, name, name, Standing(**here | standing))
        at = {"at": servers.clock(connection) - silent_s}
        connection.execute(table.update().where(table.c.id == name).values(at))


def counted(home, generation, version, **counts):
    with home.db.write() as connection:
        hour = traffic.hour(time.time())
        outcomes.add(connection, hour, generation, version, Outcomes(**counts))


def look(home):
    found = watch.look(home)
    assert found is not None
    return found


def test_it_is_rolled_back_once_and_the_policy_rests(home, both):
    heard(home, "a", waits_s=61, error="golden images differ\0 by 0.3")
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: Watch(home).step(), range(8)))

    (alias,) = filter(None, done)
    assert (alias.version, alias.generation, alias.kind) == (both[0], 3, "rollback")
    assert "on 1 of 1 servers (a), for 61 s by now: golden images differ" in alias.reason
    assert f"rolled back from {both[1]}" in policy.due(home).why
    with home.db.read() as connection:
        assert watch.rollbacks(connection) == {"asked": 0, "load": 1, "errors": 0, "novelty": 0}
    heard(home, "a", wanted=3, waits_s=600, error="neither does that")
    assert Watch(home).step() is None  # a roll-back is not watched
    assert models.moves(home, limit=1)[0].cause == Cause.LOAD


@pytest.mark.parametrize(
    ("said", "undone"),
    [
        ([{"waits_s": 61, "error": "no"}, {"generation": 2}], False),  # it may be that one's fault
        ([{"waits_s": 61, "error": "no"}] * 2 + [{"generation": 2}] * 2, True),  # half
        ([{"waits_s": 61, "error": "no"}] + [{"generation": 2}] * 3, False),
        ([{"waits_s": 61, "error": "no"}] * 2 + [{"generation": 2}], True),
        ([{"waits_s": 59, "error": "no"}], False),  # not for long enough
        ([{"waits_s": 61}], False),  # still loading
        ([{"waits_s": 301}], True),
        ([{"waits_s": 61, "error": "no", "silent_s": ALIVE_S + 5}], False),  # gone
        ([{"waits_s": 900, "error": "no", "wanted": 1}], False),  # of what stood before
        ([{"generation": None, "version": None, "silent_s": 60}] * 3, True),  # it kills them
        ([{"generation": None, "version": None, "silent_s": 60}] * 2, False),
        ([{"generation": None, "silent_s": 60}] * 3 + [{"generation": 2}], False),
        ([], False),
    ],
)
def test_whether_it_loads(home, both, said, undone):
    for number, standing in enumerate(said):
        heard(home, str(number), **standing)

    assert (look(home).cause == Cause.LOAD) == undone


def test_of_one_of_two_servers_that_does_not_load_it_is_told_also_after_the_watch(home, both):
    heard(home, "a", waits_s=61, error="the disk\nis full")
    heard(home, "b", generation=2)
    heard(home, "new", waits_s=servers.LATE_S - 1)  # loads
    heard(home, "gone", waits_s=61, silent_s=ALIVE_S + 5)

    why = look(home).why
    assert "does not load on 1 of 3 servers (a), for 61 s by now: the disk" in why
    assert "but 1 answers with it: look at that server first" in why
    assert Watch(home).step() is None
    with home.db.read() as connection:
        (late,) = servers.behind(connection, 2)
    assert servers.told(late) == (
        "server a answers with v, and not with production for 61 s: the disk is full"
    )


@pytest.mark.parametrize(
    ("now", "then", "cause"),
    [
        ({"answers": 15, "failed": 5}, {"answers": 3000}, Cause.ERRORS),
        ({"answers": 15, "failed": 4}, {"answers": 3000}, None),  # too few
        ({"answers": 15, "failed": 5}, {}, Cause.ERRORS),  # nothing is known of before
        ({"answers": 5000, "failed": 10}, {"answers": 100_000}, None),  # rare
        ({"answers": 80, "failed": 20}, {"answers": 800, "failed": 200}, None),  # as before
        ({"answers": 9000, "failed": 1500}, {"answers": 9000, "failed": 1000}, None),  # not twice
        ({"answers": 100, "novel": 90}, {"answers": 1000, "novel": 20}, Cause.NOVELTY),
        ({"answers": 100, "novel": 90}, {"answers": 19}, None),
        ({"answers": 1000, "novel": 90}, {"answers": 1000, "novel": 1}, None),  # nine points
        ({"answers": 1000, "novel": 600}, {"answers": 1000, "novel": 400}, None),
    ],
)
def test_how_it_answers(home, both, now, then, cause):
    counted(home, 1, both[0], **then)
    counted(home, 2, both[1], **now)

    assert look(home).cause == cause


def test_what_a_version_of_before_cannot_know_is_not_held_against_the_next(home):
    old = given.promoted(home, "cat")
    new = given.promoted(home, "cat", **HEARS)
    counted(home, 1, old, answers=1000)
    counted(home, 2, new, answers=100, novel=100)

    assert look(home).cause is None


def test_who_promotes_it_again_is_not_undone_by_what_was_seen_before(home, both):
    counted(home, 1, both[0], answers=1000)
    counted(home, 2, both[1], answers=50, failed=50)
    assert Watch(home).step() is not None
    models.promote(home, both[1], reason="the camera was broken", actor="ann")

    assert look(home).now.asked == 0
    assert Watch(home).step() is None
    counted(home, 4, both[1], answers=50, failed=50)
    assert Watch(home).step().version == both[0]


def test_where_nothing_served_before_it_is_said_once(home, caplog):
    only = given.promoted(home, "cat")
    heard(home, "a", wanted=1, generation=None, waits_s=100, error="broken")
    judge = Watch(home)

    assert [judge.step() for _ in range(3)] == [None] * 3
    assert caplog.text.count(f"version {only} is not fit to serve") == 1
    assert models.production(home).generation == 1


def test_the_watch_ends(home, both):
    heard(home, "a", waits_s=61, error="no")
    with home.db.write() as connection:
        ago = alias_moves.c.at - home.settings.watch_s
        connection.execute(alias_moves.update().values(at=ago))

    assert watch.look(home) is None
    assert Watch(home).step() is None


def test_it_can_be_turned_off(open_home):
    home = open_home(watch_s=0)
    classes.add(home, "cat", actor="ann")
    given.promoted(home, "cat")

    assert watch.look(home) is None
