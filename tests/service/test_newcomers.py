"""Samples that come after a model are in its list before anything is trained."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.service.conftest import House, picture
from toploss.errors import Broken
from toploss.novelty import Bank


def post(house: House, seed: int, label: str = "red") -> dict[str, Any]:
    files = {"image": (f"{seed}.png", picture(seed))}
    answer = house.client.post("/v1/samples", files=files, data={"label": label})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def listed(house: House) -> dict[str, dict[str, Any]]:
    items = house.client.get("/v1/top-losses?limit=500").json()["items"]
    return {item["id"]: item for item in items}


@pytest.fixture
def scored(house: House) -> House:
    """A house whose model answers, and has said what it thinks of the pool."""
    house.wait(lambda: house.answering() is not None)
    return house


def test_they_join_the_list_with_what_the_model_says_of_them(scored: House) -> None:
    added = [post(scored, seed) for seed in range(100, 120)]
    wanted = {one["id"] for one in added if one["split"] != "test"}
    assert not wanted & listed(scored).keys()

    assert scored.desk.newcomers.score()
    assert not scored.desk.newcomers.score()

    found = listed(scored)
    assert {one["id"] for one in added} & found.keys() == wanted
    image = picture(100)
    said = scored.client.post("/predict", files={"image": image}).json()
    one = next(found[i] for i in wanted if scored.home.blobs.get_image(i) == image)
    assert one["source"] == "newcomer"
    assert one["predicted"] == said["label"]
    assert one["confidence"] == pytest.approx(said["confidence"], abs=1e-5)


def test_their_neighbours_are_of_the_images_that_the_model_learned_from(scored: House) -> None:
    known = scored.ids[8:11]
    bank = Bank(
        features=np.eye(3, dtype=np.float32), places=np.zeros(3, np.int32), ids=tuple(known)
    )
    serving = scored.desk.swap.serving
    scored.desk.swap.serving = replace(serving, reader=replace(serving.reader, bank=bank))
    added = [post(scored, seed) for seed in range(100, 110)]

    scored.desk.newcomers.score()

    one = next(entry for entry in added if entry["split"] != "test")
    near = scored.client.get(f"/v1/samples/{one['id']}/neighbours").json()["items"]
    assert {like["id"] for like in near} == set(known)
    similarities = [like["similarity"] for like in near]
    assert similarities == sorted(similarities, reverse=True)
    by_neighbours = scored.client.get("/v1/top-losses?order=neighbours&text=100").json()["items"]
    assert all(0 <= item["score"] <= 1 for item in by_neighbours)


def test_who_shows_what_the_model_learned_from_is_not_held_out_and_waits(scored: House) -> None:
    learned = Image.open(
        io.BytesIO(scored.client.get(f"/v1/samples/{scored.ids[9]}/image").content)
    ).convert("RGB")
    learned.putpixel((0, 0), (0, 0, 0))
    out = io.BytesIO()
    learned.save(out, "PNG")
    files = {"image": ("again.png", out.getvalue())}
    twin = scored.client.post("/v1/samples", files=files, data={"label": "red"}).json()
    assert twin["split"] == "train"

    assert scored.desk.newcomers.score()

    assert twin["id"] not in listed(scored)
    found = scored.client.get(f"/v1/samples/{twin['id']}/neighbours").json()
    assert [like["id"] for like in found["duplicates"]] == [scored.ids[9]]


def test_it_follows_by_itself(scored: House) -> None:
    scored.desk.newcomers.start()
    added = [post(scored, seed) for seed in range(200, 210)]
    scored.wait(
        lambda: {one["id"] for one in added if one["split"] != "test"} <= listed(scored).keys()
    )


def test_a_class_that_the_model_does_not_know_waits(scored: House) -> None:
    scored.client.post("/v1/classes", json={"name": "mauve"})
    new = [post(scored, seed, "mauve") for seed in range(300, 306)]

    assert scored.desk.newcomers.score()

    assert not {one["id"] for one in new} & listed(scored).keys()


def test_an_image_that_cannot_be_read_holds_up_no_other(
    scored: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = [post(scored, seed) for seed in range(400, 410)]
    wanted = [one["id"] for one in added if one["split"] != "test"]
    read = scored.home.blobs.get_image

    def damaged(digest: str) -> bytes:
        if digest == wanted[0]:
            raise Broken("it is damaged")
        return read(digest)

    monkeypatch.setattr(scored.home.blobs, "get_image", damaged)
    assert scored.desk.newcomers.score()
    assert set(wanted[1:]) <= listed(scored).keys()
    assert wanted[0] not in listed(scored)


def test_while_the_storage_is_away_nothing_is_passed_over(
    scored: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = [post(scored, seed) for seed in range(500, 510)]

    def away(digest: str) -> bytes:
        raise Broken("the storage is away")

    with monkeypatch.context() as patched:
        patched.setattr(scored.home.blobs, "get_image", away)
        with pytest.raises(Broken):
            scored.desk.newcomers.score()

    assert scored.desk.newcomers.score()
    assert {one["id"] for one in added if one["split"] != "test"} <= listed(scored).keys()


def test_without_a_model_there_is_nothing_to_score(empty: House) -> None:
    assert not empty.desk.newcomers.score()
