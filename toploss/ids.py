"""Names that sort by time."""

import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, in ascending ASCII order
LENGTH = 26


def new_id() -> str:
    """A fresh name: 26 lower-case characters, 48 bits of milliseconds, then 80 random bits.

    The layout of a ULID, in lower case because BentoML's tags are. Names sort by the millisecond
    they were made in; within one millisecond their order is random.
    """
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def is_id(text: str) -> bool:
    """Whether it could be one of them."""
    return len(text) == LENGTH and set(text) <= set(ALPHABET)
