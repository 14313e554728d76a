"""Connections, before there is a request: how large its head may be, and how long it may take.

uvicorn bounds neither. A line that never ends would fill the memory, and a head that never ends
would hold a connection for ever ("slowloris").
"""

import asyncio
import logging
from http import HTTPStatus

from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service import problems

log = logging.getLogger("toploss.framing")

LARGEST_HEAD = 64 * 1024  # bytes of the request's line and headers
HEAD_S = 10.0  # for all of the head to arrive, from the connection or the first byte on


class Protocol(HttpToolsProtocol):
    """One connection. What is no HTTP is told as a problem, like every other error."""

    _head = 0  # bytes that came of a head that is not there yet
    _waiting: asyncio.TimerHandle | None = None  # for the rest of the head

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waiting is None:
            return
        self._head += len(data)
        if self._head > LARGEST_HEAD:
            self._refuse(431, f"the head of the request is larger than {LARGEST_HEAD:,} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._head_is_there()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "what was sent is no HTTP/1.1 request")

    def _should_upgrade(self) -> bool:
        return False  # nobody here speaks web sockets; what asks for them is answered in HTTP

    def _unsupported_upgrade_warning(self) -> None:
        pass

    def _await_head(self) -> None:
        self._head_is_there()
        self._waiting = self.loop.call_later(HEAD_S, self._too_slow)

    def _head_is_there(self) -> None:
        self._head = 0
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_slow(self) -> None:
        self._refuse(408, f"no request arrived within {HEAD_S:g} s")

    def _refuse(self, status: int, what: str) -> None:
        self._head_is_there()
        log.info("action=connection outcome=refused status=%d", status)
        before = self.cycle
        if before is not None and not before.response_complete and not before.more_body:
            # The request before it is being answered: that is heard, then it is hung up.
            before.keep_alive = False
            self.flow.pause_reading()
            return
        if self.transport.is_closing():
            return
        if before is not None and before.response_started and not before.response_complete:
            self.transport.close()  # half an answer is out
            return
        problem = problems.response(
            status, f"{what}; correct it and send it again", {"connection": "close"}
        )
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        lines += [name + b": " + value for name, value in problem.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(problem.body)]))
        self.transport.close()


def install() -> None:
    """Every server of this process that is started from now on speaks so."""
    auto.AutoHTTPProtocol = Protocol
