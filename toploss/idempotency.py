"""Answers once given under a caller's key: the same request again gets the same answer."""

import hashlib
import json
import time
from typing import Any

from sqlalchemy import Connection, select

from toploss.errors import Stale
from toploss.schema import idempotency


def fingerprint(*request: Any) -> str:
    """What a request says, as a hash in hex."""
    return hashlib.sha256(json.dumps(request).encode()).hexdigest()


def answered(connection: Connection, key: str | None, request: str) -> dict[str, Any] | None:
    """The answer that this request had under this key; None when it is a new one.

    Args:
        request: its fingerprint.

    Raises:
        Stale: the key was used for another request; `present` is that one's answer.
    """
    if key is None:
        return None
    row = connection.execute(select(idempotency).where(idempotency.c.key == key)).first()
    if row is None:
        return None
    if row.request_hash != request:
        raise Stale(
            f"the Idempotency-Key {key!r} was used for another decision; "
            "send a new key with a new one",
            present=row.answer,
        )
    answer: dict[str, Any] = row.answer
    return answer


def keep(connection: Connection, key: str | None, request: str, answer: dict[str, Any]) -> None:
    """The answer stands for this key from now on. Without a key nothing is written."""
    if key is not None:
        connection.execute(
            idempotency.insert().values(
                key=key, request_hash=request, answer=answer, at=time.time()
            )
        )
