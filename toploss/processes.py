"""Processes that know each other: who is still alive, and children that do not outlive parents."""

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1  # of Linux's prctl
FIRST_TO_GO = 500  # of 1000: whom the kernel ends when memory is short


def identity() -> str:
    """This process, so that another one on the same machine can tell whether it still lives:
    host, process id, and start time (ids are used again)."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def surely_gone(owner: str) -> bool:
    """Whether the process of this identity has ended. False when it cannot be told from here."""
    host, pid, started = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - float(started)) < 1
        return not same or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def follow_parent(
    then: Callable[[], None], *, parent: int | None = None, every_s: float = 0.5
) -> None:
    """Watch the parent process from a thread; when it is gone, however it went, call `then`.

    See `die_with_parent` for one that may hang.

    Args:
        parent: its id, as it told it: it may be gone before we look for the first time.
    """
    parent = parent or os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every_s)
        then()

    threading.Thread(target=watch, name="follow-parent", daemon=True).start()


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that launched it ends: even where it hangs
    in foreign code, or is stopped, and `follow_parent` has no turn. Linux's alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def come_last() -> None:
    """Let all others of this machine go first: for its cores, its disks and its memory."""
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not fill the disk
    if sys.platform == "linux":
        with contextlib.suppress(psutil.Error, OSError):
            psutil.Process().ionice(psutil.IOPRIO_CLASS_BE, 7)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(FIRST_TO_GO))
