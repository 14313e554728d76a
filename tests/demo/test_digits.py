"""The sample set: the same on every machine, with errors planted where they belong."""

import csv
import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from demo import digits
from toploss import splits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("demo")
    digits.make(made, split_seed=42, shares="70/15/15")
    return made


def planted(folder: Path) -> list[dict[str, str]]:
    with (folder / digits.PLANTED).open() as table:
        return list(csv.DictReader(table))


def test_two_hundred_digits_are_held_back(folder: Path) -> None:
    learned = list((folder / digits.DATA).rglob("*.png"))
    new = list((folder / digits.NEW).rglob("*.png"))

    assert (len(learned), len(new)) == (1_597, 200)
    assert {path.parent.name for path in learned} == {str(n) for n in range(10)}
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in [*learned, *new]}
    assert len(hashes) == 1_797


def test_images_are_the_digits_scaled(folder: Path) -> None:
    (file,) = folder.rglob("0007.png")
    values = load_digits().images[7]

    with Image.open(BytesIO(file.read_bytes())) as image:
        assert (image.size, image.mode) == ((32, 32), "L")
        small = np.asarray(image.resize((8, 8), Image.Resampling.BOX), float)
    assert np.corrcoef(small.ravel(), values.ravel())[0, 1] > 0.95


def test_three_percent_are_wrong_in_train_and_valid_and_none_in_test(folder: Path) -> None:
    rows = planted(folder)
    pool = [
        splits.assign(hashlib.sha256(path.read_bytes()).hexdigest(), seed=42, shares="70/15/15")
        for path in (folder / digits.DATA).rglob("*.png")
    ]

    for split in ("train", "valid"):
        wrong = sum(row["split"] == split for row in rows)
        assert wrong == round(0.03 * pool.count(splits.Split(split)))
    assert not [row for row in rows if row["split"] == "test"]
    truth = load_digits().target
    for row in rows:
        assert row["given"] != row["true"] == str(truth[int(row["name"][:4])])
        assert (folder / digits.DATA / row["given"] / row["name"]).is_file()


def test_held_back_digits_bear_their_true_labels(folder: Path) -> None:
    truth = load_digits().target
    for path in (folder / digits.NEW).rglob("*.png"):
        assert path.parent.name == str(truth[int(path.stem)])


def test_making_again_changes_nothing(folder: Path, tmp_path: Path) -> None:
    digits.make(tmp_path, split_seed=42, shares="70/15/15")
    assert planted(tmp_path) == planted(folder)

    (file,) = folder.rglob("0007.png")
    file.write_bytes(b"touched")
    digits.make(folder, split_seed=42, shares="70/15/15")
    assert file.read_bytes() == b"touched"
