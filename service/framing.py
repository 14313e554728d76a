"""Connections, before there is a request: how large its head may be, and how long it may take.

uvicorn bounds neither. A line that never ends would fill the memory, and a head that never ends
would hold a connection for ever ("slowloris").
"""

import asyncio
import logging
from http import HTTPStatus

from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service import metrics, problems

log = logging.getLogger("toploss.framing")

LARGEST_HEAD = 64 * 1024  # bytes of the request's line and headers
HEAD_S = 10.0  # for all of the head to arrive, from the connection or the first byte on

TOO_LARGE = (431, f"the head of the request is larger than {LARGEST_HEAD:,} bytes")


class Protocol(HttpToolsProtocol):
    """One connection. What is no HTTP is told as a problem, like every other error."""

    _head = 0  # bytes that came of a head that is not there yet
    _parsed = 0  # of its line and headers, as far as they are understood
    _within = False  # a head, of which something came
    _began = False  # with what has just come
    _waiting: asyncio.TimerHandle | None = None  # for the rest of the head
    _refused = False  # whatever comes is passed over
    _why = (400, "what was sent is no HTTP/1.1 request")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._began = False
        super().data_received(data)
        idle = self.cycle is None or self.cycle.response_complete
        if self._waiting is None:
            if idle and not self._refused:  # neither a head nor a body that anybody reads
                self._await_head()
        elif self._within and not self._began:
            self._head += len(data)
            if self._head > LARGEST_HEAD:
                self._refuse(*TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()
        self._began = self._within = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._bound(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._bound(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._head_is_there()
        self._within = False
        upgrade = self.parser.should_upgrade()
        if upgrade and any(
            name in (b"content-length", b"transfer-encoding") and value != b"0"
            for name, value in self.headers
        ):
            # The parser passes such a body over, and takes what is left of it for a request.
            self._why = (400, "a body came with an Upgrade header, which is not answered here")
            raise ValueError(self._why)
        super().on_headers_complete()
        if upgrade:
            self.cycle.keep_alive = False
            self._refused = True

    def send_400_response(self, msg: str) -> None:
        self._refuse(*self._why)

    def _should_upgrade(self) -> bool:
        return False  # nobody here speaks web sockets; what asks for them is answered in HTTP

    def _unsupported_upgrade_warning(self) -> None:
        pass

    def _await_head(self) -> None:
        self._head_is_there()
        self._waiting = self.loop.call_later(HEAD_S, self._too_slow)

    def _head_is_there(self) -> None:
        self._head = self._parsed = 0
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_slow(self) -> None:
        if not self._within:  # a connection that somebody holds in stock: it asks for no answer
            self.transport.close()
            return
        self._refuse(408, f"no request arrived within {HEAD_S:g} s")

    def _bound(self, size: int) -> None:
        """Raises within the parser, which then says that this is no request."""
        self._parsed += size
        if self._parsed > LARGEST_HEAD:
            self._why = TOO_LARGE
            raise ValueError(TOO_LARGE)

    def _refuse(self, status: int, what: str) -> None:
        self._head_is_there()
        self._refused = True
        metrics.REFUSED.labels(reason="framing" if status == 400 else "head").inc()
        log.info("action=connection outcome=refused status=%d", status)
        before = self.cycle
        if before is not None and not before.response_complete and not before.more_body:
            # The request before it is being answered: that is heard, then it is hung up.
            before.keep_alive = False
            return
        if self.transport.is_closing():
            return
        half = before is not None and before.response_started and not before.response_complete
        if half or self.pipeline:  # half an answer is out, this one's or that of one before
            self.transport.close()
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
