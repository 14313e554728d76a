"""Heat maps over HTTP."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.service.conftest import House, is_problem, picture


def half_red() -> bytes:
    values = np.zeros((80, 80, 3), np.uint8)
    values[:, :40, 0] = 255
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    return out.getvalue()


def strength(png: bytes) -> np.ndarray:  # type: ignore[type-arg]
    """How far each pixel is from that of the picture sent."""
    sent = np.asarray(Image.open(io.BytesIO(half_red())), float)
    found = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float)
    distance: np.ndarray = np.abs(found - sent).sum(2)  # type: ignore[type-arg]
    return distance


def test_it_shows_where_the_class_was_seen(house: House) -> None:
    answer = house.client.post("/explain?label=red", files={"image": half_red()})

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-label"] == "red"
    assert answer.headers["x-model-version"]
    shown = strength(answer.content)
    assert shown[:, :30].mean() > 4 * shown[:, 50:].mean()


def test_without_a_label_it_explains_the_likeliest(house: House) -> None:
    answer = house.client.post("/explain", files={"image": half_red()})

    likeliest = house.client.post("/predict", files={"image": half_red()}).json()["label"]
    assert answer.headers["x-label"] == likeliest


def test_what_it_refuses(house: House) -> None:
    assert "mauve" in is_problem(
        house.client.post("/explain?label=mauve", files={"image": picture()}), 422
    )
    is_problem(house.client.post("/explain", files={"image": b"text"}), 400)
    is_problem(house.client.post("/explain", files={"x": picture()}), 400)


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream"])
def test_bytes_will_do(house: House, kind: str) -> None:
    answer = house.client.post("/explain", content=half_red(), headers={"content-type": kind})
    assert answer.status_code == 200


def test_without_a_model_it_says_so(empty: House) -> None:
    is_problem(empty.client.post("/explain", files={"image": picture()}), 503)
