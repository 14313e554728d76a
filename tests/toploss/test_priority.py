import os
import sys
import threading

import pytest

from toploss.priority import BEHIND, LAST, aside, step_back

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority here")


def niceness():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_aside_returns_and_raises_what_the_work_does():
    assert aside(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 / 0)


@on_linux
def test_it_is_last_and_so_are_its_threads_and_the_caller_is_not():
    def work():
        inner = []
        thread = threading.Thread(target=lambda: inner.append(niceness()))
        thread.start()
        thread.join()
        return niceness(), inner[0]

    base = niceness()

    assert aside(work) == (min(19, base + LAST),) * 2
    assert niceness() == base


@on_linux
def test_who_has_stepped_back_stays_there():
    base = niceness()

    def work():
        step_back(BEHIND)  # aside is further back already
        return niceness()

    assert aside(work) == min(19, base + LAST)
