"""What requests bring along: how much of it, for how long, and how much of all together."""

import asyncio
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive

from service import metrics, problems

SMALL = 1024 * 1024  # bytes that a request has free: what counts are images


@dataclass(kw_only=True)
class Bodies:
    """The bodies under way. Touched on the event loop alone."""

    most: int  # bytes of all that are under way
    timeout_s: float  # for the whole of one
    held: int = 0  # bytes, of those that are larger than `SMALL`

    def reading(self, receive: Receive, limit: int, patience: int = 1) -> "Reading":
        """
        Args:
            limit: bytes.
            patience: how many times as long as others it may take.
        """
        timeout_s = patience * self.timeout_s
        return Reading(bodies=self, receive=receive, limit=limit, timeout_s=timeout_s)


@dataclass(kw_only=True)
class Reading:
    """One body as it streams in. What is more than the limit breaks off, whatever was announced,
    and so does a sender who takes too long, or for whom there is no memory."""

    bodies: Bodies
    receive: Receive
    limit: int  # bytes
    timeout_s: float
    _seen: int = 0
    _held: int = 0
    _deadline: float | None = None  # of the event loop's clock
    _ended: bool = False

    async def __call__(self) -> Message:
        if self._ended:
            return await self.receive()  # until the caller hangs up
        loop = asyncio.get_running_loop()
        if self._deadline is None:
            self._deadline = loop.time() + self.timeout_s
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self.receive()
        except TimeoutError:
            metrics.REFUSED.labels(reason="slow").inc()
            raise HTTPException(
                408,
                f"the body did not arrive within {self.timeout_s:g} s; send it faster, or "
                "raise TOPLOSS_TIMEOUT_S",
            ) from None
        self._ended = not message.get("more_body", False)
        if message["type"] == "http.request":
            self._take(len(message.get("body", b"")))
        return message

    def _take(self, size: int) -> None:
        self._seen += size
        if self._seen > self.limit:
            metrics.REFUSED.labels(reason="bytes").inc()
            raise HTTPException(413, _told(self.limit, f"more than {self.limit:,}"))
        if self._seen > SMALL:
            self._hold(self._seen - self._held)

    def _hold(self, more: int) -> None:
        if self.bodies.held + more > self.bodies.most:
            metrics.REFUSED.labels(reason="memory").inc()
            raise HTTPException(
                503,
                f"requests of {self.bodies.held:,} bytes are being read, of {self.bodies.most:,} "
                "at a time; try again in a second, or raise TOPLOSS_MAX_BODIES",
                {"Retry-After": "1"},
            )
        self.bodies.held += more
        self._held += more

    def end(self) -> None:
        """Its request was answered."""
        self.bodies.held -= self._held
        self._held = 0


def announced_too_much(headers: Headers, limit: int) -> Response | None:
    """Refused by what it says of itself, before any of it is read."""
    length = headers.get("content-length", "0")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        metrics.REFUSED.labels(reason="bytes").inc()
        return problems.response(413, _told(limit, f"{int(length[:20]):,}"))
    return None


def _told(limit: int, found: str) -> str:
    return (
        f"the request has {found} bytes, of {limit:,} taken here; "
        "send smaller or fewer images, or raise TOPLOSS_MAX_BYTES (of an archive: "
        "TOPLOSS_MAX_ARCHIVE)"
    )
