"""Signed messages between programs, as https://www.standardwebhooks.com has them: HMAC-SHA256 over
id, time and body. GitHub's way, over the body alone, is read as well."""

import base64
import binascii
import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

TOLERANCE_S = 300  # between a message's time and this clock
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
GITHUB = "x-hub-signature-256"
ENCODED = "whsec_"  # before a secret that is written in base64
LONGEST_ID = 100


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A message whose signature is right."""

    id: str | None  # None: it has none that was signed
    at: float | None  # when it says that it was sent; seconds since 1970

    def off_s(self, now: float | None = None) -> float:
        """How far its time is from this clock; 0 where it says none."""
        if self.at is None:
            return 0.0
        return abs((time.time() if now is None else now) - self.at)


def headers(secret: str, id: str, body: bytes, *, at: float | None = None) -> dict[str, str]:
    """What goes out with a message; without a secret it is not signed.

    Args:
        at: seconds since 1970; None: now.
    """
    when = str(int(time.time() if at is None else at))
    unsigned = {ID: id, TIMESTAMP: when}
    return unsigned | ({SIGNATURE: f"v1,{_standard(secret, id, when, body)}"} if secret else {})


def verified(secrets: Sequence[str], given: Mapping[str, str], body: bytes) -> Signed | None:
    """Who knows one of the secrets has sent this; None: nobody did. How long it takes says nothing
    of the secrets. A message may be an old one: see `Signed.off_s`.

    Args:
        given: the request's headers, by their names in lower case.
    """
    id, when = given.get(ID, ""), given.get(TIMESTAMP, "")
    told = {part.partition(",")[2] for part in given.get(SIGNATURE, "").split()[:10]}
    if told and _sensible(id) and when.isascii() and when.isdigit() and len(when) <= 15:
        wanted = [_standard(secret, id, when, body) for secret in secrets]
        return Signed(id=id, at=float(when)) if _any_is(wanted, told) else None
    if GITHUB in given:
        wanted = [f"sha256={_mac(secret, body).hex()}" for secret in secrets]
        return Signed(id=None, at=None) if _any_is(wanted, {given[GITHUB]}) else None
    return None


def _any_is(wanted: Sequence[str], told: set[str]) -> bool:
    found = [hmac.compare_digest(w.encode(), t.encode()) for w in wanted for t in told]
    return any(found)


def _sensible(id: str) -> bool:
    return 0 < len(id) <= LONGEST_ID and id.isascii() and id.isprintable()


def _standard(secret: str, id: str, when: str, body: bytes) -> str:
    return base64.b64encode(_mac(secret, f"{id}.{when}.".encode() + body)).decode()


def _mac(secret: str, message: bytes) -> bytes:
    return hmac.new(_key(secret), message, sha256).digest()


def _key(secret: str) -> bytes:
    if secret.startswith(ENCODED):
        try:
            return base64.b64decode(secret.removeprefix(ENCODED), validate=True)
        except binascii.Error:
            pass  # a secret that only looks so
    return secret.encode()
