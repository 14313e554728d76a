"""The trail on the command line."""

import csv
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.toploss import given
from tests.training.commands import Toploss, answer, complaint
from toploss import classes, trail
from toploss.home import Home


@pytest.fixture
def home(open_home: Callable[..., Home]) -> Home:
    home = open_home()
    classes.add(home, "dog", actor="ann")
    for seed in range(3):
        given.sample(home, seed, "cat")
    return home


def test_in_and_out_again(toploss: Toploss, home: Home, tmp_path: Path) -> None:
    source = tmp_path / "labels.csv"
    source.write_text("image,label\n0.png,dog\n1.png,cat\nnone.png,cat\n")

    dry = toploss("decisions", "import", source, "--dry-run", home=home)
    assert dry.stdout.startswith("csv: would be recorded 2, known 0, ")
    assert trail.listed(home) == []
    told = answer(toploss("decisions", "import", source, "--actor", "eve", "--json", home=home))
    assert (told["recorded"], told["refused_total"]) == (2, 1)
    assert {event["actor"] for event in trail.listed(home)} == {"eve"}

    for name, number in (("all.csv", 2), ("all.json", 2), ("all.JSONL", 2)):
        file = tmp_path / name
        found = answer(toploss("decisions", "export", file, "--json", home=home))
        assert found == {"file": str(file), "decisions": number}
        again = answer(toploss("decisions", "import", file, "--json", home=home))
        assert (again["recorded"], again["known"]) == (0, 2)
    assert sorted(path.name for path in tmp_path.glob("*all*")) == [
        "all.JSONL",
        "all.csv",
        "all.json",
    ]
    shown = toploss("decisions", "export", "-", "--json", home=home).stdout
    assert shown == (tmp_path / "all.csv").read_text()
    assert len(list(csv.DictReader(shown.splitlines()))) == 2
    lines = toploss("decisions", "export", "-", "--format", "jsonl", home=home).stdout
    assert [json.loads(line)["action"] for line in lines.splitlines()] == ["confirm", "relabel"]


def test_an_empty_trail(toploss: Toploss, home: Home, tmp_path: Path) -> None:
    for suffix in ("csv", "json", "jsonl"):
        told = toploss("decisions", "export", tmp_path / f"none.{suffix}", home=home)
        assert told.stdout.startswith("0 decisions")
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_what_breaks_off_leaves_the_file_as_it_was(
    toploss: Toploss, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "all.csv"
    file.write_text("before")

    def broken(*_: object, **__: object) -> list[object]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trail, "listed", broken)
    assert "cannot be written (No space left" in complaint(
        toploss("decisions", "export", file, home=home), 1
    )
    assert file.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if "all.csv" in path.name] == ["all.csv"]


def test_into_a_pipe(toploss: Toploss, home: Home, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert toploss("decisions", "export", pipe, home=home).exit_code == 0
    reader.join(10)
    assert read[0].startswith("id,at,actor,action,")
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("name", "data", "code", "words"),
    [
        ("none.csv", None, 4, ("none.csv", "check the path")),
        ("empty.csv", b"", 1, ("empty",)),
        ("bad.json", b"[{", 1, ("cannot be read",)),
        ("none.csv", b"image,label\nx.png,cat\n", 1, ("nothing was imported", "'x.png'", "row 2")),
        ("big.csv", b"image,label\n" * 100, 1, ("1,200 bytes", "TOPLOSS_MAX_ARCHIVE")),
    ],
)
def test_what_cannot_be_imported(
    toploss: Toploss,
    home: Home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    data: bytes | None,
    code: int,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv("TOPLOSS_MAX_ARCHIVE", "1000")
    if data is not None:
        (tmp_path / name).write_bytes(data)

    line = complaint(toploss("decisions", "import", tmp_path / name, home=home), code)

    assert all(word in line for word in words)


@pytest.mark.parametrize(
    "options", [("export", "file.txt"), ("import", "file.csv", "--actor", "a b")], ids=" ".join
)
def test_wrong_usage(toploss: Toploss, home: Home, options: tuple[str, ...]) -> None:
    assert toploss("decisions", *options, home=home).exit_code == 2
