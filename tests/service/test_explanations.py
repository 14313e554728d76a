"""Heat maps over HTTP."""

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.service.conftest import House, is_problem, picture

PNG = {"content-type": "image/png"}


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


@pytest.mark.parametrize("label", ["", "?label=red"])
def test_the_network_is_asked_once(
    house: House, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    engine, asked = house.desk.swap.now().engine, list[str]()
    for name in ("seen", "outputs"):
        asks = partial(spied, asked, name, getattr(engine, name))
        monkeypatch.setattr(engine, name, asks)

    assert house.client.post(f"/explain{label}", content=half_red(), headers=PNG).status_code == 200

    assert asked == ["seen"]


def spied(heard: list[str], name: str, ask: Callable[..., Any], *args: Any, **more: Any) -> Any:
    heard.append(name)
    return ask(*args, **more)


def test_a_network_that_fails_is_told_as_after_a_prediction(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = house.desk.swap.now().engine
    monkeypatch.setattr(engine, "seen", lambda _: 1 / 0)
    monkeypatch.setattr(engine, "outputs", lambda *_, **__: 1 / 0)
    told = [
        house.client.post(path, content=half_red(), headers=PNG)
        for path in ("/predict", "/explain")
    ]

    assert told[0].status_code == told[1].status_code != 500
    assert told[0].json()["detail"] == told[1].json()["detail"]


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream"])
def test_bytes_will_do(house: House, kind: str) -> None:
    answer = house.client.post("/explain", content=half_red(), headers={"content-type": kind})
    assert answer.status_code == 200


def test_without_a_model_it_says_so(empty: House) -> None:
    is_problem(empty.client.post("/explain", files={"image": picture()}), 503)
