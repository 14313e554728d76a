"""Many samples in one request."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import House, is_problem, picture, serve
from tests.toploss.packed import tarred, zipped
from toploss import keys


def test_as_a_form_or_as_the_body(empty: House) -> None:
    form = empty.client.post(
        "/v1/samples/archive",
        files={"archive": ("a.zip", zipped({"cat/1.png": picture(1), "dog/2.png": b"no"}))},
    )
    assert form.status_code == 200
    told = form.json()
    assert (told["added"], told["known"], told["conflicts"]) == (1, 0, 0)
    assert [entry["path"] for entry in told["refused"]] == ["dog/2.png"]

    body = empty.client.post(
        "/v1/samples/archive",
        content=tarred({"cat/1.png": picture(1), "dog/3.png": picture(3)}, "w:gz"),
        headers={"content-type": "application/gzip"},
    )
    assert (body.json()["added"], body.json()["known"]) == (1, 1)
    listed = empty.client.get("/v1/samples").json()["items"]
    assert sorted(item["label"] for item in listed) == ["cat", "dog"]


def test_what_is_no_archive_is_told_and_nothing_taken(empty: House) -> None:
    post = empty.client.post
    is_problem(post("/v1/samples/archive", content=b"text"), 415)
    is_problem(post("/v1/samples/archive", content=zipped({"a/1.png": b"x"})[:-9]), 400)
    is_problem(post("/v1/samples/archive", data={"archive": "text"}, files={}), 415)
    assert "no archive" in is_problem(post("/v1/samples/archive"), 400)
    is_problem(post("/v1/samples/archive", files={"a": b""}), 415)
    assert empty.client.get("/v1/samples").json()["items"] == []


@pytest.fixture
def narrow(tmp_path: Path, export: Path, bentoml_home: Path) -> Iterator[House]:
    yield from serve(tmp_path, export, max_archive=200_000)


def test_what_is_too_much_is_told(narrow: House) -> None:
    whole = zipped({f"cat/{n}.png": bytes(90_000) for n in range(3)})
    assert "TOPLOSS_MAX_ARCHIVE" in is_problem(
        narrow.client.post("/v1/samples/archive", content=whole), 413
    )
    plain = zipped({"cat/1.png": bytes(300_000)}, zipfile.ZIP_STORED)
    assert "TOPLOSS_MAX_ARCHIVE" in is_problem(
        narrow.client.post("/v1/samples/archive", content=plain), 413
    )
    assert narrow.client.post("/v1/samples/archive", content=zipped({})).json()["added"] == 0


def test_a_reviewer_s_archive_brings_no_class(empty: House) -> None:
    admin = {"authorization": f"Bearer {keys.create(empty.home, 'root', 'admin')}"}
    ann = {"authorization": f"Bearer {keys.create(empty.home, 'ann', 'review')}"}
    shop = {"authorization": f"Bearer {keys.create(empty.home, 'shop', 'predict')}"}
    empty.desk.doorkeeper.look()
    data = zipped({"cat/1.png": picture(1)})

    def post(headers: dict[str, str]) -> Any:
        return empty.client.post("/v1/samples/archive", content=io.BytesIO(data), headers=headers)

    is_problem(post(shop), 403)
    assert post(ann).json()["added"] == 0
    assert post(admin).json()["added"] == 1
    assert post(ann).json()["known"] == 1
