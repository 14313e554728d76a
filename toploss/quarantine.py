"""What is kept out of training so that no near-duplicate stands on both sides of the split.

No split is ever changed. Where near-duplicates come to stand on both sides all the same (a newcomer
near to two groups, or splits given with the data), the training one of the pair is quarantined. To
take that back is to clear its `quarantined_by`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row

from toploss.duplicates import Near
from toploss.schema import samples
from toploss.splits import Split

# What a run sees: neither excluded by a reviewer nor quarantined.
TAKES_PART = (samples.c.state == "active") & samples.c.quarantined_by.is_(None)


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A training sample that is kept out of training."""

    id: str
    because: str  # the near-duplicate in valid or test

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def state(row: Row[Any]) -> str:
    """What a sample is to the next run: active, excluded, quarantined or erased."""
    if row.state == "active" and row.quarantined_by is not None:
        return "quarantined"
    return str(row.state)


def is_in(which: str) -> ColumnElement[bool]:
    """The condition for `state` to be so."""
    if which == "active":
        return TAKES_PART
    if which == "quarantined":
        return (samples.c.state == "active") & samples.c.quarantined_by.is_not(None)
    return samples.c.state == which


def leaking(sample_id: str, split: Split, found: list[Near]) -> tuple[Quarantined, ...]:
    """The training samples of the pairs that a sample and its near-duplicates make across the
    split. Pairs of valid and test are left: neither is trained on."""
    if split is Split.TRAIN:
        held_out = [one.id for one in found if one.split is not Split.TRAIN]
        return tuple(Quarantined(id=sample_id, because=one) for one in held_out[:1])
    return tuple(
        Quarantined(id=one.id, because=sample_id)
        for one in found
        if one.split is Split.TRAIN and not one.quarantined
    )


def put(connection: Connection, those: Iterable[Quarantined]) -> None:
    """Keep samples out of training from the next snapshot on."""
    for one in those:
        connection.execute(
            samples.update()
            .where(samples.c.id == one.id)
            .values(
                quarantined_by=one.because,
                # One that was never learned from is no change when it is not learned from now.
                changed=samples.c.settled_class_id.is_not(None),
            )
        )
