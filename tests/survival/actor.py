"""A trainer and a dispatcher that stop at named points: what the fault matrix runs.

The dispatcher is the product's; so are the trainer's pulse, patience, end, and all that it writes.
It learns nothing: its version is two small files. At a point it leaves a file `at-POINT`, and stays
there while there is a file `hold-POINT`; points are named `WHO-ATTEMPT-WHERE`.

To import what they need takes a second each, so all of them are forks of one process that has it.
"""

import errno
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from toploss import artifact, attempts, models
from toploss.attempts import Lease
from toploss.database import one_at_a_time
from toploss.errors import BadData, Cancelled, ToplossError
from toploss.home import Home
from toploss.ids import new_id
from toploss.processes import die_with_parent, follow_parent, identity
from toploss.schema import versions
from toploss.states import BAD_DATA, RunState
from toploss.stores import PART, Folder
from training import dispatcher, ending, patience
from training.launchers import SubprocessLauncher
from training.logbook import Logbook
from training.pulse import Pulse

REAL = time.time
STAGES = ("snapshot", "stage-1", "export")


class Stage:
    """The folder where who stands where is told, and who is to stay."""

    def __init__(self, who: str) -> None:
        self.folder, self.who, self.attempt = Path(os.environ["STAGE"]), who, 0
        skew = float(os.environ["SKEW_TRAINER" if who == "trainer" else "SKEW_DISPATCHER"])
        time.time = lambda: REAL() + skew

    def reach(self, where: str) -> None:
        point = f"{self.who}-{self.attempt}-{where}"
        (self.folder / f"at-{point}").touch()
        while (self.folder / f"hold-{point}").exists():
            time.sleep(0.01)

    def fills(self) -> None:
        """While there is a file `full`, the storage has no room: half of a file is written."""
        write = Folder.write

        def place(folder: Folder, path: str, content: bytes | Path) -> None:
            if (self.folder / "full").exists():
                half = Path(folder.root) / f"{path}.half{PART}"
                half.parent.mkdir(parents=True, exist_ok=True)
                half.write_bytes(b"half")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(half))
            write(folder, path, content)
            if path.startswith("versions/"):
                self.reach("half-published")

        Folder.write = place


def train(home: Home, lease: Lease, stage: Stage) -> None:
    stage.reach("started")
    with ending.written(home, lease), ending.logged(home, lease), Pulse(home, lease) as pulse:
        attempts.take_up(home, lease, owner=identity())
        stage.reach("taken")
        for name in STAGES:
            pulse.check()
            patience.through(home, partial(attempts.note, home, lease, stage=name), pulse.check)
            if name == "stage-1":
                put = partial(home.blobs.put, f"runs/{lease.run}/moment", b"m")
                patience.through(home, put, pulse.check)
            stage.reach(name)
            while (stage.folder / "endless").exists():  # as in foreign code: it hears nobody
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
                time.sleep(0.05)
            if (stage.folder / "bad").exists():
                raise BadData("too few images")
        pulse.check()
        with tempfile.TemporaryDirectory() as scratch:
            folder, name = Path(scratch), new_id()
            for file in ("a.bin", "b.bin"):
                (folder / file).write_bytes(secrets.token_bytes(50_000))
            manifest = {"version": name, "labels": ["cat"]}
            sealed = artifact.seal(folder, manifest)
            path = f"versions/{name}"
            patience.through(home, lambda: artifact.publish(home, folder, path), pulse.check)
        stage.reach("published")
        with home.db.write(long=True) as connection:
            one_at_a_time(connection)
            if attempts.owned(connection, lease).cancel_asked:
                raise Cancelled("cancelled")
            connection.execute(
                versions.insert().values(
                    name=name,
                    run_id=lease.run,
                    path=path,
                    manifest_sha256=sealed,
                    manifest=manifest,
                    class_ids=[],
                    created_at=time.time(),
                )
            )
            models.move(connection, name, reason="better", actor=f"run {lease.run}")
            attempts.finish(connection, lease, RunState.SUCCEEDED, version=name)
            stage.reach("uncommitted")
        stage.reach("committed")


class Forked:
    """A child as `subprocess.Popen` shows it."""

    def __init__(self, work: Callable[[], int]) -> None:
        self._code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            begin(work)

    def poll(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, seconds: float = 60) -> int:
        deadline = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("training", seconds)
            time.sleep(0.01)
        return code


def begin(work: Callable[[], int]) -> NoReturn:
    """As a process of its own would: in its session, with what it says in the log."""
    code = 1
    try:
        os.setsid()
        log = os.open(Path(os.environ["STAGE"]) / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


class Launcher(SubprocessLauncher):
    def __init__(self, home: Home, stage: Stage) -> None:
        super().__init__(home)
        self._stage = stage

    def launch(self, lease: Lease) -> None:
        self._stage.attempt = lease.fence
        self._stage.reach("claimed")
        Logbook(self._home, lease).open()
        parent = os.getpid()
        self._process = Forked(lambda: trainer(lease, parent))
        self._stage.reach("launched")


def dispatch(home: Home, stage: Stage) -> None:
    give_up = attempts.give_up

    def giving_up(home: Home, lease: Lease, **rest: Any) -> RunState:
        stage.attempt = lease.fence
        stage.reach("giving-up")
        state = give_up(home, lease, **rest)
        stage.reach("gave-up")
        return state

    attempts.give_up = giving_up
    dispatcher.STEP_S, dispatcher.PATIENCE_S = 0.1, 1
    dispatcher.until_stopped(dispatcher.Dispatcher(home, Launcher(home, stage)))


def trainer(lease: Lease, parent: int) -> int:
    die_with_parent()
    follow_parent(lambda: os._exit(1), parent=parent)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    stage = Stage("trainer")
    stage.attempt = lease.fence
    stage.fills()
    patience.LOOK_S = 0.3
    (stage.folder / f"pid-{lease.fence}").write_text(str(os.getpid()))
    try:
        train(Home.open(), lease, stage)
    except BadData:
        return BAD_DATA
    except ToplossError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


def dispatching(name: str) -> int:
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    dispatch(Home.open(), Stage(name))
    return 0


def main() -> None:
    """Fork a dispatcher for every line that comes, and say its process id."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        wanted = json.loads(line)
        child = os.fork()
        if child == 0:
            os.environ.update(wanted["environment"])
            begin(partial(dispatching, wanted["name"]))
        print(child, flush=True)


if __name__ == "__main__":
    main()
