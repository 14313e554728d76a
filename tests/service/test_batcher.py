"""The way from bytes to outputs: bounded, fair, and never computed for nobody."""

import asyncio
import io
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
from starlette.datastructures import Headers

from service import logs
from service.batcher import Batcher, _Job
from service.swap import Serving
from tests.service.conftest import SIZE, picture
from toploss.answers import Answer, Guess, Reader
from toploss.engine import Images, Outputs, softmax
from toploss.errors import Broken, NotAnImage, Overloaded, TimedOut
from toploss.preprocess import Limits, decode


class Means:
    """Its logits are the means of the three channels, 0 to 1. It may wait at a gate."""

    name = "onnx"

    def __init__(self, *, lanes: int = 1, largest: int = 8, gate: threading.Event | None = None):
        self.lanes, self.largest, self._gate = lanes, largest, gate
        self.batches: list[tuple[int, bool]] = []  # images, alone
        self.fails = False
        self.together, self.most = 0, 0
        self._lock = threading.Lock()

    def outputs(self, images: Images, *, alone: bool = True) -> Outputs:
        with self._lock:
            self.batches.append((len(images), alone))
            self.together += 1
            self.most = max(self.most, self.together)
        if self._gate is not None:
            assert self._gate.wait(20)
        with self._lock:
            self.together -= 1
        if self.fails:
            raise RuntimeError("out of order")
        means = (images.mean((2, 3), dtype=np.float64) / 255).astype(np.float32)
        return Outputs(logits=means, features=means)


def serving(engine: Any, version: str = "v1") -> Serving:
    return Serving(
        version=version,
        generation=1,
        labels=("a", "b", "c"),
        size=SIZE,
        engine=engine,
        reader=Reader(labels=("a", "b", "c"), uncertain_below=0.5),
        head=None,  # type: ignore[arg-type]  # nobody asks for these two here
        published=None,  # type: ignore[arg-type]
    )


def by_label(guess: Guess) -> str:
    return guess.label


Make = Callable[..., Batcher]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Batcher] = []

    def batcher(**more: Any) -> Batcher:
        usual = {"threads": 2, "places": 64, "largest": 0, "wait_s": 0.0, "timeout_s": 20.0}
        made.append(Batcher(Limits(), **{**usual, **more}))
        return made[-1]

    yield batcher
    for one in made:
        one.close()


def wanted(data: bytes) -> Any:
    """Probabilities of a, b, c."""
    return softmax(decode(data, SIZE, Limits()).mean((1, 2))[None].astype(np.float32) / 255)[0]


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.005)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def test_each_image_gets_its_own_answer(make: Make) -> None:
    batcher, answering = make(), serving(Means(lanes=2))
    pictures = [picture(seed) for seed in range(40)]

    async def story() -> None:
        found = await asyncio.gather(*(batcher.ask(data, answering) for data in pictures))
        for data, answer in zip(pictures, found, strict=True):
            confidences = [guess.confidence for guess in sorted(answer.guesses, key=by_label)]
            np.testing.assert_allclose(confidences, wanted(data), rtol=1e-5)

    run(story())


def test_one_bad_image_spoils_no_other(make: Make) -> None:
    batcher, answering = make(), serving(Means())

    async def story() -> None:
        found = await asyncio.gather(
            *(batcher.ask(data, answering) for data in (picture(1), b"text", picture(2))),
            return_exceptions=True,
        )
        assert isinstance(found[1], NotAnImage)
        assert all(isinstance(found[place], Answer) for place in (0, 2))

    run(story())


def test_an_image_alone_is_computed_at_once_and_by_every_core(make: Make) -> None:
    batcher, engine = make(wait_s=5.0), Means(lanes=2)

    async def story() -> None:
        began = time.monotonic()
        for _ in range(3):
            await batcher.ask(picture(), serving(engine))
            while batcher._busy:  # a lane is free a moment after it has answered
                await asyncio.sleep(0.001)
        assert time.monotonic() - began < 5
        assert engine.batches == [(1, True)] * 3

    run(story())


def test_while_the_lanes_are_busy_a_batch_grows_up_to_the_largest(make: Make) -> None:
    gate = threading.Event()
    batcher, engine = make(), Means(largest=4, gate=gate)
    answering = serving(engine)

    async def story() -> None:
        first = asyncio.create_task(batcher.ask(picture(), answering))
        await until(lambda: len(engine.batches) == 1)
        others = [asyncio.create_task(batcher.ask(picture(n), answering)) for n in range(9)]
        await until(lambda: len(batcher._ready) == 9)
        gate.set()
        await asyncio.gather(first, *others)
        assert engine.batches == [(1, True), (4, False), (4, False), (1, True)]

    run(story())


def test_lanes_that_are_free_share_what_waits_and_no_more_run_than_the_engine_has(
    make: Make,
) -> None:
    gate = threading.Event()
    batcher, engine = make(threads=4), Means(lanes=2, largest=4, gate=gate)
    answering = serving(engine)

    async def story() -> None:
        asked = [asyncio.create_task(batcher.ask(picture(n), answering)) for n in range(20)]
        await until(lambda: len(engine.batches) == 2 and len(batcher._ready) >= 12)
        gate.set()
        await asyncio.gather(*asked)
        assert engine.most == 2
        assert sum(images for images, _ in engine.batches) == 20

    run(story())


def test_a_lane_wakes_another_for_what_it_leaves(make: Make) -> None:
    """By hand: two images are there, of which the lane that sleeps has heard nothing."""
    batcher, answering = make(threads=0), serving(Means(lanes=2))
    batcher._threads = 2  # which are this one and the next
    loop = asyncio.new_event_loop()
    asleep = threading.Thread(target=batcher._next_batch, daemon=True)
    asleep.start()
    while not batcher._to_compute._waiters:  # type: ignore[attr-defined]  # the standard library's
        time.sleep(0.001)
    with batcher._to_compute:
        for _ in range(2):
            batcher._ready.append(
                _Job(
                    data=b"",
                    serving=answering,
                    deadline=time.monotonic() + 60,
                    answer=loop.create_future(),
                    since=time.monotonic(),
                )
            )

    taken = batcher._next_batch()

    assert taken is not None
    assert len(taken[0]) == 1
    asleep.join(5)
    assert not asleep.is_alive()
    assert not batcher._ready
    loop.close()


def test_a_batch_is_of_one_version(make: Make) -> None:
    gate = threading.Event()
    old, new = Means(gate=gate), Means()
    batcher = make(threads=1)

    async def story() -> None:
        first = asyncio.create_task(batcher.ask(picture(0), serving(old)))
        await until(lambda: len(old.batches) == 1)
        before, after = serving(old), serving(new, "v2")
        asked = [
            asyncio.create_task(batcher.ask(picture(n), before if n < 3 else after))
            for n in range(5)
        ]
        await until(lambda: len(batcher._ready) == 5)
        gate.set()
        await asyncio.gather(first, *asked)
        assert [images for images, _ in old.batches] == [1, 3]
        assert [images for images, _ in new.batches] == [2]

    run(story())


def test_past_its_places_it_refuses_at_once_and_takes_again_when_one_is_free(make: Make) -> None:
    gate = threading.Event()
    batcher, engine = make(places=2), Means(gate=gate)
    answering = serving(engine)

    async def story() -> None:
        asked = [asyncio.create_task(batcher.ask(picture(n), answering)) for n in range(2)]
        await until(lambda: bool(engine.batches))
        with pytest.raises(Overloaded, match="TOPLOSS_QUEUE_SIZE"):
            await batcher.ask(picture(), answering)
        gate.set()
        await asyncio.gather(*asked)
        assert await batcher.ask(picture(), answering)

    run(story())


def test_what_was_given_up_is_never_computed_and_leaves_its_place(make: Make) -> None:
    gate = threading.Event()
    batcher, engine = make(places=3), Means(gate=gate)
    answering = serving(engine)

    async def story() -> None:
        first = asyncio.create_task(batcher.ask(picture(), answering))
        await until(lambda: bool(engine.batches))
        others = [asyncio.create_task(batcher.ask(picture(n), answering)) for n in range(2)]
        await until(lambda: len(batcher._ready) == 2)
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        third = asyncio.create_task(batcher.ask(picture(), answering))
        gate.set()
        await asyncio.gather(first, third)
        assert [images for images, _ in engine.batches] == [1, 1]

    run(story())


def test_what_waits_too_long_is_told_so_and_never_computed(make: Make) -> None:
    gate = threading.Event()
    batcher, engine = make(timeout_s=0.3), Means(gate=gate)
    answering = serving(engine)

    async def story() -> None:
        found = await asyncio.gather(
            *(batcher.ask(picture(n), answering) for n in range(3)), return_exceptions=True
        )
        assert all(isinstance(one, TimedOut) for one in found)
        computed = sum(images for images, _ in engine.batches)
        gate.set()
        assert await batcher.ask(picture(), answering)
        assert sum(images for images, _ in engine.batches) == computed + 1

    run(story())


def test_an_engine_that_fails_spoils_its_batch_alone(make: Make) -> None:
    batcher, engine = make(), Means()

    async def story() -> None:
        engine.fails = True
        with pytest.raises(Broken, match="version v1 has failed"):
            await batcher.ask(picture(), serving(engine))
        engine.fails = False
        assert await batcher.ask(picture(), serving(engine))

    run(story())


def test_when_it_closes_what_waits_is_refused(make: Make) -> None:
    gate = threading.Event()
    batcher, engine = make(), Means(gate=gate)
    answering = serving(engine)

    async def story() -> None:
        first = asyncio.create_task(batcher.ask(picture(), answering))
        await until(lambda: bool(engine.batches))
        second = asyncio.create_task(batcher.ask(picture(), answering))
        await until(lambda: len(batcher._ready) == 1)
        batcher.close()
        with pytest.raises(Overloaded, match="stopping"):
            await second
        gate.set()
        assert await first

    run(story())


@pytest.mark.parametrize("stage", ["decode", "compute"])
def test_a_log_line_says_which_request_it_is_of(
    make: Make, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(logs.Text())
    engine = Means()
    engine.fails = stage == "compute"
    if stage == "decode":
        monkeypatch.setattr("service.batcher.decode", lambda *_: 1 / 0)
    batcher = make()

    async def story() -> None:
        logs.begin(Headers({"X-Request-ID": "mine"}))
        with pytest.raises((ZeroDivisionError, Broken)):
            await batcher.ask(picture(1), serving(engine))

    logging.getLogger("toploss.batcher").addHandler(handler)
    try:
        run(story())
    finally:
        logging.getLogger("toploss.batcher").removeHandler(handler)
    assert f"action={stage}" in lines.getvalue()
    assert "request=mine" in lines.getvalue()
