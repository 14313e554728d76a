"""Bodies as they stream in."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from service.bodies import SMALL, Bodies


def sender(*chunks: bytes, wait_s: float = 0) -> Callable[[], Coroutine[Any, Any, Any]]:
    waiting = list(chunks)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(wait_s)
        if not waiting:
            return {"type": "http.disconnect"}
        body = waiting.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(waiting)}

    return receive


async def read(reading: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await reading()
        body += message["body"]
        more = message["more_body"]
    return body


def test_it_comes_through_as_it_was_sent() -> None:
    async def story() -> None:
        bodies = Bodies(most=10, timeout_s=5)
        reading = bodies.reading(sender(b"ab", b"", b"cd"), limit=4)
        assert await read(reading) == b"abcd"
        assert (await reading())["type"] == "http.disconnect"

    asyncio.run(story())


def test_more_than_the_limit_breaks_off() -> None:
    async def story() -> None:
        reading = Bodies(most=10, timeout_s=5).reading(sender(b"ab", b"cde"), limit=4)
        with pytest.raises(HTTPException, match="TOPLOSS_MAX_BYTES") as caught:
            await read(reading)
        assert caught.value.status_code == 413

    asyncio.run(story())


def test_a_slow_sender_breaks_off_and_a_waiting_caller_does_not() -> None:
    async def story() -> None:
        bodies = Bodies(most=10, timeout_s=0.1)
        with pytest.raises(HTTPException, match=r"within 0\.1 s") as caught:
            await read(bodies.reading(sender(*[b"a"] * 10, wait_s=0.03), limit=100))
        assert caught.value.status_code == 408
        done = bodies.reading(sender(b"a"), limit=100)
        await read(done)
        await asyncio.sleep(0.15)
        assert (await done())["type"] == "http.disconnect"

    asyncio.run(story())


def test_all_together_are_bounded_and_room_is_given_back() -> None:
    async def story() -> None:
        large = b"x" * (SMALL + 1)
        bodies = Bodies(most=int(2.5 * SMALL), timeout_s=5)
        first, second = (bodies.reading(sender(large), limit=10 * SMALL) for _ in range(2))
        await read(first)
        await read(second)
        with pytest.raises(HTTPException, match="TOPLOSS_MAX_BODIES") as caught:
            await read(bodies.reading(sender(large), limit=10 * SMALL))
        assert (caught.value.status_code, caught.value.headers) == (503, {"Retry-After": "1"})
        assert await read(bodies.reading(sender(b"small"), limit=10 * SMALL))
        first.end()
        first.end()
        assert await read(bodies.reading(sender(large), limit=10 * SMALL))

    asyncio.run(story())
