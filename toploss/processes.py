"""Processes that know each other: who is still alive, and children that do not outlive parents."""

import os
import socket
import threading
import time
from collections.abc import Callable

import psutil


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

    What the kernel offers for this (PR_SET_PDEATHSIG) is Linux's alone, and tied to the parent's
    thread.

    Args:
        parent: its id, as it told it: it may be gone before we look for the first time.
    """
    parent = parent or os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every_s)
        then()

    threading.Thread(target=watch, name="follow-parent", daemon=True).start()
