"""The outermost door: who may come in, how much they may bring, and how every answer leaves."""

import hmac
import logging
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import auth, logs, metrics, problems
from service.auth import READING
from service.bodies import Reading, announced_too_much
from service.login import leads_to_login
from service.predictions import LARGEST_BATCH
from toploss.errors import Overloaded

log = logging.getLogger("toploss.edge")

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})

SLACK = 64 * 1024  # bytes of a form around its image
OTHER_BODIES = 1024 * 1024  # bytes of a request that carries no image
BATCH_IMAGES = 16  # a batch may bring as many images of the largest size
PREDICTIONS = frozenset({"/predict", "/predict_batch", "/explain"})
WITH_IMAGE = frozenset({"/predict", "/explain", "/v1/samples", "/v1/feedback"})
ARCHIVES = frozenset({"/v1/samples/archive", "/v1/decisions/import"})  # of many, to the disk
PATIENCE = 20  # times as long as an image may an archive take to arrive


class Edge:
    """Added to BentoML's app, so that its own routes pass through here as well."""

    def __init__(self, app: ASGIApp, api: FastAPI) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing of ours speaks it, and nobody else's is let in
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        leaving = _Leaving(scope=scope, send=send, api=self._api, request=logs.begin(headers))
        refused = (
            self._not_let_in(scope, headers)
            or self._no_room(scope)
            or _packed(headers)
            or announced_too_much(headers, self._limit(scope))
        )
        # BentoML's own page there has scripts from elsewhere.
        if refused is None and scope["path"] == "/" and scope["method"] in READING:
            refused = RedirectResponse(self._api.state.front, 307)
        if refused is not None:
            await refused(scope, receive, leaving)
            return
        body = self._reading(scope, receive)
        try:
            await self._app(scope, body, leaving)
        except ClientDisconnect:  # in the middle of its body: nobody hears the answer
            if not leaving.started:
                await leaving.said(408)(scope, receive, leaving)
        except Exception:
            log.exception("action=%s path=%s outcome=bug", scope["method"], scope["path"][:200])
            if not leaving.started:
                await leaving.said(500)(scope, receive, leaving)
            elif not leaving.ended:
                raise  # half an answer is out: the connection has to break
        finally:
            body.end()

    def _not_let_in(self, scope: Scope, headers: Headers) -> Response | None:
        """Every path is closed but those that are named as open, whoever answers them."""
        method, path = scope["method"], scope["path"]
        desk = self._api.state.desk
        if desk.doorkeeper.unlocked and (stranger := _stranger(method, headers)) is not None:
            return stranger
        if auth.is_open(path) or (path == "/metrics" and desk.home.settings.metrics_open):
            return _from_elsewhere(headers) if method not in READING else None
        caller = desk.doorkeeper.caller(headers)
        if caller is None:
            return self._unknown(scope, headers)
        scope["toploss.caller"] = caller
        if not caller.key.role.covers(wanted := self._api.state.needed(method, path)):
            return _refused(
                "role",
                403,
                f"key {caller.key.name!r} has the role {caller.key.role}, and {method} "
                f"{path[:200]} needs {wanted}; use another key",
            )
        if caller.session and method not in READING and path != "/logout":
            token = headers.get(auth.CSRF_HEADER, "")
            if not hmac.compare_digest(token.encode(), caller.csrf.encode()):
                return _refused(
                    "token",
                    403,
                    "the X-CSRF-Token is missing or not this session's; load the page again",
                )
        if caller.session and method not in READING and (other := _from_elsewhere(headers)):
            return other
        if wait_s := desk.rate_limit.wait_s(caller.key.name):
            return _refused(
                "rate",
                429,
                f"key {caller.key.name!r} asks more than {desk.home.settings.rate_limit:g} times a "
                f"second; try again in {wait_s} s, or raise TOPLOSS_RATE_LIMIT",
                {"Retry-After": str(wait_s)},
            )
        return None

    def _unknown(self, scope: Scope, headers: Headers) -> Response:
        """Nobody that is known: where there are pages, a browser is shown where to sign in."""
        page = scope["method"] == "GET" and "text/html" in headers.get("accept", "")
        has_pages = auth.is_page(self._api.state.front)
        if page and has_pages and not scope["path"].startswith("/v1/"):
            return leads_to_login(scope["path"], scope["query_string"])
        return _refused(
            "no_key",
            401,
            "no key, or one that is not in force; send `Authorization: Bearer …` "
            "(an admin makes keys by `toploss keys create`)",
            {"WWW-Authenticate": "Bearer"},
        )

    def _no_room(self, scope: Scope) -> Response | None:
        """A prediction that nobody has a place for: refused before anything is done for it, so
        that refusing takes nothing from those that are served."""
        desk = self._api.state.desk
        if scope["method"] != "POST" or scope["path"] not in PREDICTIONS:
            return None
        try:
            desk.batcher.expect_room()
        except Overloaded as exc:
            metrics.PREDICTIONS.labels(outcome="overloaded").inc()
            metrics.REFUSED.labels(reason="room").inc()
            refused = problems.response_to(exc)
            if desk.swap.serving is not None:
                refused.headers["X-Model-Version"] = desk.swap.serving.version
            return refused
        return None

    def _reading(self, scope: Scope, receive: Receive) -> Reading:
        desk, limit = self._api.state.desk, self._limit(scope)
        if scope["path"] in ARCHIVES:
            archive: Reading = desk.archives.reading(receive, limit, PATIENCE)
            return archive
        body: Reading = desk.bodies.reading(receive, limit)
        return body

    def _limit(self, scope: Scope) -> int:
        """Bytes that the body of this request may have."""
        largest: int = self._api.state.desk.home.settings.max_bytes
        if scope["path"] in ARCHIVES:
            most: int = self._api.state.desk.home.settings.max_archive
            return most + SLACK
        if scope["path"] == "/predict_batch":
            return BATCH_IMAGES * largest + LARGEST_BATCH * SLACK
        return largest + SLACK if scope["path"] in WITH_IMAGE else OTHER_BODIES


@dataclass(kw_only=True)
class _Leaving:
    """Sends an answer on: with our headers, and as a problem when it is a bare error."""

    scope: Scope
    send: Send
    api: FastAPI
    request: str  # its id
    started: bool = field(default=False, init=False)
    ended: bool = field(default=False, init=False)
    _replaced: bool = field(default=False, init=False)  # the app's own body is dropped

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            status = message["status"]
            if status == 405 and (allowed := self._allowed()):
                headers["allow"] = allowed
            if status >= 400 and not self._says_it(headers.get("content-type", "")):
                self._replaced = True
                await self._replace(status, headers)
                return
            if self.scope["path"] == "/readyz" and (fit := self.api.state.desk.swap.beside):
                headers["X-Toploss-Schema"] = f"{fit.found}, newer than this release"
            self._sign(headers)
            self._count(status)
        elif self._replaced:
            return
        self.ended = message["type"] == "http.response.body" and not message.get("more_body")
        await self.send(message)

    def said(self, status: int) -> Response:
        """A bare status as a problem."""
        asked = self.scope["method"], self.scope["path"], self.api.state.elsewhere
        return problems.response(status, problems.told(status, *asked))

    def _says_it(self, media_type: str) -> bool:
        """Whether an error is told already: as a problem, or on one of our pages."""
        page = auth.is_page(self.scope["path"]) and media_type.startswith("text/html")
        return page or media_type == problems.MEDIA_TYPE

    async def _replace(self, status: int, headers: Headers) -> None:
        unready = self.scope["path"] == "/readyz" and status == 503
        problem = self._unready() if unready else self.said(status)
        if "allow" in headers:
            problem.headers["allow"] = headers["allow"]
        self._sign(problem.headers)
        self._count(status)
        await self.send(
            {"type": "http.response.start", "status": status, "headers": problem.raw_headers}
        )
        body = b"" if self.scope["method"] == "HEAD" else problem.body
        await self.send({"type": "http.response.body", "body": body})
        self.ended = True

    def _allowed(self) -> str:
        """The methods of all routes at this path: each of ours names its own alone."""
        template = getattr(self.scope.get("route"), "path", None)
        methods = self.api.openapi()["paths"].get(template, {})
        return ", ".join(sorted(map(str.upper, methods)))

    def _unready(self) -> Response:
        return problems.response(503, f"not ready: {self.api.state.desk.swap.told()}")

    def _sign(self, headers: MutableHeaders) -> None:
        _secure(headers)
        headers[logs.HEADER] = self.request

    def _count(self, status: int) -> None:
        route = getattr(self.scope.get("route"), "path", None)
        metrics.count_request(self.scope["method"], route, status)


def _stranger(method: str, headers: Headers) -> Response | None:
    """Whether a page from elsewhere speaks through the user's browser: by a name that was bound
    to this address (Host), or by a request that it has the browser send (Origin)."""
    host = headers.get("host", "")
    if _name(f"//{host}") not in LOOPBACK_NAMES:
        return _refused(
            "host",
            403,
            f"Host {host[:80]!r} is not a loopback name; without keys the service answers only "
            "to 127.0.0.1, localhost and [::1]",
        )
    return _from_elsewhere(headers) if method not in READING else None


def _from_elsewhere(headers: Headers) -> Response | None:
    """Whether a page of another site has had a browser send this."""
    origin, host = headers.get("origin"), headers.get("host", "")
    if origin is not None and _host_of(origin) != host.lower():
        return _refused(
            "origin",
            403,
            f"Origin {origin[:80]!r} is not this service ({host[:80]}); "
            "in a browser only its own pages may change anything",
        )
    return None


def _packed(headers: Headers) -> Response | None:
    """A body is read as it is sent: none is unpacked, however little of it there was."""
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        return None
    return _refused(
        "coding",
        415,
        f"a body with the Content-Encoding {coding[:80]!r} is not unpacked; send it without one",
        {"Accept-Encoding": "identity"},
    )


def _name(address: str) -> str | None:
    """The host's name in an address; None when it cannot be read."""
    try:
        parts = urlsplit(address)
        return None if parts.path or parts.username is not None else parts.hostname
    except ValueError:
        return None


def _host_of(origin: str) -> str | None:
    """Host and port of an http origin; None for any other, `null` included."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


def _refused(
    reason: str, status: int, detail: str, headers: dict[str, str] | None = None
) -> Response:
    metrics.REFUSED.labels(reason=reason).inc()
    return problems.response(status, detail, headers)


def _secure(headers: MutableHeaders) -> None:
    headers["X-Content-Type-Options"] = "nosniff"
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("Cache-Control", "no-store")
    headers.setdefault("X-Frame-Options", "DENY")
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
