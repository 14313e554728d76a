"""Processes that know each other: who is still alive, children that do not outlive parents, and
threads that let others go first."""

import contextlib
import ctypes
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import psutil

T = TypeVar("T")

BEHIND = 10  # niceness of a thread that computes: whoever answers goes first
LAST = 12  # of one that has time: whoever computes goes first
M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of malloc.h
LARGE = 4 * 2**20  # bytes: weights, and not the batches of every day
HEAPS = 4
_BASE = os.getpriority(os.PRIO_PROCESS, 0) if sys.platform == "linux" else 0  # of the process


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


def step_back(niceness: int) -> None:
    """The calling thread, and those that it starts, let others go first from now on."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        which = os.PRIO_PROCESS, threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(*which, max(min(19, _BASE + niceness), os.getpriority(*which)))


def aside(work: Callable[[], T]) -> T:
    """What this returns or raises, done by a thread that lets everybody else go first. A thread
    of its own: who has stepped back may not step forward again."""
    done: Future[T] = Future()

    def run() -> None:
        step_back(LAST)
        try:
            done.set_result(work())
        except BaseException as exc:
            done.set_exception(exc)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return done.result()


def give_memory_back() -> None:
    """What was freed goes back to the system, where the C library keeps it (glibc)."""
    _of_glibc("malloc_trim", 0)


def allocate_to_give_back() -> None:
    """Large pieces come from the system one by one, and go back when they are freed; many threads
    share few heaps. For a process that loads one version after the other (glibc)."""
    _of_glibc("mallopt", M_MMAP_THRESHOLD, LARGE)
    _of_glibc("mallopt", M_ARENA_MAX, HEAPS)


def _of_glibc(name: str, *args: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), name)(*args)
