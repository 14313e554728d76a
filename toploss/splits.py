"""Which split a sample belongs to: decided once, never changed as the data grow."""

import hashlib
from enum import StrEnum


class Split(StrEnum):
    TRAIN = "train"
    VALID = "valid"
    TEST = "test"  # the frozen holdout; the gate alone looks at it


def assign(group: str, *, seed: int, shares: str, chosen: bool = False) -> Split:
    """The split of a group of near-duplicates, by hash of seed and group.

    The same group and seed give the same split on every machine, whatever else is in the pool:
    the course's advice to seed before making the data bunch, made to hold while data grow.

    Args:
        shares: percentages of train, valid and test, as in `70/15/15`.
        chosen: a model had a say in that it came, so it is never of test: train and valid share it
            in their proportion.
    """
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    train, valid, _ = (float(share) for share in shares.split("/"))
    position = int.from_bytes(digest[:8], "big") / 2**64 * (train + valid if chosen else 100)
    if position < train:
        return Split.TRAIN
    return Split.VALID if position < train + valid else Split.TEST
