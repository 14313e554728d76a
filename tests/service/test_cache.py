"""Answers for images that come again: the same ones, of the same version, and never too many."""

import asyncio
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.batcher import Batcher
from service.cache import ANSWER_BYTES, GUESS_BYTES, SHORT, Cache
from service.swap import Serving
from tests.service.conftest import LABELS, House, picture, serve
from tests.service.test_batcher import Means, serving
from toploss.answers import Answer, Guess, Reader
from toploss.engine import Outputs
from toploss.errors import NotAnImage
from toploss.preprocess import Limits

ONE = ANSWER_BYTES + GUESS_BYTES * 3  # bytes of an answer of three classes


class Asked(Batcher):
    """A batcher that notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(Limits(), threads=1, places=64, largest=0, wait_s=0.0, timeout_s=20.0)
        self.asked: list[tuple[str, bytes]] = []

    async def ask(self, data: bytes, serving: Serving) -> Answer:
        self.asked.append((serving.version, data))
        return await super().ask(data, serving)


@pytest.fixture
def batcher() -> Iterator[Asked]:
    made = Asked()
    yield made
    made.close()


def test_what_comes_again_is_answered_the_same_without_being_computed(batcher: Asked) -> None:
    cache, answering = Cache(batcher, 100 * ONE), serving(Means())
    long = picture(1, side=600, kind="BMP")
    assert len(long) > SHORT

    async def story() -> None:
        for data in (picture(1), long):
            first, second = [await cache.ask(data, answering) for _ in range(2)]
            assert first == second
        assert len(batcher.asked) == 2

    asyncio.run(story())


def test_another_version_is_asked_anew(batcher: Asked) -> None:
    cache = Cache(batcher, 100 * ONE)
    old, new = serving(Means(), "v1"), serving(Means(), "v2")

    async def story() -> None:
        for answering in (old, new, old, new):
            await cache.ask(picture(1), answering)

    asyncio.run(story())
    assert [version for version, _ in batcher.asked] == ["v1", "v2"]


def test_the_one_asked_about_longest_ago_is_forgotten(batcher: Asked) -> None:
    cache, answering = Cache(batcher, 2 * ONE), serving(Means())
    a, b, c = (picture(seed) for seed in range(3))

    async def story() -> None:
        for data in (a, b, a, c, a, b):
            await cache.ask(data, answering)
            assert cache.bytes <= 2 * ONE

    asyncio.run(story())
    assert [data for _, data in batcher.asked] == [a, b, c, b]


def test_a_refusal_is_not_kept(batcher: Asked) -> None:
    cache, answering = Cache(batcher, 100 * ONE), serving(Means())

    async def story() -> None:
        for _ in range(2):
            with pytest.raises(NotAnImage):
                await cache.ask(b"text", answering)

    asyncio.run(story())
    assert len(batcher.asked) == 2
    assert cache.bytes == 0


def test_it_is_off_unless_asked_for(batcher: Asked) -> None:
    cache, answering = Cache(batcher, 0), serving(Means())

    async def story() -> None:
        for _ in range(2):
            await cache.ask(picture(1), answering)

    asyncio.run(story())
    assert len(batcher.asked) == 2


@pytest.mark.parametrize("classes", [3, 1000])
def test_answers_weigh_what_is_said(batcher: Asked, classes: int) -> None:
    """Within a fifth; the labels themselves are the version's."""
    reader = Reader(labels=tuple(map(str, range(classes))), uncertain_below=0.5)
    rng, number = np.random.default_rng(0), 200
    cache = Cache(batcher, 2**30)
    tracemalloc.start()
    try:
        for turn in range(number):
            logits = rng.normal(size=(1, classes)).astype(np.float32)
            answer = reader.read(Outputs(logits=logits, features=logits))[0]
            cache._keep(("v1", turn.to_bytes(32, "big")), answer)
            del answer
        weighed = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert weighed == pytest.approx(cache.bytes, rel=0.2)


@pytest.fixture
def remembering(tmp_path: Path, export: Path, bentoml_home: Path) -> Iterator[House]:
    yield from serve(tmp_path, export, cache_bytes=10_000)


def test_over_http(remembering: House) -> None:
    house = remembering
    house.promote()
    sent = {"image": ("a.png", picture(1))}
    first, second = (house.client.post("/predict", files=sent).json() for _ in range(2))
    assert first.pop("prediction_id") != second.pop("prediction_id")
    assert first == second
    assert {guess["label"] for guess in first["top"]} == set(LABELS)
    assert house.desk.cache.bytes == ONE


def test_guesses_have_no_room_for_more() -> None:
    assert not hasattr(Guess(label="a", confidence=1.0), "__dict__")
