"""Answers once given, for images that come again."""

import asyncio
from collections import OrderedDict
from hashlib import sha256

from service import metrics
from service.batcher import Batcher
from service.swap import Serving
from toploss.answers import Answer

# What an answer takes in memory beside its guesses, and each of these; a test weighs them.
ANSWER_BYTES = 400
GUESS_BYTES = 80

SHORT = 2**19  # bytes of an image that are hashed in less than a millisecond

Key = tuple[str, bytes]  # version, SHA-256 of the image's bytes


class Cache:
    """Stands before the batcher; whoever was asked about longest ago is forgotten first.

    A version never changes and neither does an answer of it, so nothing here is ever out of date.
    Touched by the event loop alone.
    """

    def __init__(self, batcher: Batcher, most: int) -> None:
        """
        Args:
            most: bytes of all answers; 0: none is kept, and no image is hashed.
        """
        self._batcher, self._most = batcher, most
        self._kept: OrderedDict[Key, Answer] = OrderedDict()
        self.bytes = 0  # that the answers take

    async def ask(self, data: bytes, serving: Serving) -> Answer:
        """As `Batcher.ask` has it, which is asked about what is new. What it raises is not kept."""
        if not self._most:
            return await self._batcher.ask(data, serving)
        digest = await _digest(data)
        key = serving.version, digest
        if known := self._kept.get(key):
            self._kept.move_to_end(key)
            metrics.CACHE.labels(result="hit").inc()
            return known
        metrics.CACHE.labels(result="miss").inc()
        answer = await self._batcher.ask(data, serving)
        self._keep(key, answer)
        return answer

    def _keep(self, key: Key, answer: Answer) -> None:
        if key in self._kept:  # asked about twice at the same time
            return
        self._kept[key] = answer
        self.bytes += _weight(answer)
        while self.bytes > self._most:
            self.bytes -= _weight(self._kept.popitem(last=False)[1])


async def _digest(data: bytes) -> bytes:
    if len(data) <= SHORT:
        return sha256(data).digest()
    return await asyncio.to_thread(lambda: sha256(data).digest())


def _weight(answer: Answer) -> int:
    return ANSWER_BYTES + GUESS_BYTES * len(answer.guesses)
