"""Where a queued run is trained."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from typing import Protocol

from toploss.attempts import Lease
from toploss.errors import BadSettings
from toploss.home import Home
from toploss.settings import Settings
from training.logbook import Logbook
from training.together import module

log = logging.getLogger("toploss.launcher")

PATIENCE_S = 10  # between the polite and the hard end of a training
NOT_STARTED = -1  # in place of an exit code


def chosen(home: Home) -> "Launcher":
    """The one that the settings name.

    Raises:
        BadSettings: pods could not reach the database or the storage, or there is no cluster.
    """
    if home.settings.executor == "local":
        return SubprocessLauncher(home)
    _refuse_local(home.settings)
    from training.kubernetes import KubernetesLauncher  # late: its client takes a while to load

    return KubernetesLauncher.connect(home)


def _refuse_local(settings: Settings) -> None:
    database = settings.database.partition(":")[0]
    if database.startswith("sqlite"):
        raise BadSettings(
            f"TOPLOSS_EXECUTOR=kubernetes trains in pods, and TOPLOSS_DATABASE_URL={database}:… is "
            "a file of this machine; give postgresql+psycopg://…, or set TOPLOSS_EXECUTOR=local"
        )
    scheme, remote, _ = settings.storage.partition("://")
    if not remote or scheme in ("file", "local"):
        raise BadSettings(
            f"TOPLOSS_EXECUTOR=kubernetes trains in pods, and TOPLOSS_STORAGE_URL="
            f"{settings.storage!r} is a folder of this machine; give s3://bucket/prefix, or set "
            "TOPLOSS_EXECUTOR=local"
        )


class Launcher(Protocol):
    """Starts one attempt at a time, and knows how it goes."""

    outlives: bool  # what it launched goes on when this process ends, and is found again

    def launch(self, lease: Lease) -> None:
        """Start it; where that fails for now (Broken), `poll` tries again or says that it ended."""

    def find(self, lease: Lease) -> bool:
        """Take up what another process has launched for this attempt; False if nothing is there."""

    def poll(self) -> int | None:
        """The exit code of what was launched; None while it works."""

    def reason(self) -> str:
        """Why it has ended, where more is known than the exit code says; else empty."""

    def stop(self) -> None:
        """End it, politely first; returns when it has ended."""


class SubprocessLauncher:
    """A training as a process of this machine, in a process group of its own, at low priority and
    within TOPLOSS_TRAIN_MEMORY (`training.run` sees to both). What it writes to standard output and
    error is the run's log."""

    outlives = False

    def __init__(self, home: Home) -> None:
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._logbook: Logbook | None = None

    def launch(self, lease: Lease) -> None:
        self._process = None
        command = [sys.executable, "-m", *module(self._home.settings, lease)]
        command += ["--parent", str(os.getpid())]
        # Waiting threads must not spin: they would take the cores from a service beside us.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self._logbook = Logbook(self._home, lease).open()
        with self._logbook.file.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        log.info("launched run %s, attempt %d, pid %d", *vars(lease).values(), self._process.pid)

    def find(self, lease: Lease) -> bool:
        return False  # it has ended with whoever launched it

    def poll(self) -> int | None:
        if self._process is None:
            return NOT_STARTED
        code = self._process.poll()
        if code is not None:
            self._signal(signal.SIGKILL)  # what it may have left of its group
            self._close_logbook()
        return code

    def reason(self) -> str:
        return "" if self._process else "it could not be started; see the dispatcher's log"

    def stop(self) -> None:
        if self._process is None or self.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._signal(signal.SIGKILL)
        self._close_logbook()

    def _close_logbook(self) -> None:
        if self._logbook is not None:
            self._logbook.close()
            self._logbook = None

    def _signal(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
