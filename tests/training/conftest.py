"""What the tests of commands may ask for."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.training.commands import Toploss
from toploss.home import Home
from training.cli import app


@pytest.fixture
def toploss(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Toploss]:
    """Runs a command in this process, on a home in the test's folder if no other is named."""
    monkeypatch.setenv("TOPLOSS_THREADS", "1")
    logger = logging.getLogger("toploss")
    before = logger.handlers[:], logger.level, logger.propagate
    runner = CliRunner()

    def run(*args: str | Path, home: Home | None = None) -> Result:
        logger.handlers = []  # each run has a standard error of its own
        monkeypatch.setenv(
            "TOPLOSS_HOME", str(home.settings.home if home else tmp_path / "command-line")
        )
        return runner.invoke(app, [str(arg) for arg in args])

    yield run
    logger.handlers, logger.level, logger.propagate = before
