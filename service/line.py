"""The line of predictions: a few threads of our own, and a bound on how many wait for them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from toploss.errors import Overloaded

T = TypeVar("T")


class Line:
    """Decoding and computing, off the event loop."""

    def __init__(self, *, threads: int, places: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self._places = places
        self._taken = 0  # touched on the event loop alone

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in a thread. A caller that goes away leaves its place.

        Raises:
            Overloaded: every place is taken; refused at once, nothing was computed.
        """
        if self._taken >= self._places:
            raise Overloaded(
                f"{self._taken} predictions are in flight, as many as are taken; try again in a "
                "second, or raise TOPLOSS_QUEUE_SIZE"
            )
        self._taken += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._taken -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
