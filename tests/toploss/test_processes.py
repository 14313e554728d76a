import os
import signal
import subprocess
import sys
import time

import pytest

from toploss.processes import identity, surely_gone


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def named(pid, started=None):
    import psutil

    host, _, _ = identity().rsplit(":", 2)
    return f"{host}:{pid}:{psutil.Process(pid).create_time() if started is None else started:.2f}"


def test_this_process_lives():
    assert not surely_gone(identity())


def test_a_living_process_and_a_dead_one(sleeper):
    name = named(sleeper.pid)
    assert not surely_gone(name)

    sleeper.kill()
    time.sleep(0.1)
    assert surely_gone(name)  # not collected yet: a zombie

    sleeper.wait()
    assert surely_gone(name)


def test_a_number_that_was_given_to_another_process_is_known(sleeper):
    assert surely_gone(named(sleeper.pid, started=1.0))


def test_another_machine_s_process_cannot_be_told(sleeper):
    assert not surely_gone("elsewhere:1:1.00")
    assert not surely_gone("a:host:with:colons:1:1.00")


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
child.wait()
"""
CHILD = """
import os, pathlib, sys, time
from toploss.processes import follow_parent
def then():
    pathlib.Path(sys.argv[1], "gone").touch()
    os._exit(0)
follow_parent(then, every_s=0.05)
ready = pathlib.Path(sys.argv[1], "part")
ready.write_text(str(os.getpid()))
ready.rename(pathlib.Path(sys.argv[1], "ready"))
time.sleep(60)
"""


def test_a_child_notices_when_its_parent_is_killed(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(tmp_path)])
    wait_for(tmp_path / "ready")
    child = int((tmp_path / "ready").read_text())
    time.sleep(0.2)
    assert not (tmp_path / "gone").exists()

    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()

    wait_for(tmp_path / "gone")
    deadline = time.monotonic() + 10
    while alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for(path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} has not come"
        time.sleep(0.02)


def alive(pid):
    import psutil

    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
