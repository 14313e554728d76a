"""What callers say that an image of production shows: claims, which no training ever sees."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select

from toploss import classes, samples
from toploss.blobs import sha256
from toploss.captures import State, last_claims
from toploss.database import one_at_a_time
from toploss.errors import BadInput, NotKept
from toploss.home import Home
from toploss.schema import capture_claims, captures
from toploss.schema import samples as sample_table

MOST = 20  # claims of one caller on one capture
NOT_KEPT = (
    "the image of that prediction was not kept, and answers are not remembered; "
    "send the image along, in a form with `image` and `label`"
)


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """What became of a claim."""

    id: str | None  # of the capture; None: there is none, the image is a sample
    state: str  # of the capture; `sample` without one
    label: str  # as claimed, by today's name
    new: bool  # False: the same caller had said so last


def claim(
    home: Home,
    label: str,
    *,
    actor: str,
    capture_id: str | None = None,
    data: bytes | None = None,
) -> Claimed:
    """Note what somebody says that an image is, by the prediction's id, its bytes, or both. It
    changes no label. Of a sample it is recorded as a conflict, where it differs.

    Raises:
        UnknownLabel.
        NotKept: there is no such image here.
        BadInput: the bytes are others than those of the prediction.
    """
    digest = None if data is None else sha256(data)
    with home.db.write() as connection:
        known = classes.load(connection)
        class_id = known.id_of(label)
        row = _meant(connection, capture_id, digest)
        new = False
        if row is None or row.state == State.LABELLED:
            sample = _sample(connection, row.sha256 if row else digest)
            if sample is None:
                raise NotKept(NOT_KEPT)
            new = samples.contradict(connection, sample, class_id, actor=actor, name="feedback")
        if row is not None:
            new = _note(connection, row, class_id, actor)
        return Claimed(
            id=row.id if row else None,
            state=row.state if row else "sample",
            label=known.names[class_id],
            new=new,
        )


def _meant(connection: Connection, capture_id: str | None, digest: str | None) -> Row[Any] | None:
    """The capture that a caller speaks of."""
    alive = _alive()
    if capture_id is not None:
        query = select(captures).where((captures.c.id == capture_id) & alive)
        row = connection.execute(query).first()
        if row is not None and digest not in (None, row.sha256):
            raise BadInput(
                f"the image is not the one of prediction {capture_id}; send that one, or leave "
                "`prediction_id` out"
            )
        if row is not None:
            return row
    if digest is None:
        return None
    return connection.execute(select(captures).where((captures.c.sha256 == digest) & alive)).first()


def _sample(connection: Connection, digest: str | None) -> Row[Any] | None:
    """A sample that nobody else changes before this transaction ends. Its lock comes before that
    of a capture, here as in `labelling`: so that no two wait for each other."""
    one_at_a_time(connection)
    return connection.execute(select(sample_table).where(sample_table.c.id == digest)).first()


def _alive() -> ColumnElement[bool]:
    return (captures.c.state == State.LABELLED) | (captures.c.until > time.time())


def _note(connection: Connection, row: Row[Any], class_id: int, actor: str) -> bool:
    """Write a claim down. Raises NotKept: the capture was deleted since it was read."""
    this = select(captures.c.id).where((captures.c.id == row.id) & _alive())
    if connection.execute(this.with_for_update()).first() is None:
        raise NotKept(NOT_KEPT)
    last = last_claims(connection, [row.id]).get(row.id)
    if last is not None and (last.class_id, last.actor) == (class_id, actor):
        return False
    _make_room(connection, row.id, actor)
    connection.execute(
        capture_claims.insert().values(
            capture_id=row.id, class_id=class_id, actor=actor, at=time.time()
        )
    )
    connection.execute(captures.update().where(captures.c.id == row.id).values(claimed=True))
    return True


def _make_room(connection: Connection, capture_id: str, actor: str) -> None:
    """Past the most that a caller may say of a capture, his last word goes for the new one."""
    his = (capture_claims.c.capture_id == capture_id) & (capture_claims.c.actor == actor)
    query = select(func.count(), func.max(capture_claims.c.seq)).where(his)
    said, last = connection.execute(query).one()
    if said >= MOST:
        connection.execute(capture_claims.delete().where(capture_claims.c.seq == last))
