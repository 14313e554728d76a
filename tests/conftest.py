"""What every test may ask for: a home of its own, and small pictures."""

import os
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toploss.home import Home
from toploss.settings import PREFIX, read_settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database to copy: to migrate one takes longer than most tests."""
    folder = tmp_path_factory.mktemp("new")
    Home.open(read_settings(home=folder)).db.close()
    return folder / "toploss.db"


@pytest.fixture
def open_home(tmp_path: Path, _new_database: Path) -> Iterator[Callable[..., Home]]:
    """Opens homes in the test's folder, by name, with the settings given."""
    opened = []

    def open_it(name: str = "home", **settings: Any) -> Home:
        if not (tmp_path / name).exists():
            (tmp_path / name).mkdir()
            shutil.copy(_new_database, tmp_path / name)
        opened.append(Home.open(read_settings(home=tmp_path / name, **settings)))
        return opened[-1]

    yield open_it
    for home in opened:
        home.db.close()


@pytest.fixture
def home(open_home: Callable[..., Home]) -> Home:
    return open_home()


def picture(seed: int, size: tuple[int, int] = (8, 8), format: str = "PNG") -> bytes:
    """A small picture of noise; each seed gives another one."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(noise).save(out, format)
    return out.getvalue()
