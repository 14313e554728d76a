"""Predictions over HTTP: the good path, and everything that people send instead of an image."""

import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.service.conftest import LABELS, House, is_problem, picture, plain, square
from toploss.engine import Engine, Images, Outputs, Probabilities


def bomb() -> bytes:
    """A PNG of 100 megapixels in some hundred bytes of header and zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_a_form_and_raw_bytes_give_the_same_answer(house: House) -> None:
    data = picture(99)
    version = house.client.get("/v1/model").json()["version"]
    formed = house.client.post("/predict", files={"image": ("a.png", data, "image/png")})
    raw = house.client.post("/predict", content=data, headers={"content-type": "image/png"})
    octets = house.client.post(
        "/predict", content=data, headers={"content-type": "application/octet-stream"}
    )
    for answer in (formed, raw, octets):
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-model-version"] == version
        body = answer.json()
        assert body.keys() == {"label", "confidence", "top", "uncertain", "model", "prediction_id"}
        assert body["model"] == version
        assert body["top"] == formed.json()["top"]
        assert body["top"][0] == {"label": body["label"], "confidence": body["confidence"]}
        assert sorted(LABELS) == sorted(guess["label"] for guess in body["top"])
    assert formed.json()["prediction_id"] != raw.json()["prediction_id"]


def test_the_answer_is_the_engines(house: House) -> None:
    data = picture(7)
    serving = house.client.app._api.state.desk.swap.now()  # type: ignore[attr-defined]
    wanted = serving.engine.probabilities(square(data, house.home))[0]
    top = house.client.post("/predict", files={"image": data}).json()["top"]
    assert [guess["confidence"] for guess in top] == sorted(map(float, wanted), reverse=True)
    assert top[0]["label"] == LABELS[int(np.argmax(wanted))]


@pytest.mark.parametrize("colour", LABELS)
def test_it_is_right(house: House, colour: str) -> None:
    body = house.client.post("/predict", files={"image": plain(colour)}).json()
    assert body["label"] == colour
    assert body["confidence"] > 0.5


@pytest.mark.parametrize(("top", "number"), [(1, 1), (2, 2), (3, 3), (50, 3)])
def test_top_is_clipped_to_the_classes(house: House, top: int, number: int) -> None:
    answer = house.client.post(f"/predict?top={top}", files={"image": picture()})
    assert len(answer.json()["top"]) == number


@pytest.mark.parametrize("top", ["0", "-1", "many", "1.5", ""])
def test_a_wrong_top_is_named(house: House, top: str) -> None:
    detail = is_problem(house.client.post(f"/predict?top={top}", files={"image": picture()}), 400)
    assert "'top'" in detail
    assert ascii(top) in detail


HOSTILE = {
    "empty": (b"", 400),
    "text": (b"this is no image, whatever its name\n" * 20, 400),
    "corrupt": (picture(1, 200, "JPEG")[:1500] + b"\0" * 50, 400),
    "truncated": (picture(1, 200, "PNG")[:5000], 400),
    "bomb": (bomb(), 413),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("way", ["form", "raw"])
def test_hostile_bytes_are_refused_with_a_reason(house: House, kind: str, way: str) -> None:
    data, status = HOSTILE[kind]
    if way == "form":
        sent: dict[str, Any] = {"files": {"image": ("a.jpg", data, "image/jpeg")}}
    else:
        sent = {"content": data, "headers": {"content-type": "image/jpeg"}}
    answer = house.client.post("/predict", **sent)
    assert is_problem(answer, status)
    assert answer.headers["x-model-version"]
    assert house.client.post("/predict", files={"image": picture()}).status_code == 200


def test_an_address_in_place_of_a_file_is_not_fetched(house: House) -> None:
    answer = house.client.post(
        "/predict", files={"image": (None, "http://127.0.0.1:1/secret", None)}
    )
    assert "not fetched" in is_problem(answer, 400)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 415),
        ("text/plain", 415),
        ("application/vnd.bentoml+pickle", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data", 400),  # no boundary
        ("multipart/form-data; boundary=x", 400),  # and no part of it
        ("", 400),
    ],
)
def test_other_bodies_are_refused(house: House, kind: str, status: int) -> None:
    answer = house.client.post("/predict", content=b"{}", headers={"content-type": kind})
    is_problem(answer, status)


def test_a_form_without_the_field_and_one_with_two(house: House) -> None:
    files = [("image", picture(1)), ("image", picture(2))]
    assert "/predict_batch" in is_problem(house.client.post("/predict", files=files), 400)
    assert "`image`" in is_problem(house.client.post("/predict", files={"x": picture()}), 400)


@pytest.mark.parametrize("announced", [True, False])
def test_a_huge_body_is_refused_as_it_streams(house: House, announced: bool) -> None:
    size = house.home.settings.max_bytes + 200_000
    body: Any = b"x" * size if announced else (b"x" * 100_000 for _ in range(size // 100_000 + 1))
    for kind in ("image/png", "multipart/form-data; boundary=x"):
        answer = house.client.post("/predict", content=body, headers={"content-type": kind})
        assert "TOPLOSS_MAX_BYTES" in is_problem(answer, 413)
        body = body if announced else (b"x" * 100_000 for _ in range(size // 100_000 + 1))


def test_a_batch_answers_in_order_and_one_bad_image_spoils_no_other(house: House) -> None:
    files: list[Any] = [
        ("images", ("a.png", picture(1))),
        ("images", ("b.jpg", b"text")),
        ("images", (None, "http://127.0.0.1:1/")),
        ("images", ("c.png", picture(2))),
        ("images", ("d.png", bomb())),
    ]
    answer = house.client.post("/predict_batch", files=files)
    assert answer.status_code == 200
    got = answer.json()
    assert [one.get("status") for one in got] == [None, 400, 400, None, 413]
    single = house.client.post("/predict", files={"image": picture(2)}).json()
    assert got[3]["top"] == single["top"]
    assert answer.headers["x-model-version"] == got[0]["model"]


def test_a_batch_of_none_or_too_many_or_no_form(house: House) -> None:
    post = house.client.post
    assert "no image" in is_problem(post("/predict_batch", files={"x": b"1"}), 400)
    many = [("images", b"x")] * 101
    assert "101" in is_problem(post("/predict_batch", files=many), 400)
    is_problem(post("/predict_batch", files=[("images", b"x")] * 200), 400)
    raw = post("/predict_batch", content=picture(), headers={"content-type": "image/png"})
    is_problem(raw, 415)


def test_without_a_model_it_says_so_and_serves_once_one_is_promoted(empty: House) -> None:
    for path, field in (("/predict", "image"), ("/predict_batch", "images")):
        answer = empty.client.post(path, files={field: picture()})
        assert "no model yet" in is_problem(answer, 503)
        assert answer.headers["retry-after"]
    assert empty.client.app._api.state.desk.swap.ready  # type: ignore[attr-defined]
    version = empty.promote()
    answer = empty.client.post("/predict", files={"image": picture()})
    assert answer.json()["model"] == version


class Held:
    """An engine that computes once the gate is open, and remembers its batches."""

    name = "onnx"
    lanes = 1
    largest = 8

    def __init__(self, engine: Engine, gate: threading.Event) -> None:
        self._engine, self._gate = engine, gate
        self.batches: list[int] = []

    def outputs(self, images: Images, *, alone: bool = True) -> Outputs:
        self._gate.wait(10)
        self.batches.append(len(images))
        return self._engine.outputs(images, alone=alone)

    def probabilities(self, images: Images) -> Probabilities:
        return self._engine.probabilities(images)


def test_more_than_the_queue_holds_is_refused_at_once(house: House) -> None:
    desk = house.client.app._api.state.desk  # type: ignore[attr-defined]
    desk.batcher._places = 2
    gate = threading.Event()
    object.__setattr__(desk.swap.serving, "engine", Held(desk.swap.serving.engine, gate))
    with ThreadPoolExecutor(6) as pool:
        asked = [
            pool.submit(house.client.post, "/predict", files={"image": picture()}) for _ in range(6)
        ]
        house.wait(lambda: sum(one.done() for one in asked) == 4)
        gate.set()
        answers = [one.result() for one in asked]
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503, 503, 503]
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert "TOPLOSS_QUEUE_SIZE" in is_problem(refused, 503)
    assert refused.headers["retry-after"]
