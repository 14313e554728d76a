"""Runs: asked for, taken, refused, listed."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import select

from tests.toploss import given
from tests.toploss.queueing import DEAD, FAR, enqueue, finish, state, taken
from toploss import attempts, policy, records, runs, schema, snapshots
from toploss.attempts import Lease
from toploss.errors import NotFound, Refused
from toploss.plan import Plan
from toploss.states import RunState
from toploss.triggers import Kind


def test_a_run_from_the_queue_to_its_end(home):
    run = enqueue(home)["id"]
    assert state(home, run) == "queued"

    lease = runs.claim(home, owner=FAR)
    assert (lease, state(home, run)) == (Lease(run=run, fence=1), "leased")

    assert attempts.take_up(home, lease, owner=FAR) == Plan.from_settings(home.settings)
    assert state(home, run) == "running"

    attempts.note(home, lease, stage="head", epoch=1, epochs=4, history=[{"loss": 1.5}])
    assert attempts.beat(home, lease) is False
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


def test_a_hundred_requests_at_once_are_one_run_with_a_hundred_reasons(any_home):
    with ThreadPoolExecutor(20) as pool:
        told = list(pool.map(lambda n: enqueue(any_home, f"reason {n}"), range(100)))

    assert len({run["id"] for run in told}) == 1
    (run,) = records.listed(any_home)
    assert {entry["reason"] for entry in run["reasons"]} == {f"reason {n}" for n in range(100)}


ENQUEUE = """
import sys
from toploss import attempts, runs
from toploss.home import Home
from toploss.settings import read_settings
from toploss.triggers import Kind
home = Home.open(read_settings(home=sys.argv[1], database_url=sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for n in range(25):
    runs.enqueue(home, reason=f"{sys.argv[3]}-{n}", actor="ann", kind=Kind(sys.argv[3]))
    if n == 10 and sys.argv[3] == "http":
        runs.claim(home, owner="elsewhere:1:1.00")
"""


def test_a_hundred_triggers_of_four_processes_are_one_active_run_and_one_that_waits(any_home):
    """In the middle of it a run is taken; another waits then, and all reasons are on the two."""
    settings, kinds = any_home.settings, ["http", "command", "webhook", "schedule"]
    command = [sys.executable, "-c", ENQUEUE, str(settings.home), settings.database]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([*command, kind], **pipes) for kind in kinds]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    began = time.time()
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()

    for process in started:
        process.communicate(timeout=60)
    assert [process.returncode for process in started] == [0, 0, 0, 0]
    told = records.listed(any_home)
    assert sorted(run["state"] for run in told) == ["leased", "queued"]
    reasons = [entry for run in told for entry in run["reasons"]]
    assert {entry["reason"] for entry in reasons} == {f"{k}-{n}" for k in kinds for n in range(25)}
    assert len(reasons) == 100
    assert all(entry["kind"] == entry["reason"].partition("-")[0] for entry in reasons)
    assert all(began <= entry["at"] <= time.time() for entry in reasons)


def test_while_one_is_worked_on_another_may_wait(home):
    first = taken(home).run

    waiting = [enqueue(home)["id"] for _ in range(3)]

    assert len(set(waiting)) == 1
    assert waiting[0] != first
    assert runs.claim(home, owner=FAR) is None


def test_while_the_policy_is_paused_only_what_somebody_has_asked_for_begins(any_home):
    home = any_home
    run = runs.enqueue(home, reason="50 changed", actor="policy", kind=Kind.POLICY)["id"]
    policy.pause(home, reason="rolled back", actor="ann")

    assert runs.claim(home, owner=FAR) is None
    assert state(home, run) == "queued"

    runs.enqueue(home, reason="now", actor="bob", kind=Kind.HTTP)  # joins it
    assert runs.claim(home, owner=FAR) == Lease(run=run, fence=1)


def test_what_was_held_back_begins_when_the_policy_goes_on(home):
    run = runs.enqueue(home, reason="nightly", actor="cron", kind=Kind.SCHEDULE)["id"]
    policy.pause(home, reason="the holidays", actor="ann")
    assert runs.claim(home, owner=FAR) is None

    policy.resume(home, actor="ann")

    assert runs.claim(home, owner=FAR) == Lease(run=run, fence=1)


def test_one_of_many_dispatchers_gets_the_run(any_home):
    home = any_home
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
