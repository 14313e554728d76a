"""The candidate beside production: what it scores, and that nobody waits for it."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load, save

from service.batcher import Batcher
from service.shadow import PLACES, Shadow
from tests.service.conftest import House, is_problem, picture, plain, serve
from tests.service.test_batcher import Means, serving
from toploss import artifact, shadow
from toploss.preprocess import Limits


@pytest.fixture
def beside(tmp_path: Path, export: Path, bentoml_home: Path) -> Iterator[House]:
    """Everything that is answered may be scored by the candidate."""
    yield from serve(tmp_path, export, shadow_share=1.0)


def begun(house: House, version: str) -> None:
    answer = house.client.post(f"/v1/models/{version}/shadow", json={"reason": "to compare"})
    assert answer.status_code == 200, answer.text
    house.wait(lambda: house.desk.shadow.candidate is not None)


@pytest.fixture(autouse=True)
def _noted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.shadow.NOTE_S", 0.05)


def scored(house: House, version: str) -> dict[str, Any]:
    told = house.client.get(f"/v1/models/{version}/shadow").json()
    return told["against"][0] if told["against"] else {"images": 0}


def test_it_scores_what_production_answers(beside: House) -> None:
    live, candidate = beside.promote(), beside.publish()
    begun(beside, candidate)
    sent = ["red", "red", "green", "blue"]
    for colour in sent:
        answer = beside.client.post("/predict", files={"image": plain(colour)})
        assert answer.json()["model"] == answer.headers["X-Model-Version"] == live
    beside.wait(lambda: scored(beside, candidate)["images"] == len(sent))

    found = scored(beside, candidate)
    assert (found["live"], found["agreement"], found["disagreements"]) == (live, 1.0, [])
    assert {row["label"]: row["images"] for row in found["classes"]} == {
        "red": 2,
        "green": 1,
        "blue": 1,
    }
    listed = beside.client.get("/v1/models").json()["items"]
    assert {item["version"]: item["shadow"] for item in listed} == {live: False, candidate: True}


def test_where_the_two_differ_is_told(beside: House) -> None:
    beside.promote()
    candidate = beside.publish()
    begun(beside, candidate)
    now = beside.desk.shadow.candidate
    labels = ("green", "blue", "red")  # the first two changed over
    beside.desk.shadow.candidate = replace(now, reader=replace(now.reader, labels=labels))
    for colour in ("red", "green", "blue", "blue"):
        beside.client.post("/predict", files={"image": plain(colour)})
    beside.wait(lambda: scored(beside, candidate)["images"] == 4)
    found = scored(beside, candidate)
    assert found["agreement"] == pytest.approx(1 / 4)
    assert found["disagreements"] == [
        {"live": "blue", "candidate": "green", "images": 2},
        {"live": "green", "candidate": "blue", "images": 1},
    ]


def test_it_ends_when_told_or_promoted(beside: House) -> None:
    beside.promote()
    first, second = beside.publish(), beside.publish()
    begun(beside, first)
    assert beside.client.delete(f"/v1/models/{first}/shadow").json()["shadow"] is False
    beside.wait(lambda: beside.desk.shadow.candidate is None)
    is_problem(beside.client.delete(f"/v1/models/{first}/shadow"), 404)
    begun(beside, second)
    beside.promote(second)
    beside.wait(lambda: beside.desk.shadow.candidate is None)
    is_problem(beside.client.post(f"/v1/models/{second}/shadow"), 409)
    beside.client.post("/v1/models/rollback", json={"reason": "worse"})
    beside.wait(lambda: beside.answering() == 3)
    assert beside.client.get(f"/v1/models/{second}/shadow").json()["shadow"] is False


def test_one_that_does_not_load_scores_nothing(
    beside: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = beside.promote()
    golden = load((beside.export / artifact.GOLDEN).read_bytes())
    wrong = {**golden, "probabilities": golden["probabilities"][:, ::-1].copy()}
    bad = beside.publish(golden=save(wrong))
    shadow.begin(beside.home, bad, reason="test", actor="test")
    beside.wait(lambda: "action=shadow outcome=failed" in caplog.text)
    first = beside.desk.shadow._again_at = time.monotonic()
    monkeypatch.setattr("service.shadow.RETRY_S", 0.0)
    beside.wait(lambda: beside.desk.shadow._again_at > first + 0.2)
    assert caplog.text.count("action=shadow outcome=failed") == 1
    assert beside.desk.shadow.candidate is None
    assert beside.client.post("/predict", files={"image": plain("red")}).json()["model"] == live


def test_it_begins_nothing_while_somebody_waits(beside: House) -> None:
    gate = threading.Event()
    batcher = Batcher(Limits(), threads=1, places=8, largest=0, wait_s=0.0, timeout_s=20.0)
    beside_it = Shadow(beside.home, batcher)
    live, scoring = Means(gate=gate), Means()
    beside_it.candidate = serving(scoring, "v2")

    async def story() -> None:
        first = asyncio.create_task(batcher.ask(picture(1), serving(live)))
        while batcher.idle:
            await asyncio.sleep(0.005)
        gate.set()
        answer = await first
        beside_it.offer(picture(1), serving(live), answer)
        gate.clear()
        second = asyncio.create_task(batcher.ask(picture(2), serving(live)))
        while batcher.idle:
            await asyncio.sleep(0.005)
        assert not beside_it.score()
        assert not scoring.batches
        gate.set()
        await second
        assert beside_it.score()
        assert not beside_it.score()
        assert scoring.batches == [(1, False)]

    try:
        asyncio.run(story())
    finally:
        batcher.close()


def test_what_waits_is_bounded(beside: House) -> None:
    beside.promote()
    beside_it = Shadow(beside.home, beside.desk.batcher)
    live = beside.desk.swap.now()
    answer = asyncio.run(beside.desk.batcher.ask(plain("red"), live))
    beside_it.candidate = live
    for _ in range(3 * PLACES):
        beside_it.offer(plain("red"), live, answer)
    assert len(beside_it._waiting) == PLACES
    beside_it._waiting.clear()
    for _ in range(3):
        beside_it.offer(bytes(15 * 2**20), live, answer)
    assert len(beside_it._waiting) == 2


def test_a_tenth_is_scored_by_default(house: House) -> None:
    house.promote()
    beside_it = Shadow(house.home, house.desk.batcher)
    live = beside_it.candidate = house.desk.swap.now()
    answer = asyncio.run(house.desk.batcher.ask(plain("red"), live))
    offered = 2000
    taken = 0
    for _ in range(offered):
        beside_it.offer(plain("red"), live, answer)
        taken += len(beside_it._waiting)
        beside_it._waiting.clear()
    assert 0.05 < taken / offered < 0.15  # a tenth, by default
