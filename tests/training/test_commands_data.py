"""The commands on the data set, from the line that is typed to its answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from PIL import ImageOps
from typer.testing import CliRunner

from tests.conftest import picture
from tests.toploss import given, pictures
from tests.toploss.test_duplicates import add
from tests.training.commands import BAD_FILES, RECIPE, Toploss, answer, complaint, folder
from toploss import decisions, snapshots
from toploss.blobs import image_path
from toploss.home import Home
from toploss.splits import Split
from training.cli import app


@pytest.fixture
def run(home: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOPLOSS_HOME", str(home.settings.home))
    return lambda *words: CliRunner().invoke(app, list(words))


def test_check_reports_and_mends_leaks_when_asked(home: Home, run) -> None:
    copies = pictures.copies(pictures.scene(1))
    add(home, copies["png"], "cat", Split.VALID)
    add(home, copies["jpeg"], "dog", Split.TEST)

    told, data = run("dataset", "check"), run("dataset", "check", "--json")

    assert (told.exit_code, data.exit_code) == (0, 0)
    assert "warning: leak: x.png (cat) in valid and x.png (dog) in test" in told.output
    found = json.loads(data.stdout)
    assert found["counts"] == {"error": 0, "warning": 4, "note": 0}
    assert {entry["kind"] for entry in found["findings"]} == {"label-conflict", "leak", "too-few"}
    assert set(found["findings"][0]) == {"kind", "severity", "words", "remedy", "samples"}
    assert json.loads(run("dataset", "check", "--quarantine", "--json").stdout)["quarantined"] == []


def test_check_proposes_what_a_body_takes_for_one_picture(home: Home, run, tmp_path: Path) -> None:
    """Mirrored copies, which the hash does not see; a damaged file spoils nothing."""
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "body.pth")
    scene = pictures.scene(1)
    ids = {
        add(home, pictures.saved(picture), "cat", split).id
        for picture, split in ((scene, Split.TRAIN), (ImageOps.mirror(scene), Split.TEST))
    }
    lost = given.sample(home, 5, "cat")
    home.blobs.delete([image_path(lost.id)])
    body = ("--arch", "squeezenet1_1", "--weights", str(tmp_path / "body.pth"), "--size", "64")

    told = run("dataset", "check", "--by-features", *body, "--json")

    found = json.loads(told.stdout)["findings"]
    assert [set(one["samples"]) for one in found if "look alike" in one["words"]] == [ids]
    assert "corrupt" in {one["kind"] for one in found}


def test_random_weights_look_for_nothing(run) -> None:
    told = run("dataset", "check", "--by-features", "--weights", "none")

    assert told.exit_code == 1
    assert "random weights see no likeness" in told.output


def test_check_of_an_empty_home(run) -> None:
    told = run("dataset", "check").output
    assert "nothing has been imported yet" in told
    assert told.strip().endswith("1 error, 0 warnings, 0 notes")


def test_diff(home: Home, run) -> None:
    added = given.two_classes(home, each=8)
    first = snapshots.freeze(home).fingerprint
    decisions.decide(home, added[0].id, "relabel", label="dog", revision=1, actor="ann")
    second = snapshots.freeze(home).fingerprint

    told, data = (
        run("dataset", "diff", first[:8], second),
        run("dataset", "diff", first, second, "--json"),
    )

    assert told.exit_code == 0
    assert "added 0, removed 0, relabelled 1, moved 0" in told.output
    assert f"relabelled: {added[0].id[:12]} cat to dog" in told.output
    assert json.loads(data.stdout)["classes"] == {"cat": {"a": 8, "b": 7}, "dog": {"a": 8, "b": 9}}
    unknown = run("dataset", "diff", first, "nothing")
    assert unknown.exit_code == 4
    assert "no snapshot, run or version 'nothing'" in unknown.stderr


def test_an_import_tells_of_near_duplicates(home: Home, run, tmp_path: Path) -> None:
    copies = pictures.copies(pictures.scene(1))
    for split, kind in (("train", "png"), ("test", "jpeg")):
        folder = tmp_path / split / "cat"
        folder.mkdir(parents=True)
        (folder / f"{kind}.png").write_bytes(copies[kind])

    told = run("import", str(tmp_path))

    assert "near-duplicates 0, quarantined 1" in told.output
    assert "is kept out of training, its near-duplicate" in told.output
    assert "1 quarantined" in run("dataset", "show").output


@pytest.mark.parametrize(("name", "data", "words"), BAD_FILES, ids=[name for name, *_ in BAD_FILES])
def test_a_bad_file_is_refused_and_the_rest_goes_on(
    toploss: Toploss, tmp_path: Path, name: str, data: bytes, words: tuple[str, ...]
) -> None:
    both = folder(tmp_path / "both", cat={"good.png": picture(1), name: data})
    alone = folder(tmp_path / "alone", cat={name: data})

    mixed = toploss("import", both)
    told = answer(toploss("import", both, "--json"))
    line = complaint(toploss("import", alone), 1)
    failed = toploss("import", alone, "--json")

    assert mixed.exit_code == 0
    assert mixed.stderr == ""
    assert mixed.stdout.startswith("added 1, already known 0, label conflicts 0, refused 1, ")
    (reason,) = [entry["reason"] for entry in told["refused"]]
    assert told["refused"][0]["path"] == str(both / "cat" / name)
    for word in (*words, name):
        assert word in mixed.stdout.splitlines()[1]
        assert word in line
    assert reason in mixed.stdout
    assert answer(failed, 1)["added"] == 0
    complaint(failed, 1)


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (
            lambda root: root.mkdir(),
            1,
            ("no image in a class folder", "expected", "<class>/<file>"),
        ),
        (lambda root: None, 4, ("no folder", "name the one")),
        (lambda root: root.write_bytes(b""), 1, ("is a file", "--csv")),
    ],
    ids=["empty", "missing", "file"],
)
def test_nothing_to_import(
    toploss: Toploss, tmp_path: Path, make: Callable[[Path], Any], code: int, words: tuple[str, ...]
) -> None:
    make(tmp_path / "in")

    line = complaint(toploss("import", tmp_path / "in"), code)

    assert f"{str(tmp_path / 'in')!r}" in line
    assert all(word in line for word in words)


def test_a_class_with_one_image_is_taken_in_and_not_trained_on(
    toploss: Toploss, tmp_path: Path
) -> None:
    many = {f"{seed}.png": picture(seed) for seed in range(30)}
    root = folder(tmp_path / "in", cat=many, violet={"one.png": picture(99)})
    assert answer(toploss("import", root, "--json"))["added"] == 31

    trained = complaint(toploss("train", *RECIPE), 1)
    asked = complaint(toploss("retrain"), 1)

    for line in (trained, asked):
        assert "class 'violet' has 1 image" in line
        assert "needs 2" in line
        assert "import more images" in line
    listed = answer(toploss("runs", "list", "--json"))["runs"]
    assert [run["state"] for run in listed] == ["failed"]
