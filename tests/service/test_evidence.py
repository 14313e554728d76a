"""What a reviewer is shown to judge by."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.service.conftest import LABELS, House, is_problem
from toploss import classes, decisions, drafts, models
from toploss.orders import Neighbours
from toploss.scoring import Opinion


def score(house: House) -> str:
    """A version that has looked at everything: each sample is near to the one before it."""
    version = house.publish()
    shares = np.full((8, 3), 0.1, np.float32)
    shares[:, 1] = 0.8
    near = np.stack([np.arange(-1, 7) % 8, np.arange(-2, 6) % 8], axis=1)
    neighbours = Neighbours(places=near, cosines=np.tile(np.float32([0.9, 0.5]), (8, 1)))
    opinion = Opinion(
        ids=house.ids[:8],
        probabilities=shares,
        folds=list(range(8)),
        neighbours=neighbours,
        known=house.ids[:8],
    )
    drafts.write(house.home, version, opinion, house.ids)
    with house.home.db.write() as connection:
        drafts.publish(connection, version)
    models.promote(house.home, version, reason="test", actor="test")
    return version


def test_what_held_out_models_say_of_a_sample(house: House) -> None:
    version = score(house)

    found = house.client.get(f"/v1/samples/{house.ids[3]}/evidence").json()["evidence"]

    assert found["version"] == version
    assert [guess["label"] for guess in found["top"]] == ["green", "blue", "red"]
    assert [guess["confidence"] for guess in found["top"]] == pytest.approx([0.8, 0.1, 0.1])
    assert (found["label"], found["own"]) == ("red", pytest.approx(0.1))
    assert found["loss"] == pytest.approx(np.log(10))
    assert (found["source"], found["fold"], found["returned"]) == ("folds", 3, False)
    # Two neighbours: the second is red as well, and weighs .5 of 1.4.
    assert found["disagreement"] == pytest.approx(0.9 / 1.4, abs=1e-3)
    assert "takes it for green, not for red" in found["why"]


@pytest.mark.parametrize("place", [9, 11])
def test_of_what_was_not_judged_nothing_is_said(house: House, place: int) -> None:
    path = f"/v1/samples/{house.ids[place]}"
    assert house.client.get(f"{path}/evidence").json()["evidence"] is None
    assert house.client.get(f"{path}/neighbours").json() == {"items": [], "duplicates": []}


def test_neighbours_have_their_labels_of_today(house: House) -> None:
    score(house)
    decisions.decide(house.home, house.ids[2], "relabel", revision=1, actor="ann", label="green")

    items = house.client.get(f"/v1/samples/{house.ids[3]}/neighbours").json()["items"]

    assert [item["id"] for item in items] == [house.ids[2], house.ids[1]]
    assert [item["label"] for item in items] == ["green", "red"]
    assert [item["similarity"] for item in items] == pytest.approx([0.9, 0.5], abs=1e-3)
    assert house.client.get(items[0]["thumbnail"]).status_code == 200


def test_near_duplicates_are_shown_beside_the_neighbours(house: House) -> None:
    original = house.client.get(f"/v1/samples/{house.ids[4]}/image").content
    changed = Image.open(io.BytesIO(original)).convert("RGB")
    changed.putpixel((0, 0), (0, 0, 0))
    out = io.BytesIO()
    changed.save(out, "PNG")
    again = house.client.post(
        "/v1/samples", files={"image": ("again.png", out.getvalue())}, data={"label": "red"}
    ).json()

    found = house.client.get(f"/v1/samples/{house.ids[4]}/neighbours").json()["duplicates"]

    assert [(item["id"], item["label"]) for item in found] == [(again["id"], "red")]


def test_the_heat_map_is_of_today_s_label_or_another(house: House) -> None:
    house.promote()
    path = f"/v1/samples/{house.ids[0]}/heatmap"

    own, other = house.client.get(path), house.client.get(f"{path}?label=red")

    assert own.headers["content-type"] == other.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(own.content)).size == (24, 24)
    assert own.content != other.content
    assert own.content == house.client.get(f"{path}?label={LABELS[0]}").content
    classes.rename(house.home, "blue", "navy", actor="ann")
    assert own.content == house.client.get(path).content
    assert own.content == house.client.get(f"{path}?label=navy").content
    is_problem(house.client.get(f"{path}?label=blue"), 422)


@pytest.mark.parametrize("what", ["evidence", "neighbours", "heatmap"])
def test_of_no_sample_there_is_nothing(house: House, what: str) -> None:
    house.promote()
    is_problem(house.client.get(f"/v1/samples/{'0' * 64}/{what}"), 404)
