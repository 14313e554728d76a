"""Who comes in, and what for: a key in the Authorization header, or a session of the pages.

Where there never was a key, everybody who reaches the loopback address may do everything.
"""

import base64
import hmac
import json
import logging
import math
import threading
import time
from dataclasses import dataclass, field
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.datastructures import Headers

from toploss import blobs, keys
from toploss.home import Home
from toploss.keys import Key, Ring, Role

log = logging.getLogger("toploss.auth")

LOOK_S = 3.0  # between two looks at the keys: a revoked one stops within that
SESSION_S = 12 * 3600  # how long a page stays signed in
COOKIE = "toploss_session"
CSRF_HEADER = "x-csrf-token"
LOCAL = Key(name="local", role=Role.ADMIN, created_at=0.0)

HOOK = "/v1/hooks/retrain"  # comes with a signature in place of a key
OPEN = frozenset({"/livez", "/readyz", "/login", HOOK})
OPEN_BELOW = "/web/"  # the pages' scripts and styles
READING = frozenset({"GET", "HEAD"})
# What each role may do, beside what the one before may; whatever is not named is an admin's.
PREDICT = frozenset({"/predict", "/predict_batch", "/explain", "/v1/feedback", "/logout"})
PREDICT_READS = frozenset(
    {"/v1/model", "/docs.json", "/openapi.json", "/schema.json", "/metrics"}  # what clients read
)
REVIEW_BELOW = (
    *("/v1/samples", "/v1/top-losses", "/v1/decisions", "/v1/claims", "/v1/captures", "/v1/blind"),
)
PAGES = ("/review", "/data", "/models", "/runs", "/samples")
REVIEW_READS_BELOW = (
    *("/v1/classes", "/v1/dataset", "/v1/retrainings", "/v1/models", "/v1/progress", "/v1/drift"),
    *("/v1/disagreements", "/v1/agreement", "/v1/holdout", "/v1/policy", "/v1/versions", *PAGES),
)


def needed(method: str, path: str) -> Role:
    """The least role for a request. Whatever nobody thought of is an admin's."""
    reads = method in READING
    if path in PREDICT or (reads and path in PREDICT_READS):
        return Role.PREDICT
    if _below(path, REVIEW_BELOW) and method != "DELETE":
        return Role.REVIEW
    if _below(path, ("/v1/decisions",)) or (reads and _below(path, REVIEW_READS_BELOW)):
        return Role.REVIEW
    return Role.ADMIN


def is_page(path: str) -> bool:
    """Whether a browser asks, that can be led to the login."""
    return path == "/login" or _below(path, PAGES)


def is_open(path: str) -> bool:
    """Whether it needs no key."""
    return path in OPEN or path.startswith(OPEN_BELOW)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks."""

    key: Key
    csrf: str = ""  # what a change has to bring along; empty: nothing
    session: bool = False


class Doorkeeper:
    """Knows the keys, from a thread that looks at them every few seconds."""

    def __init__(self, home: Home) -> None:
        """Raises BadSettings: the admin's key file holds no key."""
        self._home = home
        self.ring = self._load()
        self._secret = self._signing() if self.ring.ever else b""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="keys", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """It looks no more, not even at the database, which may be closed then."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def look(self) -> None:
        """What cannot be read leaves the keys as they were."""
        try:
            ring = self._load(again=True)
            if ring.ever and not self._secret:
                self._secret = self._signing()
        except Exception as exc:
            log.warning("action=look-at-keys outcome=failed error=%r; they stay as they are", exc)
            return
        # Once there was a key, it takes one: also if the database is another one by now.
        self.ring = Ring(keys=ring.keys, ever=ring.ever or self.ring.ever)

    @property
    def unlocked(self) -> bool:
        """There never was a key."""
        return not self.ring.ever

    def caller(self, headers: Headers) -> Caller | None:
        """Who asks; None: nobody that is known."""
        if self.unlocked:
            return Caller(key=LOCAL)
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        if scheme:
            key = self.ring.holder(secret.strip()) if scheme.lower() == "bearer" else None
            return None if key is None else Caller(key=key)
        return self._signed_in(headers.get("cookie", ""))

    def sign_in(self, secret: str) -> str | None:
        """A session for a key; None: no key in force."""
        key = self.ring.holder(secret)
        if key is None:
            return None
        mark = self._mark(blobs.sha256(secret.encode()))
        told = json.dumps([mark, time.time() + SESSION_S]).encode()
        body = base64.urlsafe_b64encode(told).decode()
        return f"{body}.{self._signed(body)}"

    def _load(self, *, again: bool = False) -> Ring:
        return Ring.load(self._home, again=again)

    def _signing(self) -> bytes:
        """What sessions are signed with."""
        return keys.session_secret(self._home)

    def _signed_in(self, cookie: str) -> Caller | None:
        try:
            token = SimpleCookie(cookie)[COOKIE].value
            body, _, signature = token.partition(".")
            if not hmac.compare_digest(signature.encode(), self._signed(body).encode()):
                return None
            mark, until = json.loads(base64.urlsafe_b64decode(body))
        except (CookieError, KeyError, ValueError):
            return None
        known = self.ring.keys.items()
        key = next((key for digest, key in known if self._mark(digest) == mark), None)
        if key is None or until < time.time():
            return None
        return Caller(key=key, csrf=self._signed(f"csrf:{body}"), session=True)

    def _mark(self, digest: str) -> str:
        """A key as its sessions know it: they end with it, also when another takes its name."""
        return self._signed(f"key:{digest}")

    def _signed(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), sha256).hexdigest()

    def _follow(self) -> None:
        while not self._stopped.wait(LOOK_S):
            self.look()


@dataclass
class RateLimit:
    """A bucket of tokens for each key: so many requests a second, and as many at once."""

    per_s: float  # 0: any number
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)  # tokens, when

    def wait_s(self, name: str) -> int:
        """0, and a token is taken; else after how many whole seconds there is one."""
        if not self.per_s:
            return 0
        now, most = time.monotonic(), max(1.0, self.per_s)
        tokens, at = self._buckets.get(name, (most, now))
        tokens = min(most, tokens + (now - at) * self.per_s)
        self._buckets[name] = (tokens - 1 if tokens >= 1 else tokens, now)
        return 0 if tokens >= 1 else math.ceil((1 - tokens) / self.per_s)


def _below(path: str, tops: tuple[str, ...]) -> bool:
    return any(path == top or path.startswith(f"{top}/") for top in tops)


def caller_of(scope: Any) -> Caller:
    """Whom the edge let in with this request."""
    caller: Caller = scope["toploss.caller"]
    return caller
