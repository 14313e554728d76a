"""What reviewers make of captures: samples, or nothing."""

import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, select

from toploss import captures, classes, events, samples
from toploss.blobs import image_path
from toploss.captures import State, Why
from toploss.classes import Classes
from toploss.database import one_at_a_time
from toploss.errors import Broken, Stale, ToplossError
from toploss.events import Kind, Standing
from toploss.home import Home
from toploss.ids import new_id
from toploss.samples import Added, Kept
from toploss.schema import captures as table
from toploss.schema import samples as sample_table
from toploss.splits import Split


def label(home: Home, capture_id: str, name: str, *, actor: str) -> dict[str, Any]:
    """Make a sample of a capture, as an image that is added is one, under the reviewer's name. A
    new one is confirmed at once: somebody has looked at it; but in `test` only what is said blind
    counts. What a model or a caller chose opens no group of `test`, which is to speak for the
    traffic. The same label again gives the same answer and changes nothing.

    Returns:
        The sample's id, label, split, revision, new and conflict, as they were then.

    Raises:
        UnknownLabel, NotFound.
        Stale: it was decided otherwise, with what stands; nothing is changed.
    """
    with home.db.read() as connection:
        row = captures.find(connection, capture_id)
        classes.load(connection).id_of(name)
    data = _bytes(home, row)
    kept = samples.keep(home, data, _file_name(row)) if data else None
    try:
        outcome = _label(home, capture_id, name, kept, actor)
    except Exception:
        if kept is not None:
            with suppress(ToplossError):  # which is then told of no more than the first
                _take_back(home, kept)
        raise
    if kept is not None:  # somebody else may have taken it back just before
        home.blobs.put_image(data)
    if row.stored:
        captures.clear(home, capture_id)
    return outcome


def _label(home: Home, capture_id: str, name: str, kept: Kept | None, actor: str) -> dict[str, Any]:
    with home.db.write() as connection:
        one_at_a_time(connection)
        row, known = captures.find(connection, capture_id, alone=True), classes.load(connection)
        class_id = known.id_of(name)
        if row.state == State.WAITING and kept is not None:
            chosen = row.why != Why.RANDOM
            added = samples.record(
                connection, home, kept, class_id, actor=actor, chosen=chosen, known=known
            )
            outcome = _told(added, _confirm(connection, row, added, actor, known))
            _settle(connection, row, State.LABELLED, actor, class_id=class_id, outcome=outcome)
            return outcome
        return dict(_settled(row, known, State.LABELLED, class_id).outcome)


def _take_back(home: Home, kept: Kept) -> None:
    """Delete the bytes of an image that became no sample: they were to be forgotten in time."""
    with home.db.write() as connection:
        one_at_a_time(connection)
        known = select(sample_table.c.seq).where(sample_table.c.id == kept.id)
        if connection.execute(known).first() is None:
            home.blobs.delete([image_path(kept.id)])


def discard(home: Home, capture_id: str, *, actor: str) -> None:
    """Put a capture aside and delete its bytes. To do it again changes nothing.

    Raises:
        NotFound. Stale: it is a sample by now.
    """
    with home.db.write() as connection:
        row = captures.find(connection, capture_id, alone=True)
        if row.state == State.WAITING:
            _settle(connection, row, State.DISCARDED, actor)
        else:
            _settled(row, classes.load(connection), State.DISCARDED, None)
    if row.stored:
        captures.clear(home, capture_id)


def _bytes(home: Home, row: Row[Any]) -> bytes:
    """Of a capture that waits; nothing of another, also if it was decided just now."""
    try:
        return captures.image(home, row) if row.state == State.WAITING else b""
    except Broken:
        with home.db.read() as connection:
            if captures.find(connection, row.id).state == State.WAITING:
                raise
        return b""


def _settle(
    connection: Connection, row: Row[Any], state: State, actor: str, **columns: Any
) -> None:
    connection.execute(
        table.update()
        .where(table.c.id == row.id)
        .values(state=state.value, decided_by=actor, decided_at=time.time(), **columns)
    )


def _settled(row: Row[Any], known: Classes, wanted: State, class_id: int | None) -> Row[Any]:
    """A capture that was decided, so and not otherwise. Raises Stale."""
    was = known.names[row.class_id] if row.class_id else None
    if row.state != wanted or was != (known.names[class_id] if class_id else None):
        so = f"labelled {was!r}" if was else "discarded"
        raise Stale(
            f"capture {row.id} was {so} by {row.decided_by}; "
            + ("decide on its sample instead" if was else "send the image as a sample instead"),
            present={
                "id": row.id,
                "state": row.state,
                "label": was,
                "by": row.decided_by,
                "sample": row.outcome,
            },
        )
    return row


def _confirm(
    connection: Connection, capture: Row[Any], added: Added, actor: str, known: Classes
) -> int:
    """A new sample's label is a reviewer's decision; returns the sample's revision. In `test` the
    blind queue still asks for it: this reviewer saw what production thinks."""
    if not added.new or added.split == Split.TEST:
        return added.revision
    row = connection.execute(select(sample_table).where(sample_table.c.id == added.id)).one()
    event_id, revision = new_id(), added.revision + 1
    standing = events.apply(Standing.of(row), Kind.CONFIRM, event_id=event_id)
    seen: dict[str, Any] = {"capture": capture.id, "why": capture.why}
    if capture.top:
        predicted, confidence = capture.top[0]
        seen |= {"version": capture.version, "predicted": known.names[predicted]}
        seen |= {"confidence": confidence}
    events.append(
        connection,
        row,
        Kind.CONFIRM,
        standing,
        revision,
        actor=actor,
        class_id=row.class_id,
        event_id=event_id,
        evidence=seen,
    )
    return revision


def _told(added: Added, revision: int) -> dict[str, Any]:
    shown = ("id", "label", "split", "new", "conflict")
    told = {key: value for key, value in asdict(added).items() if key in shown}
    return {**told, "split": str(added.split), "revision": revision}


def _file_name(row: Row[Any]) -> str:
    return f"capture-{row.id}.{row.format.lower()}"
