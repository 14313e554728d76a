"""A home with a tiny trained version, made once; tests that change it get a copy."""

import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toploss.home import Home
from toploss.settings import read_settings
from training.run import Result

SIZE = 32
COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}
# Small, from scratch, and quick: what a test of the machinery needs.
QUICK: dict[str, Any] = {
    "arch": "resnet18",
    "weights": "none",
    "size": SIZE,
    "batch_size": 8,
    "epochs_head": 4,
    "epochs_all": 1,
    "lr": 3e-3,
}


def coloured(label: str, seed: int) -> bytes:
    """A noisy square of the class's colour; each seed gives another one."""
    noise = np.random.default_rng(seed).normal(0, 25, (SIZE, SIZE, 3))
    pixels = (np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write_folder(root: Path, each: dict[str, int] | None = None) -> Path:
    """`train|valid|test/<colour>/…`, so many of each colour per split."""
    seed = 0
    for split, number in (each or {"train": 16, "valid": 5, "test": 8}).items():
        for label in COLOURS:
            folder = root / split / label
            folder.mkdir(parents=True)
            for _ in range(number):
                seed += 1
                (folder / f"{seed:03}.png").write_bytes(coloured(label, seed))
    return root


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of a home with one version in production, and the result of its run."""
    import training

    folder = tmp_path_factory.mktemp("learned")
    home = Home.open(read_settings(home=folder / "home", threads=2))
    training.from_folder(write_folder(folder / "images"), home=home)
    result = training.fit(home=home, **QUICK)
    home.db.close()
    return folder / "home", result


@pytest.fixture
def learned_home(learned: tuple[Path, Result], tmp_path: Path) -> Iterator[Callable[..., Home]]:
    """Opens copies of the learned home, to be changed at will."""
    opened: list[Home] = []

    def copy(**settings: Any) -> Home:
        target = tmp_path / f"copy-{len(opened)}"
        shutil.copytree(learned[0], target)
        opened.append(Home.open(read_settings(home=target, **{"threads": 2, **settings})))
        return opened[-1]

    yield copy
    for home in opened:
        home.db.close()
