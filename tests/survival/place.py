"""Where a test of survival goes on: a home in a folder, and the processes that work on it."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import QUICK
from toploss import artifact, models, records, runs
from toploss.home import Home
from toploss.states import ACTIVE, RunState

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
RECIPE = [f"--{key.replace('_', '-')}={value}" for key, value in QUICK.items()]

# Runs in every Python process of the test, before anything else. DIE_AT names one moment per
# attempt at a run; there the trainer ends as by `kill -9`.
REAPER = """
import os, signal, sys, threading
from contextlib import contextmanager

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def moment():
    told = sys.argv[sys.argv.index("--fence") + 1] if "--fence" in sys.argv else "1"
    moments = dict(enumerate(os.environ["DIE_AT"].split(","), start=1))
    return moments.get(int(told))

if os.environ.get("DIE_AT") and {"training.run", "train"} & set(sys.orig_argv):
    from toploss import attempts, records, runs
    from toploss.blobs import Blobs
    from toploss.database import Database

    note, put, finish, write = attempts.note, Blobs.put_file, attempts.finish, Database.write
    finished = threading.Event()

    def noted(*args, **fields):
        note(*args, **fields)
        if fields.get("stage") == moment():  # stage-1 or export: in the midst of it
            threading.Timer(0.2, die).start()

    def placed(self, path, *args, **more):
        put(self, path, *args, **more)
        if path.startswith("versions/") and path.endswith(".onnx") and moment() == "half-copied":
            die()

    def ended(*args, **fields):
        finish(*args, **fields)
        finished.set()
        if moment() == "uncommitted":
            die()

    @contextmanager
    def written(self, **more):
        with write(self, **more) as connection:
            yield connection
        if finished.is_set() and moment() == "committed":
            die()

    attempts.note, Blobs.put_file, attempts.finish, Database.write = noted, placed, ended, written
"""


@dataclass
class Place:
    """A home in the test's folder, and the processes that work on it."""

    folder: Path
    home: Home
    started: ExitStack
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *command: str, **more: str) -> subprocess.Popen[bytes]:
        """A process of ours; it is ended with the test."""
        log = (self.folder / "log.txt").open("ab")
        with log:
            process = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                cwd=ROOT,
                env={**self.environment, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.started.callback(end, process)
        return process

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    def run(self) -> dict[str, Any]:
        """The newest one."""
        return records.listed(self.home, limit=1)[0]

    def until(self, done: Callable[[], object], seconds: float = 240) -> float:
        """Wait for it; returns how long it took."""
        began = time.monotonic()
        while not done():
            assert time.monotonic() < began + seconds, f"not in {seconds} s\n{self.log()[-4000:]}"
            time.sleep(0.05)
        return time.monotonic() - began

    def nothing_is_left(self) -> bool:
        """No run is active or waits."""
        return all(
            run["state"] not in (*ACTIVE, RunState.QUEUED) for run in records.listed(self.home)
        )

    def whole(self) -> list[str]:
        """The versions that are visible, every file of every one checked against its hash."""
        found = models.listed(self.home)
        for version in found:
            artifact.fetch(self.home, version, self.folder / "fetched" / version.name)
        return [version.name for version in found]

    def stray_versions(self) -> list[Path]:
        """Folders of versions that have no row."""
        visible = {version.name for version in models.listed(self.home)}
        folders = (Path(self.home.settings.storage) / "versions").iterdir()
        return [folder for folder in folders if folder.name not in visible]


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def asked(place: Place) -> str:
    return str(runs.enqueue(place.home, reason="test", actor="test", force=True)["id"])


def trainer_of(dispatcher: subprocess.Popen[bytes]) -> psutil.Process | None:
    children = psutil.Process(dispatcher.pid).children()
    return children[0] if children else None


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
