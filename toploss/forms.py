"""What the values of settings look like, beyond numbers and words: types that check themselves.

A fault is a ValueError that says what was expected, and shows nothing of a secret.
"""

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

CHAT = "text+"  # before the address of a receiver that is a chat
SHORTEST = 20  # characters of a secret that signs


def three_shares(split: str) -> str:
    """Percentages of train, valid and test, as in 70/15/15; 100 together."""
    try:
        shares = [float(share) for share in split.split("/")]
    except ValueError as exc:
        raise ValueError("expected three numbers, as in 70/15/15") from exc
    if len(shares) != 3 or min(shares) < 0 or shares[0] <= 0 or sum(shares) > 100.0001:
        raise ValueError("expected three shares, the first above 0, of 100 together")
    if not abs(sum(shares) - 100) <= 1e-4:  # so that nan is refused too
        raise ValueError(f"the shares add up to {sum(shares):g}, not to 100")
    return split


def rate(given: str) -> str:
    """`auto`, or a learning rate above 0 and at most 10."""
    if given != "auto":
        try:
            if not 0 < float(given) <= 10:
                raise ValueError
        except ValueError as exc:
            raise ValueError("expected 'auto' or a rate above 0 and at most 10") from exc
    return given


def one_url(text: str) -> None:
    """Of a file that holds one."""
    if len(text.split()) != 1:
        raise ValueError("expected one URL")


def long_enough(secrets: str) -> None:
    """Of secrets with spaces between."""
    if any(len(secret) < SHORTEST for secret in secrets.split()):
        raise ValueError(f"expected secrets of at least {SHORTEST} characters")


def address(url: str) -> str:
    """Where people or messages go over HTTP; without the slash at its end. Empty: nowhere."""
    if url:
        _check(url)
    return url.rstrip("/")


def _check(url: str) -> None:
    expected = "expected http(s)://HOST[:PORT]/PATH, without a user in it"
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as exc:
        raise ValueError(expected) from exc
    if not sound or parts.username is not None or not (url.isascii() and url.isprintable()):
        raise ValueError(expected)


def _absolute(folder: Path) -> Path:
    return Path(os.path.abspath(folder.expanduser()))


def _secret(secret: SecretStr) -> SecretStr:
    long_enough(secret.get_secret_value())
    return secret


def _receivers(urls: SecretStr) -> SecretStr:
    for url in urls.get_secret_value().split():
        _check(url.removeprefix(CHAT))
    return urls


Share = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[str, AfterValidator(three_shares)]
Rate = Annotated[str, AfterValidator(rate)]
Address = Annotated[str, AfterValidator(address)]
Endpoint = Annotated[str, Field(pattern=r"^(https?://[^/\s]+(/\S*)?)?$")]
Folder = Annotated[Path, AfterValidator(_absolute)]
BentoName = Annotated[str, Field(pattern=r"^[a-z0-9]([-._a-z0-9]*[a-z0-9])?$", max_length=63)]
Namespace = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
Receivers = Annotated[SecretStr, AfterValidator(_receivers)]
