"""What the tests of commands may ask for."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.training.commands import RECIPE, Toploss, answer
from toploss.home import Home
from toploss.settings import read_settings
from training.cli import app

if TYPE_CHECKING:
    from training.run import Result as Trained  # late: most tests need no fastai


@pytest.fixture(scope="session")
def refused(
    learned: "tuple[Path, Trained]", tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    """The folder of a home where `toploss train` has made a version that its gate refused, beside
    the one in production; and what the command said."""
    folder = tmp_path_factory.mktemp("refused") / "home"
    shutil.copytree(learned[0], folder)
    worse = ("--epochs-head=1", "--epochs-all=0", "--lr=1e-6", "--json")
    with pytest.MonkeyPatch.context() as patch, running(patch) as run:
        return folder, run("train", *RECIPE, *worse, folder=folder)


@pytest.fixture
def refused_home(
    refused: tuple[Path, Result], tmp_path: Path
) -> Iterator[tuple[Home, dict[str, Any]]]:
    """A copy of it, to be changed at will; and what was said of the version."""
    shutil.copytree(refused[0], tmp_path / "refused")
    home = Home.open(read_settings(home=tmp_path / "refused", threads=2))
    yield home, answer(refused[1], 3)
    home.db.close()


@pytest.fixture
def toploss(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Toploss]:
    """Runs a command in this process, on a home in the test's folder if no other is named."""
    with running(monkeypatch) as run:

        def on(*args: str | Path, home: Home | None = None) -> Result:
            return run(*args, folder=home.settings.home if home else tmp_path / "command-line")

        yield on


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Toploss]:
    """Runs commands in this process, on the home in the folder named."""
    monkeypatch.setenv("TOPLOSS_THREADS", "1")
    logger = logging.getLogger("toploss")
    before = logger.handlers[:], logger.level, logger.propagate
    runner = CliRunner()

    def run(*args: str | Path, folder: Path) -> Result:
        logger.handlers = []  # each run has a standard error of its own
        monkeypatch.setenv("TOPLOSS_HOME", str(folder))
        return runner.invoke(app, [str(arg) for arg in args])

    yield run
    logger.handlers, logger.level, logger.propagate = before
