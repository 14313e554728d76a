"""What the tests of survival may ask for."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.conftest import coloured
from tests.survival.place import REAPER, ROOT, Place
from toploss import samples, schema
from toploss.home import Home
from toploss.settings import PREFIX, read_settings
from toploss.splits import Split


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Makes places: on a copy of a home, or on an empty one."""
    with ExitStack() as stack:

        def place(copy_of: Path | None = None, **settings: str) -> Place:
            target = tmp_path / "home"
            if copy_of is not None:
                shutil.copytree(copy_of, target)
            (tmp_path / "bentoml").mkdir()
            (tmp_path / "site").mkdir()
            (tmp_path / "site" / "sitecustomize.py").write_text(REAPER)
            outside = ("BENTOML", "PYTHON", "PROMETHEUS", PREFIX)
            kept = {key: text for key, text in os.environ.items() if not key.startswith(outside)}
            home = Home.open(read_settings(home=target))
            stack.callback(home.db.close)
            made = {
                "TOPLOSS_HOME": str(target),
                "TOPLOSS_THREADS": "1",
                "TOPLOSS_POLL_S": "0.1",
                "TOPLOSS_RETRY_S": "0",
                "BENTOML_HOME": str(tmp_path / "bentoml"),
                "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)]),
            }
            given = {PREFIX + key.upper(): value for key, value in settings.items()}
            return Place(folder=tmp_path, home=home, started=stack, environment=kept | made | given)

        yield place


@pytest.fixture
def learned_place(learned: tuple[Path, Any], at: Callable[..., Place]) -> Callable[..., Place]:
    """A place with a version in production, one new image, and a short recipe for the next run."""

    def place(**settings: str) -> Place:
        made = at(learned[0], **settings)
        samples.add(
            made.home, coloured("red", 601), "red", name="x.png", actor="x", split=Split.TRAIN
        )
        with made.home.db.write() as connection:
            plan = connection.execute(select(schema.runs.c.plan)).scalar_one()
            connection.execute(schema.runs.update().values(plan=plan | {"epochs_head": 1}))
        return made

    return place
