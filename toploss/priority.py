"""Threads that let others go first."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

BEHIND = 10  # niceness of a thread that computes: whoever answers goes first
LAST = 12  # of one that has time: whoever computes goes first (settled in docs/benchmarks.md)
NEVER_FIRST = 19  # of one that nobody waits for
_BASE = os.getpriority(os.PRIO_PROCESS, 0) if sys.platform == "linux" else 0  # of the process


def step_back(niceness: int) -> None:
    """The calling thread, and those that it starts, let others go first from now on."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        which = os.PRIO_PROCESS, threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(*which, max(min(19, _BASE + niceness), os.getpriority(*which)))


def aside(work: Callable[[], T], niceness: int = LAST) -> T:
    """What this returns or raises, done by a thread that lets everybody else go first. A thread
    of its own: who has stepped back may not step forward again."""
    done: Future[T] = Future()

    def run() -> None:
        step_back(niceness)
        try:
            done.set_result(work())
        except BaseException as exc:
            done.set_exception(exc)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return done.result()
