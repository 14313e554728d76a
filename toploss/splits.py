"""Which split a sample belongs to: decided once, never changed as the data grow."""

import hashlib
from collections.abc import Collection
from enum import StrEnum


class Split(StrEnum):
    TRAIN = "train"
    VALID = "valid"
    TEST = "test"  # the frozen holdout; the gate alone looks at it


EVERY = tuple(Split)


def assign(group: str, *, seed: int, shares: str, among: tuple[Split, ...] = EVERY) -> Split:
    """The split of a group of near-duplicates, by hash of seed and group.

    The same group and seed give the same split on every machine, whatever else is in the pool:
    the course's advice to seed before making the data bunch, made to hold while data grow.

    Args:
        shares: percentages of train, valid and test, as in `70/15/15`.
        among: the splits that share it, in their proportion.
    """
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    each = dict(zip(Split, map(float, shares.split("/")), strict=True))
    if not any(each[split] for split in among):
        each = dict.fromkeys(Split, 1.0)
    position = int.from_bytes(digest[:8], "big") / 2**64 * sum(each[split] for split in among)
    for split in among[:-1]:
        if position < each[split]:
            return split
        position -= each[split]
    return among[-1]


def instead(given: Collection[Split], there: Collection[Split]) -> tuple[Split, ...]:
    """Where data come split, but not into all three: among which splits one that came is shared;
    none where nothing is lacking, or train. For test alone that is valid, as what no training
    learns from is held apart already; else it is train.

    Args:
        given: those that the data come in.
        there: those that have samples already.
    """
    lacking = set(Split) - {*given, *there}
    shared = Split.VALID if lacking == {Split.TEST} and Split.VALID in given else Split.TRAIN
    if not lacking or shared not in given:
        return ()
    return tuple(split for split in Split if split is shared or split in lacking)
