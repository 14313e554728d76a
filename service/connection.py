"""Whether anybody is still there to hear the answer."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from toploss.errors import ToplossError

T = TypeVar("T")


class Gone(ToplossError):
    """The caller has hung up."""


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """The work's result; it is cancelled when the caller hangs up.

    Call it once the request's body was read.

    Raises:
        Gone: nobody hears it; whatever is answered goes nowhere.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Gone("the connection was closed before the answer")
    finally:
        working.cancel()
        gone.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
