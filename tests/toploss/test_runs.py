import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from tests.toploss import given
from toploss import processes, records, runs, schema, snapshots
from toploss.errors import Fenced, NotFound, Refused
from toploss.plan import Plan
from toploss.runs import Lease, RunState

ALIVE = processes.identity()
DEAD = f"{ALIVE.split(':')[0]}:{2**22 + 1}:1.00"  # no process has such a number
FAR = "elsewhere:1:1.00"


def enqueue(home, reason="asked", **options):
    return runs.enqueue(home, reason=reason, actor="ann", **options)


def taken(home, owner=FAR):
    """A run that a trainer has taken up."""
    enqueue(home)
    lease = runs.claim(home, owner=owner)
    runs.take_up(home, lease, owner=owner)
    return lease


def finish(home, lease, state=RunState.SUCCEEDED, **fields):
    with home.db.write() as connection:
        runs.finish(connection, lease, state, **fields)


def state(home, run):
    return records.show(home, run)["state"]


def test_a_run_from_the_queue_to_its_end(home):
    run = enqueue(home)["id"]
    assert state(home, run) == "queued"

    lease = runs.claim(home, owner=FAR)
    assert (lease, state(home, run)) == (Lease(run=run, fence=1), "leased")

    assert runs.take_up(home, lease, owner=FAR) == Plan.from_settings(home.settings)
    assert state(home, run) == "running"

    runs.note(home, lease, stage="head", epoch=1, epochs=4, history=[{"loss": 1.5}])
    assert runs.beat(home, lease) is False
    finish(home, lease, metrics={"test": 0.9}, version="v")

    told = records.show(home, run)
    assert (told["state"], told["stage"], told["epoch"], told["version"]) == (
        "succeeded",
        "head",
        1,
        "v",
    )
    assert told["history"] == [{"loss": 1.5}]
    assert told["created_at"] <= told["started_at"] <= told["ended_at"]
    assert runs.claim(home, owner=FAR) is None


def test_a_hundred_requests_at_once_are_one_run_with_a_hundred_reasons(home):
    with ThreadPoolExecutor(20) as pool:
        told = list(pool.map(lambda n: enqueue(home, f"reason {n}"), range(100)))

    assert len({run["id"] for run in told}) == 1
    (run,) = records.listed(home)
    assert {entry["reason"] for entry in run["reasons"]} == {f"reason {n}" for n in range(100)}


ENQUEUE = """
import sys
from pathlib import Path
from toploss import records, runs
from toploss.home import Home
from toploss.settings import read_settings
home = Home.open(read_settings(home=Path(sys.argv[1])))
for n in range(20):
    runs.enqueue(home, reason=f"{sys.argv[2]}-{n}", actor="ann")
    runs.claim(home, owner="elsewhere:1:1.00")
"""


def test_processes_share_one_queue(home):
    """Three ask and take at once: one run is taken, one waits, and no reason is lost."""
    started = [
        subprocess.Popen([sys.executable, "-c", ENQUEUE, str(home.settings.home), str(n)])
        for n in range(3)
    ]

    assert [process.wait(60) for process in started] == [0, 0, 0]
    told = records.listed(home)
    assert sorted(run["state"] for run in told) == ["leased", "queued"]
    assert sum(len(run["reasons"]) for run in told) == 60


def test_while_one_is_worked_on_another_may_wait(home):
    first = taken(home).run

    waiting = [enqueue(home)["id"] for _ in range(3)]

    assert len(set(waiting)) == 1
    assert waiting[0] != first
    assert runs.claim(home, owner=FAR) is None


def test_one_of_many_dispatchers_gets_the_run(home):
    enqueue(home)

    with ThreadPoolExecutor(12) as pool:
        leases = list(pool.map(lambda _: runs.claim(home, owner=FAR), range(24)))

    assert len([lease for lease in leases if lease]) == 1


def test_one_of_many_foreground_runs_begins(home):
    def start(_):
        try:
            return given.running(home)
        except Refused as exc:
            return str(exc)

    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(start, range(10)))

    leases = [result for result in results if isinstance(result, Lease)]
    assert len(leases) == 1
    told = [result for result in results if isinstance(result, str)]
    assert all(f"run {leases[0].run} is running; wait for it" in message for message in told)


def test_a_foreground_run_is_refused_while_one_is_active_and_leaves_nothing(home):
    taken(home)

    with pytest.raises(Refused):
        given.running(home)

    assert len(records.listed(home)) == 1


def test_a_foreground_run_begins_when_the_active_one_is_dead(home):
    lost = taken(home, DEAD)

    lease = given.running(home)

    assert state(home, lost.run) == "queued"
    assert state(home, lease.run) == "running"


def test_an_attempt_that_was_given_up_changes_nothing_any_more(home):
    late = taken(home)
    runs.give_up(home, late, error="lost")
    again = runs.claim(home, owner=FAR)

    assert again == Lease(run=late.run, fence=2)
    for act in (
        lambda: runs.beat(home, late),
        lambda: runs.note(home, late, stage="head"),
        lambda: runs.take_up(home, late, owner=FAR),
        lambda: runs.give_up(home, late, error="again"),
        lambda: finish(home, late),
    ):
        with pytest.raises(Fenced, match=r"attempt 1 at run \w+ is void: .* in attempt 2"):
            act()
    told = records.show(home, late.run)
    assert (told["state"], told["stage"], told["attempt"]) == ("leased", None, 2)


def test_what_a_void_attempt_wrote_beside_its_end_is_undone(home):
    """The version's row and the end of the run are one transaction, under the fence."""
    late = taken(home)
    runs.give_up(home, late, error="lost")

    def publish():
        with home.db.write() as connection:
            connection.execute(schema.facts.insert().values(key="version", value="late"))
            runs.finish(connection, late, RunState.SUCCEEDED)

    with pytest.raises(Fenced):
        publish()

    with home.db.read() as connection:
        assert connection.execute(select(func.count()).select_from(schema.facts)).scalar() == 0


@pytest.mark.parametrize("end", [RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED])
def test_an_end_is_an_end(home, end):
    lease = taken(home)
    finish(home, lease, end)

    for act in (
        lambda: runs.beat(home, lease),
        lambda: runs.note(home, lease, stage="head"),
        lambda: runs.give_up(home, lease, error="late"),
        lambda: finish(home, lease, RunState.FAILED),
    ):
        with pytest.raises(Fenced):
            act()
    assert state(home, lease.run) == end


def test_a_lost_run_is_tried_so_many_times(open_home):
    home = open_home(attempts=3)
    run, states = enqueue(home)["id"], []

    while lease := runs.claim(home, owner=FAR):
        states.append(runs.give_up(home, lease, error=f"lost {lease.fence}"))

    assert states == [RunState.QUEUED, RunState.QUEUED, RunState.FAILED]
    told = records.show(home, run)
    assert (told["state"], told["error"], told["attempt"]) == ("failed", "lost 3", 3)
    assert told["ended_at"] is not None


def test_a_dispatcher_that_stops_loses_no_attempt(open_home):
    home = open_home(attempts=1)
    lease = taken(home)

    assert runs.give_up(home, lease, error="stopped", lost=False) is RunState.QUEUED


def test_a_lost_foreground_run_is_not_tried_again(home):
    lease = given.running(home)

    assert runs.give_up(home, lease, error="lost") is RunState.FAILED


def test_a_lost_run_makes_way_for_the_one_that_waits(home):
    lost = taken(home)
    waiting = enqueue(home)["id"]

    assert runs.give_up(home, lost, error="lost") is RunState.FAILED

    assert records.show(home, lost.run)["error"] == f"lost; run {waiting} goes on in its place"
    reasons = [entry["reason"] for entry in records.show(home, waiting)["reasons"]]
    assert reasons == ["asked", "asked"]  # its own, and the lost one's


def test_reap_leaves_the_living_alone(home):
    assert runs.reap(home) is None
    lease = taken(home, ALIVE)

    assert runs.reap(home) is None
    runs.beat(home, lease)
    assert state(home, lease.run) == "running"


@pytest.mark.parametrize("taken_up", [True, False])
def test_reap_settles_a_run_whose_process_is_dead(home, taken_up):
    enqueue(home)
    lease = runs.claim(home, owner=DEAD)
    if taken_up:
        runs.take_up(home, lease, owner=DEAD)

    assert runs.reap(home) == lease.run

    told = records.show(home, lease.run)
    assert (told["state"], told["error"]) == ("queued", "its process has ended")
    assert runs.reap(home) is None


def test_reap_settles_a_run_that_has_fallen_silent(open_home):
    home = open_home(lease_s=1.01)
    lease = taken(home)
    assert runs.reap(home) is None

    time.sleep(0.6)
    runs.beat(home, lease)
    time.sleep(0.6)
    assert runs.reap(home) is None
    time.sleep(0.6)

    assert runs.reap(home) == lease.run
    assert records.show(home, lease.run)["error"] == "its process has fallen silent"


def test_of_many_reapers_one_settles(open_home):
    home = open_home(attempts=100)
    lease = taken(home, DEAD)

    with ThreadPoolExecutor(10) as pool:
        settled = [run for run in pool.map(lambda _: runs.reap(home), range(20)) if run]

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
        runs.take_up(home, lease, owner=FAR)

    told = runs.cancel(home, lease.run)

    assert (told["state"], told["cancel_asked"]) == ("running" if taken_up else "leased", True)
    assert runs.beat(home, lease) is True
    finish(home, lease, RunState.CANCELLED)
    assert runs.cancel(home, lease.run)["state"] == "cancelled"


def test_a_run_that_dies_after_it_was_asked_to_stop_is_cancelled(home):
    lease = taken(home, DEAD)
    runs.cancel(home, lease.run)

    runs.reap(home)

    assert state(home, lease.run) == "cancelled"


@pytest.mark.parametrize("end", [RunState.SUCCEEDED, RunState.FAILED])
def test_what_has_ended_cannot_be_cancelled(home, end):
    lease = taken(home)
    finish(home, lease, end)

    with pytest.raises(Refused, match=f"cannot be cancelled: it has {end} already"):
        runs.cancel(home, lease.run)


def test_unknown_runs(home):
    for act in (records.show, runs.cancel):
        with pytest.raises(NotFound, match="no run 'x'; `toploss runs list`"):
            act(home, "x")


def test_a_run_is_asked_for_with_production_s_settings(home):
    given.two_classes(home)
    own = Plan.from_settings(home.settings).but(arch="resnet18", size=64)
    assert enqueue(home)["settings"] == Plan.from_settings(home.settings).as_json()
    runs.cancel(home, records.listed(home)[0]["id"])

    version = given.promoted(home, "cat", "dog")
    with home.db.write() as connection:
        published_by = select(schema.versions.c.run_id).where(schema.versions.c.name == version)
        connection.execute(
            schema.runs.update()
            .where(schema.runs.c.id == published_by.scalar_subquery())
            .values(plan=own.as_json())
        )

    assert enqueue(home)["settings"] == own.as_json()


def test_a_retraining_begins_with_production_s_network_where_that_is_wanted(open_home):
    home = open_home(retrain_start="shrink-perturb")
    given.two_classes(home)
    assert enqueue(home)["settings"]["start"] is None  # of what there is none
    runs.cancel(home, records.listed(home)[0]["id"])

    version = given.promoted(home, "cat", "dog")

    settings = enqueue(home)["settings"]
    assert settings["start"] == f"versions/{version}/weights.safetensors"
    assert settings["warm"] == "shrink-perturb"


def test_the_same_work_is_refused_unless_forced(home):
    given.two_classes(home)
    fingerprint = snapshots.freeze(home).fingerprint
    lease = taken(home)
    finish(home, lease, fingerprint=fingerprint)

    with pytest.raises(Refused, match=f"nothing to learn: run {lease.run} had the same data"):
        enqueue(home, fingerprint=fingerprint)
    assert len(records.listed(home)) == 1

    assert enqueue(home, fingerprint=fingerprint, force=True)["state"] == "queued"


def test_the_same_work_in_smaller_parts_is_the_same(home):
    given.two_classes(home)
    fingerprint = snapshots.freeze(home).fingerprint
    plan = replace(given.plan(home), part=8)
    finish(home, taken(home), fingerprint=fingerprint, plan=plan.as_json())

    with pytest.raises(Refused, match="nothing to learn"):
        enqueue(home, fingerprint=fingerprint)


@pytest.mark.parametrize("end", [RunState.FAILED, RunState.CANCELLED])
def test_work_without_a_verdict_may_be_done_again(home, end):
    given.two_classes(home)
    fingerprint = snapshots.freeze(home).fingerprint
    finish(home, taken(home), end, fingerprint=fingerprint)

    assert enqueue(home, fingerprint=fingerprint)["state"] == "queued"


def test_lists_are_paged_newest_first(home):
    made = []
    for _ in range(5):
        made.append(enqueue(home)["id"])
        runs.cancel(home, made[-1])
        time.sleep(0.002)

    page = records.listed(home, limit=2)
    rest = records.listed(home, after=page[-1]["id"])

    assert [run["id"] for run in page + rest] == made[::-1]
