"""Calls from outside that ask for a run: each counts once."""

import json
import time
from typing import Any

from sqlalchemy import Connection, select

from toploss import records, runs
from toploss.blobs import sha256
from toploss.errors import Stale
from toploss.home import Home
from toploss.schema import hook_calls
from toploss.signing import TOLERANCE_S, Signed
from toploss.triggers import Kind

# A message of the future is believed for as long as one of the past.
KEPT_S = 3 * TOLERANCE_S
# Where neither id nor time is signed, the body stands for them: it may come again at any time.
KEPT_BODY_S = 30 * 24 * 3600
LONGEST_REASON = 500


def called(home: Home, signed: Signed, body: bytes, *, reason: str) -> dict[str, Any]:
    """Ask for a run: id and state. The same call again gets the same answer, and asks for nothing.

    Raises:
        Stale: another body under an id that was used.
    """
    digest = sha256(body)
    id = f"id:{signed.id}" if signed.id is not None else f"body:{digest}"
    kept = KEPT_S if signed.id is not None else KEPT_BODY_S

    def answered(connection: Connection) -> dict[str, Any]:
        known = connection.execute(select(hook_calls).where(hook_calls.c.id == id)).first()
        if known is not None and known.until >= time.time():
            if known.digest != digest:
                raise Stale(f"the webhook-id {signed.id!r} was used with another body; send a new")
            answer: dict[str, Any] = known.answer
            return answer
        connection.execute(hook_calls.delete().where(hook_calls.c.until < time.time()))
        run = runs.ask(home, connection, reason=reason, actor="webhook", kind=Kind.WEBHOOK)
        answer = {"id": run["id"], "state": run["state"]}
        call = {"id": id, "digest": digest, "answer": answer, "until": time.time() + kept}
        connection.execute(hook_calls.insert().values(call))
        return answer

    return records.agreed(home, answered)


def reason_of(body: bytes, fallback: str) -> str:
    """What a body says as `reason`; else what GitHub's pushes say; else the fallback. Any JSON is
    well, and what is none as well."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return fallback
    if not isinstance(told, dict):
        return fallback
    for key, before in (("reason", ""), ("ref", "a push to ")):
        if isinstance(told.get(key), str) and (said := _clean(told[key])):
            return f"{before}{said}"
    return fallback


def _clean(text: str) -> str:
    """Without what a database or a terminal minds."""
    shown = "".join(sign if sign.isprintable() else " " for sign in text[: 2 * LONGEST_REASON])
    return " ".join(shown.split())[:LONGEST_REASON]
