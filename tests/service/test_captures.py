"""The way of an image of production: answered, kept, claimed, labelled by a reviewer, a sample."""

import asyncio
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prometheus_client import REGISTRY

from service.capture import PLACES, Capture
from tests.service.conftest import House, is_problem, picture, plain, serve
from toploss import captures, keys
from toploss.captures import Shot, Why
from toploss.errors import Broken, Overloaded
from toploss.ids import new_id
from toploss.keys import Role
from toploss.times import DAY_S


@pytest.fixture
def keeping(tmp_path: Path, export: Path, bentoml_home: Path) -> Iterator[House]:
    """Everything that is answered is kept."""
    for house in serve(tmp_path, export, capture_rate=1.0, capture_per_day=6):
        house.promote()
        yield house


def predicted(house: House, seed: int) -> str:
    answer = house.client.post("/predict", files={"image": picture(seed)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["prediction_id"])


def listed(house: House, query: str = "", **more: Any) -> dict[str, Any]:
    answer = house.client.get(f"/v1/captures{query}", **more)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def arrived(house: House, number: int) -> None:
    house.wait(lambda: listed(house)["total"] == number)


def say(house: House, prediction_id: str, label: str, **more: Any) -> Any:
    told = {"prediction_id": prediction_id, "label": label}
    return house.client.post("/v1/feedback", json=told, **more)


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_from_an_answer_to_a_sample(keeping: House) -> None:
    secrets = {role: keys.create(keeping.home, f"{role}-key", role) for role in Role}
    keeping.desk.doorkeeper.look()
    own = {role: {"authorization": f"Bearer {secret}"} for role, secret in secrets.items()}
    post, get = keeping.client.post, keeping.client.get
    data = plain("red")
    answer = post("/predict", files={"image": data}, headers=own[Role.PREDICT]).json()
    one = answer["prediction_id"]

    said = say(keeping, one, "blue", headers=own[Role.PREDICT])
    assert (said.status_code, said.json()) == (
        201,
        {"id": one, "state": "waiting", "label": "blue"},
    )
    again = say(keeping, one, "blue", headers=own[Role.PREDICT])
    assert (again.status_code, again.json()) == (200, said.json())
    for method, path in (("GET", ""), ("POST", f"/{one}/label"), ("DELETE", f"/{one}")):
        refused = keeping.client.request(
            method, f"/v1/captures{path}", json={"label": "red"}, headers=own[Role.PREDICT]
        )
        is_problem(refused, 403)
    # A claim alone is no sample, and nothing that a training would see.
    assert get("/v1/dataset", headers=own[Role.ADMIN]).json()["samples"] == 0

    (item,) = listed(keeping, headers=own[Role.REVIEW])["items"]
    assert item["id"] == one
    assert item["prediction"]["label"] == answer["label"] == "red"
    assert item["prediction"]["top"] == answer["top"]
    assert item["prediction"]["confidence"] == answer["confidence"]
    assert (item["model"], item["state"]) == (answer["model"], "waiting")
    assert (item["claimed"]["label"], item["claimed"]["by"]) == ("blue", "predict-key")
    assert item["claimed"]["at"].endswith("Z")
    assert item["until"].endswith("Z")
    assert get(item["image"], headers=own[Role.REVIEW]).content == data

    path = f"/v1/captures/{one}/label"
    made = post(path, json={"label": "red"}, headers=own[Role.REVIEW])
    assert made.status_code == 201, made.text
    assert made.json()["id"] == one
    sample = made.json()["sample"]
    assert {**sample, "split": "", "revision": 0} == {
        **{"id": sample["id"], "label": "red", "split": "", "revision": 0},
        **{"new": True, "conflict": False},
    }
    assert post(path, json={"label": "red"}, headers=own[Role.REVIEW]).json() == made.json()
    late = post(path, json={"label": "blue"}, headers=own[Role.REVIEW])
    is_problem(late, 409)
    assert late.json()["present"]["label"] == "red"
    shown = get(f"/v1/samples/{sample['id']}", headers=own[Role.REVIEW]).json()
    assert (shown["label"], shown["revision"]) == ("red", sample["revision"])
    history = get(f"/v1/samples/{sample['id']}/history", headers=own[Role.REVIEW]).json()["items"]
    assert {event["actor"] for event in history} == {"review-key"}
    labelled = get(f"/v1/captures/{one}", headers=own[Role.REVIEW]).json()
    assert get(labelled["image"], headers=own[Role.REVIEW]).content == data
    erased = keeping.client.delete(f"/v1/captures/{one}", headers=own[Role.ADMIN])
    assert erased.json() == {"id": one, "sample": sample["id"]}
    is_problem(get(f"/v1/captures/{one}", headers=own[Role.REVIEW]), 404)


def test_a_batch_is_kept_too_and_the_same_bytes_once(keeping: House) -> None:
    files = [("images", picture(seed)) for seed in (1, 2, 1)] + [("images", b"no image")]
    answers = keeping.client.post("/predict_batch", files=files).json()
    arrived(keeping, 2)
    assert {item["id"] for item in listed(keeping)["items"]} <= {
        one["prediction_id"] for one in answers[:3]
    }


def test_nothing_is_kept_unless_asked(house: House) -> None:
    one = predicted(house, 1)
    assert "send the image along" in is_problem(say(house, one, "red"), 410)
    assert listed(house) == {"items": [], "next_cursor": None, "total": 0}
    assert not (house.home.settings.home / "storage" / "captures").exists()


def test_an_image_that_was_not_kept_comes_with_its_claim(house: House) -> None:
    post = house.client.post
    one, files = predicted(house, 50), {"image": ("a.png", picture(50))}
    told = {"prediction_id": one, "label": "red"}

    first = post("/v1/feedback", data=told, files=files)
    again = post("/v1/feedback", data={"label": "red"}, files=files)

    assert (first.status_code, first.json()) == (
        201,
        {"id": one, "state": "waiting", "label": "red"},
    )
    assert (again.status_code, again.json()) == (200, first.json())
    assert say(house, one, "blue").status_code == 201  # now it is known
    (item,) = listed(house)["items"]
    assert (item["why"], item["claimed"]["label"]) == ("feedback", "blue")
    assert item["prediction"]["label"] in ("blue", "green", "red")  # the model was asked once more
    other = post("/v1/feedback", data=told, files={"image": picture(51)})
    assert "not the one" in is_problem(other, 400)


def test_a_claim_on_a_sample_is_recorded_there(house: House) -> None:
    files = {"image": picture(0, side=24)}  # the house's first sample, a blue one
    said = house.client.post("/v1/feedback", data={"label": "red"}, files=files)
    assert said.json() == {"id": None, "state": "sample", "label": "red"}
    history = house.client.get(f"/v1/samples/{house.ids[0]}/history").json()["items"]
    assert [event["action"] for event in history] == ["add", "conflict"]
    assert house.client.get(f"/v1/samples/{house.ids[0]}").json()["label"] == "blue"


def test_without_a_model_feedback_is_kept_all_the_same(empty: House) -> None:
    empty.client.post("/v1/classes", json={"name": "red"})
    post = empty.client.post
    said = post("/v1/feedback", data={"label": "red"}, files={"image": picture(1)})
    assert said.status_code == 201, said.text
    (item,) = listed(empty)["items"]
    assert (item["prediction"], item["model"]) == (None, None)
    cut = picture(1, 200, "JPEG")[:2000]
    is_problem(post("/v1/feedback", data={"label": "red"}, files={"image": cut}), 400)


ONE = "01m8a1m5z3t49ahb28xc896969"


NONE: list[tuple[dict[str, Any], int]] = [
    ({"json": {"prediction_id": ONE, "label": "red"}}, 410),
    ({"json": {"prediction_id": ONE, "label": "catt"}}, 422),
    ({"json": {"prediction_id": ONE, "label": "\0"}}, 422),
    ({"json": {"prediction_id": ONE}}, 400),
    ({"json": {"label": "red"}}, 400),
    ({"json": {"prediction_id": "../../x", "label": "red"}}, 404),
    ({"json": {"prediction_id": ONE, "label": "red", "role": "admin"}}, 400),
    ({"json": {"prediction_id": ONE, "label": ""}}, 400),
    ({"json": [ONE]}, 400),
    ({"content": b"{", "headers": {"content-type": "application/json"}}, 400),
    ({"content": b"[" * 5000, "headers": {"content-type": "application/json"}}, 400),
    ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415),
    ({"data": {"label": "red"}}, 400),
    ({"files": {"image": b"no image"}, "data": {"label": "red"}}, 400),
    ({"files": {"image": picture()}, "data": {"label": "catt"}}, 422),
    ({"files": {"image": picture()}}, 400),
    ({"files": {"image": (None, "http://127.0.0.1:1/")}, "data": {"label": "red"}}, 400),
]


def test_feedback_that_is_none(house: House) -> None:
    for sent, status in NONE:
        is_problem(house.client.post("/v1/feedback", **sent), status)
    assert listed(house, "?state=all")["total"] == 0


def test_the_day_has_a_cap(keeping: House) -> None:
    dropped = metric("toploss_captures_dropped_total", reason="cap")
    for seed in range(9):
        predicted(keeping, seed)
    keeping.wait(lambda: metric("toploss_captures_dropped_total", reason="cap") == dropped + 3)
    assert listed(keeping)["total"] == 6
    for seed in range(20, 27):
        files = {"image": picture(seed)}
        said = keeping.client.post("/v1/feedback", data={"label": "red"}, files=files)
    assert "TOPLOSS_CAPTURE_PER_DAY" in is_problem(said, 429)
    assert 0 < int(said.headers["retry-after"]) <= DAY_S
    assert listed(keeping)["total"] == 12
    assert predicted(keeping, 30)


def test_no_work_is_done_on_feedback_that_has_no_place(
    keeping: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say_with(seed: int) -> Any:
        files = {"image": picture(seed)}
        return keeping.client.post("/v1/feedback", data={"label": "red"}, files=files)

    worked: list[Any] = []
    monkeypatch.setattr("toploss.preprocess.verify", lambda *sent: worked.append(sent))

    async def no_place(*_: Any) -> None:
        raise Overloaded("all places are taken")

    with monkeypatch.context() as busy:
        busy.setattr(keeping.desk.cache, "ask", no_place)
        is_problem(say_with(20), 503)
        assert listed(keeping)["total"] == 0
        for seed in range(6):
            shot = Shot(id=new_id(), data=picture(seed), why=Why.FEEDBACK)
            captures.keep(keeping.home, shot)
        is_problem(say_with(20), 429)
    assert worked == []


def test_claimed_ones_first_in_pages_and_by_state(keeping: House) -> None:
    ids = [predicted(keeping, seed) for seed in range(4)]
    arrived(keeping, 4)
    say(keeping, ids[1], "red")
    post = keeping.client.post
    assert post(f"/v1/captures/{ids[3]}/discard").json() == {"id": ids[3], "state": "discarded"}
    assert post(f"/v1/captures/{ids[3]}/discard").status_code == 200
    found: list[str] = []
    query = "?limit=2"
    while True:
        page = listed(keeping, query)
        assert page["total"] == 3
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=2&cursor={page['next_cursor']}"
    assert found == [ids[1], *sorted((ids[0], ids[2]), reverse=True)]
    (gone,) = listed(keeping, "?state=discarded")["items"]
    assert (gone["id"], gone["image"], gone["thumbnail"]) == (ids[3], None, None)
    assert gone["decided"]["by"] == "local"
    assert listed(keeping, "?state=all")["total"] == 4
    is_problem(keeping.client.get(f"/v1/captures/{ids[3]}/image"), 410)
    is_problem(post(f"/v1/captures/{ids[3]}/label", json={"label": "red"}), 409)
    is_problem(post(f"/v1/captures/{ids[0]}/label", json={"label": "catt"}), 422)
    is_problem(post(f"/v1/captures/{ids[0]}/label", json={}), 400)
    for query in ("?state=sold", "?cursor=WzFd", "?limit=0"):
        is_problem(keeping.client.get(f"/v1/captures{query}"), 400)


def test_its_pictures_are_looked_at_never_run_and_soon_forgotten(keeping: House) -> None:
    one = predicted(keeping, 1)
    arrived(keeping, 1)
    (item,) = listed(keeping)["items"]
    image = keeping.client.get(item["image"])
    assert image.content == picture(1)
    assert image.headers["content-type"] == "image/png"
    assert image.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in image.headers["content-security-policy"]
    assert image.headers["cache-control"] == "private, max-age=600"
    small = keeping.client.get(f"{item['thumbnail']}?size=16")
    assert Image.open(io.BytesIO(small.content)).size == (16, 16)
    for path in ("", "/image", "/thumbnail"):
        for other in (ONE, "nobody", "%00"):
            is_problem(keeping.client.get(f"/v1/captures/{other}{path}"), 404)
    assert keeping.client.delete(f"/v1/captures/{one}").json() == {"id": one, "sample": None}
    is_problem(keeping.client.delete(f"/v1/captures/{one}"), 404)
    assert not keeping.home.blobs.exists(captures.path(one))


def test_what_is_over_is_swept_and_what_waits_is_counted(
    keeping: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = predicted(keeping, 1)
    arrived(keeping, 1)
    keeping.desk.capture.sweep()
    assert metric("toploss_captures_waiting") == 1
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 31 * DAY_S)
    keeping.desk.capture.sweep()
    assert metric("toploss_captures_waiting") == 0
    assert not keeping.home.blobs.exists(captures.path(one))


def test_no_answer_fails_or_waits_where_nothing_can_be_kept(
    keeping: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, refused = threading.Event(), metric("toploss_captures_dropped_total", reason="failed")

    def broken(*_: Any) -> bool:
        gate.wait(10)
        raise Broken("the storage is away")

    monkeypatch.setattr("toploss.captures.keep", broken)
    monkeypatch.setattr("service.captures.PATIENCE_S", 0.1)
    one = predicted(keeping, 1)
    assert "being kept still" in is_problem(say(keeping, one, "red"), 503)
    gate.set()
    keeping.wait(lambda: metric("toploss_captures_dropped_total", reason="failed") == refused + 1)
    is_problem(say(keeping, one, "red"), 410)
    monkeypatch.undo()
    predicted(keeping, 2)
    arrived(keeping, 1)


def test_what_waits_to_be_kept_is_bounded(keeping: House) -> None:
    live = keeping.desk.swap.now()
    answer = asyncio.run(keeping.desk.batcher.ask(plain("red"), live))
    idle = Capture(keeping.home)  # not started
    for number in range(PLACES + 5):
        idle.offer(picture(number), live, answer, new_id())
    assert len(idle._waiting) == PLACES
    idle._waiting.clear()
    for _ in range(5):
        idle.offer(bytes(30 * 2**20), live, answer, new_id())
    assert len(idle._waiting) == 2


def test_what_waits_when_the_service_stops_is_kept(keeping: House) -> None:
    one = Capture(keeping.home)
    shots = [Shot(id=new_id(), data=picture(seed), why=Why.RANDOM) for seed in range(3)]
    one._waiting.extend(shots)
    one.start()
    one.stop()
    assert {item["id"] for item in listed(keeping)["items"]} == {shot.id for shot in shots}
