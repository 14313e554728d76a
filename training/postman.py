"""Brings what is in the outbox to receivers outside, beside the dispatcher."""

import http.client
import json
import logging
import math
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from toploss import __version__, outbox, signing, times
from toploss.errors import ToplossError
from toploss.forms import CHAT
from toploss.home import Home
from toploss.outbox import Message, Type

log = logging.getLogger("toploss.postman")

STEP_S = 1.0
TIMEOUT_S = 10.0  # that a receiver may be silent,
LIMIT_S = 15.0  # and that one attempt may take, whatever comes; below the first wait of the outbox


class Undelivered(Exception):
    """An attempt has failed; the text says why and shows no address."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """It is left as the error that it is."""


_opener = urllib.request.build_opener(_NoRedirects)


class Postman:
    """One of these per dispatcher."""

    def __init__(self, home: Home) -> None:
        self._home = home
        urls = home.settings.notify_urls.get_secret_value().split()
        self._urls = {outbox.receiver(url): url for url in urls}

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Brings messages in a thread for as long as it takes."""
        stop = threading.Event()
        thread = threading.Thread(target=self._follow, args=(stop,), name="postman", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(2)  # an attempt under way may be broken off: it is made again

    def step(self, *, now: float | None = None) -> int:
        """One attempt at the next message of each receiver whose time has come, all at once;
        returns how many were brought. What was given up is told in the log."""
        if given_up := outbox.address(self._home, self._urls, now=now):
            log.error("action=notify outcome=given-up messages=%d", given_up)
        due = outbox.due(self._home, self._urls, now=now)
        found = [m for m in due if outbox.take(self._home, m, now=now)]
        errors: dict[int, str | None] = {m.seq: f"it took longer than {LIMIT_S:g} s" for m in found}

        def attempt(message: Message) -> None:
            try:
                self._bring(message)
                errors[message.seq] = None
            except Undelivered as exc:
                errors[message.seq] = str(exc)

        threads = [threading.Thread(target=attempt, args=(m,), daemon=True) for m in found]
        for thread in threads:
            thread.start()
        until = time.monotonic() + LIMIT_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        # As they are now: who answers later than that has not answered.
        return sum(
            self._settled(message, error)
            for message, error in zip(found, [errors[m.seq] for m in found], strict=True)
        )

    def _settled(self, message: Message, error: str | None) -> bool:
        said = (
            f"action=notify type={message.type} id={message.id} "
            f"receiver={_shown(self._urls[message.receiver])} attempt={message.attempts + 1}"
        )
        if error is None:
            outbox.told(self._home, message)
            log.info("%s outcome=told", said)
            return True
        outbox.not_told(self._home, message, error)
        log.warning("%s outcome=failed error=%r", said, error)
        return False

    def _bring(self, message: Message) -> None:
        """Raises Undelivered."""
        url, settings = self._urls[message.receiver], self._home.settings
        told = body(message, settings.name, settings.public_url)
        if url.startswith(CHAT):
            told = {"text": text(told)}
        data = json.dumps(told).encode()
        try:
            secret = next(iter(settings.notify_secrets()), "")
            headers = {
                "Content-Type": "application/json",
                "User-Agent": f"toploss/{__version__}",
                **signing.headers(secret, message.id, data),
            }
            request = urllib.request.Request(url.removeprefix(CHAT), data, headers)  # noqa: S310  # settings check it
            _opener.open(request, timeout=TIMEOUT_S).close()
        except urllib.error.HTTPError as exc:
            exc.close()
            raise Undelivered(f"it answered {exc.code}") from exc
        except urllib.error.URLError as exc:
            raise Undelivered(f"it cannot be reached: {exc.reason}") from exc
        except (OSError, http.client.HTTPException) as exc:
            raise Undelivered(f"it broke off: {type(exc).__name__}") from exc
        except ToplossError as exc:  # its secret's file cannot be read
            raise Undelivered(str(exc)) from exc

    def _follow(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                while self.step() and not stop.is_set():
                    pass
            except ToplossError as exc:
                log.error("%s", exc)  # the database is away; try again
            except Exception:
                log.exception("bringing messages has failed; the next look tries again")
            stop.wait(STEP_S)


def body(message: Message, name: str, public_url: str) -> dict[str, Any]:
    """What a receiver is sent: type, at, data.

    Args:
        name: the classifier's.
        public_url: where the pages are, for links; empty: nowhere that others can see.
    """
    data = _finite(message.data) | {"name": name, "links": _links(message.data, public_url)}
    return {"type": message.type, "at": times.iso(message.at), "data": data}


WORDS = {
    Type.SUCCEEDED: "run …{run} has succeeded",
    Type.FAILED: "run …{run} has failed",
    Type.CANCELLED: "run …{run} was cancelled",
    Type.PROMOTED: "version …{version} is in production",
    Type.REFUSED: "version …{version} was refused by the gate",
    Type.ROLLED_BACK: "production was rolled back to version …{version}",
    Type.DRIFT: "the traffic has drifted from what version …{version} learned",
}


def text(told: dict[str, Any]) -> str:
    """A body in words, for a chat."""
    data = told["data"]
    short = {key: str(data.get(key) or "")[-8:] for key in ("run", "version")}
    said = WORDS[Type(told["type"])].format(**short) if told["type"] in list(Type) else told["type"]
    accuracy = ((data.get("metrics") or {}).get("test") or {}).get("accuracy")
    return "".join(
        [
            f"{data['name']}: {said}",
            f" (test accuracy {accuracy:.3f})" if isinstance(accuracy, float) else "",
            f": {data['reason']}" if data.get("reason") else "",
            *(f"\n{link}" for link in list(data["links"].values())[:1]),
        ]
    )


def _links(data: dict[str, Any], public_url: str) -> dict[str, str]:
    places = {"version": "models", "run": "runs"}
    if not public_url:
        return {}
    return {
        what: f"{public_url}/{at}/{data[what]}" for what, at in places.items() if data.get(what)
    }


def _finite(value: Any) -> Any:
    """JSON has no word for what is no number."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shown(url: str) -> str:
    """An address without what may be a secret in it."""
    parts = urlsplit(url.removeprefix(CHAT))
    return f"{parts.scheme}://{parts.netloc}"
