"""A run's log, in a folder and in a bucket; and a whole run on a bucket."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import training
from tests.conftest import BRIEF, write_folder
from toploss import bentostore, models, records
from toploss.artifact import REPORT, WEIGHTS
from toploss.attempts import Lease
from toploss.blobs import Blobs
from toploss.errors import Broken
from toploss.home import Home
from training import logbook
from training.logbook import Logbook

LEASE = Lease(run="run", fence=2)
PATH = records.log_path("run", 2)


@pytest.fixture
def on_s3(open_home: Callable[..., Home], new_s3: Callable[[], dict[str, str]]) -> Home:
    return open_home(**new_s3(), threads=2)


def test_in_a_folder_it_lies_where_it_belongs(home: Home) -> None:
    with Logbook(home, LEASE) as book:
        book.file.write_text("a line\n")
        assert home.blobs.get(PATH) == b"a line\n"
    assert home.blobs.get(PATH) == b"a line\n"


def test_into_a_bucket_it_is_copied_as_it_grows(
    on_s3: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook, "EVERY_S", 0.05)
    with Logbook(on_s3, LEASE) as book, book.file.open("w") as out:
        for line, kept in (("one\n", b"one\n"), ("two\n", b"one\ntwo\n")):
            out.write(line)
            out.flush()
            deadline = time.monotonic() + 30
            while not on_s3.blobs.exists(PATH) or on_s3.blobs.get(PATH) != kept:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        out.write("the end\n")
    assert on_s3.blobs.get(PATH) == b"one\ntwo\nthe end\n"
    assert not book.file.exists()


def test_where_the_bucket_is_away_it_is_kept_here(
    on_s3: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise Broken("away")

    monkeypatch.setattr(Blobs, "put_file", away)
    with Logbook(on_s3, LEASE) as book:
        book.file.write_text("a line\n")
    assert book.file.read_text() == "a line\n"


def test_a_launcher_may_bring_the_text(on_s3: Home) -> None:
    records.put_log(on_s3, "run", 2, "épreuve\n")
    records.put_log(on_s3, "run", 2, "épreuve\nbon\n")
    assert on_s3.blobs.get(PATH).decode() == "épreuve\nbon\n"


@pytest.mark.slow
def test_a_run_on_a_bucket(on_s3: Home, tmp_path: Path, bentoml_home: Path) -> None:
    """All that a run leaves is there for a process that has none of this machine's files."""
    training.from_folder(write_folder(tmp_path / "images"), home=on_s3)
    result = training.fit(home=on_s3, **BRIEF, promote=False)
    shutil.rmtree(tmp_path / "images")
    version = models.get(on_s3, result.version)

    assert "stage-1: epoch 1 of 1" in records.read_log(on_s3, result.run)
    assert records.log_tail(on_s3, result.run, 200).strip()
    assert "Confusion on test" in on_s3.blobs.get(f"{version.path}/{REPORT}").decode()
    assert bentostore.pull(on_s3, version).labels == ("blue", "green", "red")
    assert on_s3.blobs.exists(f"runs/{result.run}/stage-1.safetensors")
    assert not on_s3.blobs.exists(f"runs/{result.run}/moment.safetensors")
    assert on_s3.blobs.get(f"{version.path}/{WEIGHTS}")
    here = {file.name for file in on_s3.settings.home.rglob("*") if file.is_file()}
    assert here <= {"toploss.db", "toploss.db-wal", "toploss.db-shm"}
