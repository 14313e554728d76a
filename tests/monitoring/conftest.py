"""The tools of Debian's package `prometheus`, and a home to be watched."""

import shutil

import pytest

from tests.service.conftest import export, unserved

__all__ = ["export", "unserved"]  # pytest finds the fixtures here


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} is installed; Debian's package `prometheus` has it")
    return found


@pytest.fixture(scope="session")
def promtool() -> str:
    return _tool("promtool")


@pytest.fixture(scope="session")
def prometheus() -> str:
    return _tool("prometheus")
