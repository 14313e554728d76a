"""What happened to samples, and what stands: every change is an event in `sample_events`.

A sample's row is the projection of its events, written in the same transaction. `replay` makes the
projection anew from the events alone.
"""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, bindparam

from toploss import questions, scoring, trials
from toploss.classes import Classes
from toploss.errors import Erased
from toploss.ids import new_id
from toploss.schema import REVISION, sample_events, samples
from toploss.splits import Split


class State(StrEnum):
    ACTIVE = "active"
    EXCLUDED = "excluded"  # kept, but neither trained nor measured on
    ERASED = "erased"  # gone for good (`toploss.erasure`); the row and its events stay


class Kind(StrEnum):
    """What an event says."""

    ADD = "add"  # the image came in
    LABEL = "label"  # an import set another label
    CONFLICT = "conflict"  # it came again with another label, and kept its own
    CONFIRM = "confirm"  # the reviewer's four decisions
    RELABEL = "relabel"
    EXCLUDE = "exclude"
    SKIP = "skip"
    UNDO = "undo"
    ERASE = "erase"  # an admin had it deleted


ACTIONS = (Kind.CONFIRM, Kind.RELABEL, Kind.EXCLUDE, Kind.SKIP)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A sample's projection: what its events add up to."""

    class_id: int
    state: State
    decision: Kind | None = None  # the decision that stands
    decision_id: str | None = None  # its event

    @classmethod
    def of(cls, row: Row[Any]) -> "Standing":
        return cls.from_json(row._asdict())

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Standing":
        return cls(
            class_id=data["class_id"],
            state=State(data["state"]),
            decision=Kind(data["decision"]) if data["decision"] else None,
            decision_id=data["decision_id"],
        )

    @property
    def excluded(self) -> bool:
        """It takes no part, as a reviewer or an admin said."""
        return self.state is not State.ACTIVE

    def columns(self) -> dict[str, Any]:
        return asdict(self)


def apply(
    standing: Standing, kind: Kind, *, class_id: int | None = None, event_id: str | None = None
) -> Standing:
    """What stands after an event of any kind but an undo, which restores what it found."""
    if kind is Kind.CONFLICT:
        return standing
    if kind in (Kind.ADD, Kind.LABEL):
        assert class_id is not None
        return Standing(class_id=class_id, state=State.ACTIVE)
    if kind is Kind.ERASE:
        return Standing(class_id=standing.class_id, state=State.ERASED)
    return Standing(
        class_id=class_id if kind is Kind.RELABEL and class_id else standing.class_id,
        state={Kind.EXCLUDE: State.EXCLUDED, Kind.SKIP: standing.state}.get(kind, State.ACTIVE),
        decision=kind,
        decision_id=event_id,
    )


def replay(events: Iterable[Row[Any]], merged: dict[int, int]) -> Standing:
    """The projection of one sample's events, oldest first.

    Args:
        merged: class id → the class that it was merged into.
    """
    standing: Standing | None = None
    for event in events:
        kind = Kind(event.kind)
        if kind is Kind.UNDO:
            standing = Standing.from_json(event.evidence["restored"])
        else:
            before = standing or Standing(class_id=event.class_id, state=State.ACTIVE)
            standing = apply(before, kind, class_id=event.class_id, event_id=event.id)
    assert standing is not None, "a sample begins with its add event"
    final = merged.get(standing.class_id, standing.class_id)
    return Standing(**{**asdict(standing), "class_id": final})


def append(
    connection: Connection,
    row: Row[Any],
    kind: Kind,
    standing: Standing,
    revision: int,
    *,
    actor: str,
    class_id: int,
    event_id: str | None = None,
    undoes: str | None = None,
    evidence: dict[str, Any] | None = None,
) -> None:
    """Write an event on a sample and its new projection."""
    record_event(
        connection,
        row.id,
        kind,
        Standing.of(row),
        revision,
        actor=actor,
        class_id=class_id,
        event_id=event_id,
        undoes=undoes,
        evidence=evidence,
    )
    takes_part = standing.state is State.ACTIVE and row.quarantined_by is None
    learned = standing.class_id if takes_part else None
    connection.execute(
        samples.update()
        .where(samples.c.seq == bindparam("at_seq"))
        .values(**standing.columns(), revision=revision, changed=learned != row.settled_class_id),
        {"at_seq": row.seq},
    )
    if (standing.class_id, standing.decision_id) != (row.class_id, row.decision_id):
        relabelled = standing.class_id != row.class_id
        scoring.follow(connection, row, standing, relabelled=relabelled)
    if row.split == Split.TEST:
        trials.follow(connection, row, standing)
    if row.decision_id not in (None, standing.decision_id):
        questions.follow(connection, row.seq, standing.decision_id)


def record_event(
    connection: Connection,
    sample_id: str,
    kind: Kind,
    before: Standing | None,
    revision: int,
    *,
    actor: str,
    class_id: int,
    at: float | None = None,
    event_id: str | None = None,
    undoes: str | None = None,
    evidence: dict[str, Any] | None = None,
) -> None:
    """Write an event alone; the projection is the caller's. See `append`."""
    connection.execute(
        sample_events.insert().values(
            id=event_id or new_id(),
            sample_id=sample_id,
            kind=kind,
            class_id=class_id,
            undoes=undoes,
            before=before.columns() if before else {},
            revision=revision,
            actor=actor,
            at=at or time.time(),
            evidence=evidence,
            schema=REVISION,
        )
    )


def refuse_erased(row: Row[Any]) -> None:
    """Raises Erased, of a sample's row."""
    if row.state == State.ERASED:
        raise erased(row.id)


def erased(sample_id: str) -> Erased:
    """The error for whoever asks for one that is gone."""
    return Erased(
        f"sample {sample_id} was erased for good; `toploss samples show {sample_id}` says why"
    )


def present(row: Row[Any], known: Classes) -> dict[str, Any]:
    """A sample as it stands, for a caller who saw an older state."""
    return {
        "id": row.id,
        "label": known.names[row.class_id],
        "split": row.split,
        "state": row.state,
        "decision": row.decision,
        "revision": row.revision,
    }
