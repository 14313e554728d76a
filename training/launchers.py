"""Where a queued run is trained."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from typing import Protocol

from toploss import records
from toploss.home import Home
from toploss.runs import Lease

log = logging.getLogger("toploss.launcher")

PATIENCE_S = 10  # between the polite and the hard end of a training


class Launcher(Protocol):
    """Starts one attempt at a time, and knows how it goes."""

    def launch(self, lease: Lease) -> None: ...

    def poll(self) -> int | None:
        """The exit code of what was launched; None while it works."""

    def stop(self) -> None:
        """End it, politely first; returns when it has ended."""


class SubprocessLauncher:
    """A training as a process of this machine, in a process group of its own, at low priority."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self, lease: Lease) -> None:
        path = self._home.blobs.local(records.log_path(lease.run, lease.fence))
        command = [sys.executable, "-m", "training.run", lease.run]
        command += ["--fence", str(lease.fence), "--parent", str(os.getpid())]
        # Waiting threads must not spin: they would take the cores from a service beside us.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        with path.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        log.info("launched run %s, attempt %d, pid %d", *vars(lease).values(), self._process.pid)

    def poll(self) -> int | None:
        assert self._process is not None, "nothing was launched"
        return self._process.poll()

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
