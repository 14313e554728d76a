"""The dispatcher against a recording launcher: level-triggered, restartable, one acts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from sqlalchemy import select

from tests.conftest import QUICK, coloured
from tests.toploss import given
from tests.toploss.deciding import changed
from toploss import attempts, models, records, runs, samples, servers, settling, snapshots, vitals
from toploss.attempts import Lease
from toploss.errors import Broken
from toploss.home import Home
from toploss.schema import scores
from toploss.servers import Standing
from toploss.splits import Split
from toploss.states import BAD_DATA, RunState
from training.dispatcher import Dispatcher
from training.launchers import SubprocessLauncher


class RecordingLauncher:
    """Remembers what it launched; ends when it is told to."""

    outlives = False

    def __init__(self) -> None:
        self.launched: list[Lease] = []
        self.code: int | None = None
        self.stopped = False

    def launch(self, lease: Lease) -> None:
        self.launched.append(lease)
        self.code = None

    def find(self, lease: Lease) -> bool:
        return False

    def poll(self) -> int | None:
        return self.code

    def reason(self) -> str:
        return ""

    def stop(self) -> None:
        self.stopped, self.code = True, -15


@pytest.fixture
def launcher() -> RecordingLauncher:
    return RecordingLauncher()


def queued(home: Home) -> str:
    return str(runs.enqueue(home, reason="test", actor="test")["id"])


def test_scores_that_nobody_looks_at_are_removed_beside_the_work(
    home: Home, launcher: RecordingLauncher
) -> None:
    ids = [given.sample(home, seed, "cat").id for seed in range(3)]
    versions = [given.promoted(home, "cat", "cat") for _ in range(3)]
    for version in versions:
        given.opinion(home, version, ids, [[0.5, 0.5]] * 3)
    queued(home)
    dispatcher = Dispatcher(home, launcher)

    for _ in range(3):
        dispatcher.step()

    assert launcher.launched
    with home.db.read() as connection:
        scored = select(scores.c.scoring).distinct().order_by(scores.c.scoring)
        assert connection.execute(scored).scalars().all() == [2, 3]


def test_what_a_verdict_left_is_settled_when_no_training_is_at_hand(
    any_home: Home, launcher: RecordingLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take longer than a lease lasts, for which the dispatcher speaks."""
    home = any_home
    monkeypatch.setattr(settling, "AT_ONCE", 1)
    given.two_classes(home)
    given.settled(home, snapshots.freeze(home).fingerprint)
    queued(home)
    dispatcher = Dispatcher(home, launcher)

    for _ in range(3):
        dispatcher.step()

    assert (len(launcher.launched), dispatcher.busy) == (1, True)
    assert settles(home)
    launcher.code = BAD_DATA
    dispatcher.step()
    assert not dispatcher.busy
    assert not settles(home)
    assert changed(home) == 0


def settles(home: Home) -> bool:
    with home.db.read() as connection:
        return settling.going_on(connection) is not None


def test_a_version_that_does_not_load_is_rolled_back_and_old_files_are_removed(
    open_home: Callable[..., Home], launcher: RecordingLauncher
) -> None:
    home = open_home(keep_versions=0, keep_days=0, keep_rollbacks=1)
    given.sample(home, 1, "cat")
    oldest, before, bad = (given.promoted(home, "cat") for _ in range(3))
    for version in (oldest, before, bad):
        home.blobs.put(f"versions/{version}/manifest.json", b"{}")
    broken = Standing(version=before, generation=2, wanted=3, waits_s=99, error="it is broken")
    with home.db.write() as connection:
        servers.say(connection, "a", "host:1", broken)
    dispatcher = Dispatcher(home, launcher)

    dispatcher.step()

    assert models.get(home, "production").name == before
    assert models.get(home, oldest).pruned_at is None  # a dispatcher that has just begun
    dispatcher._prune_at = 0.0
    for _ in range(3):
        dispatcher.step()
    gone = [version.name for version in models.listed(home) if version.pruned_at]
    assert gone == [bad]  # `oldest` is what a roll-back would return to by now
    assert not home.blobs.exists(f"versions/{bad}/manifest.json")
    assert dispatcher._prune_at > time.monotonic()


def state(home: Home, run: str) -> str:
    return str(records.show(home, run)["state"])


def test_a_queued_run_is_launched_once(home: Home, launcher: RecordingLauncher) -> None:
    run = queued(home)
    dispatcher = Dispatcher(home, launcher)

    dispatcher.step()
    dispatcher.step()

    assert launcher.launched == [Lease(run=run, fence=1)]
    assert state(home, run) == "leased"


def test_whoever_watches_hears_that_it_works(home: Home, launcher: RecordingLauncher) -> None:
    """But not of one whose steps fail, nor while a silent training may hold up all writers."""
    dispatcher = Dispatcher(home, launcher)

    dispatcher.step()
    first = vitals.look(home).dispatcher_at
    dispatcher.step()
    assert vitals.look(home).dispatcher_at == first  # it writes once in a while
    for silent in (time.monotonic(), None):
        dispatcher._say_at, dispatcher._silent_since = 0.0, silent
        dispatcher.step()
        later = vitals.look(home).dispatcher_at
        assert first is not None
        assert later is not None
        assert (later > first) == (silent is None)


def test_of_two_dispatchers_one_acts(home: Home) -> None:
    queued(home)
    first, second = RecordingLauncher(), RecordingLauncher()

    Dispatcher(home, first).step()
    Dispatcher(home, second).step()

    assert len(first.launched) + len(second.launched) == 1


def test_a_training_that_dies_is_tried_again_until_it_has_failed(
    open_home: Callable[..., Home], launcher: RecordingLauncher
) -> None:
    home = open_home(attempts=2)
    run = queued(home)
    dispatcher = Dispatcher(home, launcher)

    for _ in range(2):
        dispatcher.step()
        launcher.code = -9
        dispatcher.step()

    assert [lease.fence for lease in launcher.launched] == [1, 2]
    launcher.code = -9
    dispatcher.step()
    assert state(home, run) == "failed"
    assert "exit code -9" in records.show(home, run)["error"]


def test_a_stopped_dispatcher_leaves_the_run_waiting(
    home: Home, launcher: RecordingLauncher
) -> None:
    run = queued(home)
    dispatcher = Dispatcher(home, launcher)
    dispatcher.step()

    dispatcher.close()

    assert launcher.stopped
    assert state(home, run) == "queued"


def test_a_new_dispatcher_takes_over_from_a_dead_one(
    home: Home, launcher: RecordingLauncher
) -> None:
    run = queued(home)
    dead = subprocess.run(
        [sys.executable, "-c", "from toploss.processes import identity; print(identity())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert runs.claim(home, owner=dead) is not None

    Dispatcher(home, launcher).step()

    assert launcher.launched == [Lease(run=run, fence=2)]


def test_the_policy_asks_for_a_run_when_enough_has_changed(
    learned_home: Callable[..., Home], launcher: RecordingLauncher
) -> None:
    home = learned_home(retrain_after=2, retrain_quiet_s=0, retrain_cooldown_s=0)
    dispatcher = Dispatcher(home, launcher)
    dispatcher.step()
    assert not launcher.launched

    for seed in (501, 502):
        samples.add(home, coloured("red", seed), "red", name="x.png", actor="x", split=Split.TRAIN)
    dispatcher.step()
    dispatcher.step()

    (lease,) = launcher.launched
    shown = records.show(home, lease.run)
    assert shown["reasons"][0]["reason"] == "policy: 2 samples have changed"
    assert shown["settings"]["arch"] == QUICK["arch"]


def test_a_run_that_ignores_its_cancellation_is_ended(
    home: Home, launcher: RecordingLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.dispatcher.PATIENCE_S", 0)
    run = queued(home)
    dispatcher = Dispatcher(home, launcher)
    dispatcher.step()
    runs.cancel(home, run)

    dispatcher.step()
    time.sleep(0.01)
    dispatcher.step()
    dispatcher.step()

    assert launcher.stopped
    assert state(home, run) == "cancelled"


def test_what_cannot_be_launched_waits_and_is_tried_again(
    open_home: Callable[..., Home], launcher: RecordingLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = open_home(retry_s=100)
    run = queued(home)

    def refuse(lease: Lease) -> None:
        raise OSError("no room")

    monkeypatch.setattr(launcher, "launch", refuse)
    dispatcher = Dispatcher(home, launcher)
    dispatcher.step()
    dispatcher.step()

    shown = records.show(home, run)
    assert (shown["state"], shown["cause"], shown["losses"]) == ("queued", "away", 1)
    assert shown["error"] == "it cannot be launched: no room"
    assert not dispatcher.busy


def test_bad_data_is_not_tried_again(home: Home, launcher: RecordingLauncher) -> None:
    run = queued(home)
    dispatcher = Dispatcher(home, launcher)
    dispatcher.step()
    launcher.code = BAD_DATA
    dispatcher.step()

    assert (state(home, run), records.show(home, run)["cause"]) == ("failed", "bad_data")
    assert len(launcher.launched) == 1


def test_a_training_that_takes_too_long_is_ended_for_good(
    open_home: Callable[..., Home], launcher: RecordingLauncher
) -> None:
    home = open_home(run_limit_s=0.2)
    run = queued(home)
    dispatcher = Dispatcher(home, launcher)
    dispatcher.step()
    dispatcher.step()
    assert state(home, run) == "leased"
    time.sleep(0.3)
    dispatcher.step()
    dispatcher.step()

    shown = records.show(home, run)
    assert (shown["state"], shown["cause"]) == ("failed", "time_limit")
    assert shown["error"].startswith("it took longer than TOPLOSS_RUN_LIMIT_S=0.2 seconds; ")
    assert launcher.stopped
    assert len(launcher.launched) == 1


def test_a_training_that_falls_silent_is_ended_and_tried_again(
    open_home: Callable[..., Home], launcher: RecordingLauncher
) -> None:
    home = open_home(lease_s=1.01)
    run = queued(home)
    dispatcher = Dispatcher(home, launcher)
    dispatcher.step()
    attempts.take_up(home, launcher.launched[0], owner="elsewhere:1:1.00")  # and never says a word

    _until(lambda: dispatcher.step() or len(launcher.launched) == 2, 20)

    assert launcher.stopped
    assert records.show(home, run)["error"] == "its process has fallen silent"


def test_one_that_is_still_being_launched_is_not_silent(
    open_home: Callable[..., Home], launcher: RecordingLauncher
) -> None:
    home = open_home(lease_s=1.01)
    queued(home)
    dispatcher, other = Dispatcher(home, launcher), Dispatcher(home, RecordingLauncher())
    for _ in range(15):
        dispatcher.step()
        other.step()
        time.sleep(0.1)

    assert len(launcher.launched) == 1
    assert not launcher.stopped


@pytest.mark.slow
def test_a_run_of_two_processes_that_a_dispatcher_launched(
    learned_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = learned_home(train_processes=2, device="cpu", threads=1)
    samples.add(home, coloured("red", 601), "red", name="x.png", actor="x", split=Split.TRAIN)
    run = queued(home)
    for name in ("HOME", "THREADS", "DEVICE"):
        monkeypatch.setenv(f"TOPLOSS_{name}", str(getattr(home.settings, name.lower())))
    dispatcher = Dispatcher(home, SubprocessLauncher(home))
    try:
        dispatcher.step()
        _until(lambda: dispatcher.step() or not dispatcher.busy, 400)
    finally:
        dispatcher.close()

    shown = records.show(home, run)
    assert shown["state"] == "succeeded", records.read_log(home, run)
    assert len(shown["history"]) == 5


@pytest.mark.slow  # tests/survival kills real trainers of a real dispatcher at worse moments
def test_a_real_retraining_survives_the_death_of_its_trainer(
    learned_home: Callable[..., Home],
) -> None:
    home = learned_home()
    samples.add(home, coloured("red", 601), "red", name="x.png", actor="x", split=Split.TRAIN)
    run = str(runs.enqueue(home, reason="test", actor="test")["id"])
    launcher = SubprocessLauncher(home)
    dispatcher = Dispatcher(home, launcher)
    os.environ["TOPLOSS_HOME"] = str(home.settings.home)
    try:
        dispatcher.step()
        _until(lambda: state(home, run) == RunState.RUNNING)
        assert launcher._process is not None
        os.kill(launcher._process.pid, signal.SIGKILL)
        _until(lambda: launcher.poll() is not None)

        dispatcher.step()
        assert records.show(home, run)["attempt"] == 2
        _until(lambda: dispatcher.step() or not dispatcher.busy)
    finally:
        dispatcher.close()
        del os.environ["TOPLOSS_HOME"]

    shown = records.show(home, run)
    assert shown["state"] == "succeeded", records.read_log(home, run)
    assert len(models.listed(home)) == 2
    assert shown["version"] == models.listed(home)[0].name


def _until(done: Callable[[], object], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)


def test_what_cannot_be_tidied_up_holds_up_no_run(
    home: Home, launcher: RecordingLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(_: Home) -> None:
        raise Broken("a version is damaged")

    monkeypatch.setattr("toploss.erasure.finish", damaged)
    dispatcher = Dispatcher(home, launcher)
    dispatcher.step()
    run = queued(home)

    dispatcher.step()

    assert launcher.launched == [Lease(run=run, fence=1)]
