"""Images of production that reviewers are to look at: kept, listed, forgotten.

A capture is no sample. Its bytes lie apart from those of samples, and it is gone after the days
that were set when it was kept. What callers claim of it (`toploss.feedback`) is noted beside it and
changes no label: only a reviewer makes a sample of it (`toploss.labelling`).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, func, or_, select, tuple_

from toploss import allowance, classes, ids, preprocess
from toploss.blobs import sha256
from toploss.classes import Classes
from toploss.errors import Broken, NotFound, NotKept
from toploss.home import Home
from toploss.preprocess import ImageInfo
from toploss.schema import capture_claims, captures, versions
from toploss.schema import samples as sample_table
from toploss.times import DAY_S

AT_ONCE = 100  # captures of one look at those that are over
BROKEN_OFF_S = 3_600.0  # whose keeping takes longer is kept by nobody any more

Which = Literal["waiting", "labelled", "discarded", "all"]


class Why(StrEnum):
    """Why an image was kept."""

    MARGIN = "margin"  # two classes were nearly as likely
    NOVELTY = "novelty"  # unlike the images that the model has learned from
    RANDOM = "random"  # by chance: what traffic looks like
    FEEDBACK = "feedback"  # it was sent with a claim


class State(StrEnum):
    WAITING = "waiting"  # for a reviewer
    LABELLED = "labelled"  # it is a sample now
    DISCARDED = "discarded"  # a reviewer has no use for it; the bytes are gone


@dataclass(frozen=True, kw_only=True)
class Shot:
    """An image that may be kept, with what was said of it."""

    id: str  # of the prediction
    data: bytes
    why: Why
    version: str | None = None  # that answered; None: nobody was asked
    top: tuple[tuple[int, float], ...] = ()  # places in its output, with their probabilities
    margin: float | None = None  # between the two likeliest, 0 to 1
    novelty: float | None = None


def path(capture_id: str) -> str:
    """Where a capture's bytes lie in the storage."""
    return f"captures/{capture_id}"


def keep(home: Home, shot: Shot) -> bool:
    """Keep an image; False where it is a sample or a capture already.

    The row is written before the bytes, so that nothing lies in the storage that does not end.

    Raises:
        NotAnImage, UnsupportedType, TooLarge.
        CapReached: as many were kept today as may be.
    """
    digest = sha256(shot.data)
    info = preprocess.inspect(shot.data, home.limits)
    _make_way(home, digest)
    with home.db.write() as connection:
        row = connection.execute(select(captures).where(captures.c.sha256 == digest)).first()
        if row is None:
            known = select(sample_table.c.seq).where(sample_table.c.id == digest)
            if connection.execute(known).first() is not None:
                return False
            if not _insert(connection, home, shot, digest, info):
                return False
            allowance.take(connection, home, sent=shot.why is Why.FEEDBACK)
        elif row.stored or row.state != State.WAITING:
            return False  # else whoever began to keep it has not come to the end
        capture_id = row.id if row else shot.id
    home.blobs.put(path(capture_id), shot.data)
    with home.db.write() as connection:
        this = (captures.c.id == capture_id) & (captures.c.state == State.WAITING)
        arrived = connection.execute(captures.update().where(this).values(stored=True)).rowcount
    if not arrived:  # it was erased meanwhile
        home.blobs.delete([path(capture_id)])
    return row is None


def listed(
    home: Home, which: Which, *, limit: int, after: tuple[bool, str] | None = None
) -> tuple[list[dict[str, Any]], int]:
    """A page, and how many there are in all. Those that somebody has claimed come first, since a
    person saw something in them; then the newest.

    Args:
        after: `claimed` and id of the last of the page before.
    """
    wanted = _stands(which)
    order = tuple_(captures.c.claimed, captures.c.id)
    query = select(captures).where(wanted).limit(limit)
    query = query.order_by(captures.c.claimed.desc(), captures.c.id.desc())
    if after is not None:
        query = query.where(order < tuple_(*after))
    with home.db.read() as connection:
        known = classes.load(connection)
        rows = connection.execute(query).all()
        total = connection.execute(select(func.count()).select_from(captures).where(wanted))
        return told(connection, rows, known), total.scalar_one()


def show(home: Home, capture_id: str) -> dict[str, Any]:
    """One capture. Raises NotFound."""
    with home.db.read() as connection:
        return told(connection, [find(connection, capture_id)], classes.load(connection))[0]


def find(connection: Connection, capture_id: str, *, alone: bool = False) -> Row[Any]:
    """A capture's row; `alone`: nobody else changes it before this transaction ends.

    Raises:
        NotFound: there is none, or its days are over.
    """
    query = select(captures).where((captures.c.id == capture_id) & _stands())
    row = None
    if ids.is_id(capture_id):
        row = connection.execute(query.with_for_update() if alone else query).first()
    if row is None:
        raise _missing(capture_id)
    return row


def image(home: Home, row: Row[Any]) -> bytes:
    """A capture's bytes.

    Raises:
        NotKept: it was discarded. Broken: they are gone or damaged.
    """
    if row.state == State.DISCARDED:
        raise NotKept(
            f"the image of capture {row.id} was deleted when {row.decided_by} discarded it"
        )
    if row.state == State.LABELLED:
        return home.blobs.get_image(row.sha256)
    data = home.blobs.get(path(row.id))
    if sha256(data) != row.sha256:
        raise Broken(f"the image of capture {row.id} is damaged in the storage; discard it")
    return data


def told(connection: Connection, rows: Sequence[Row[Any]], known: Classes) -> list[dict[str, Any]]:
    """Captures in words; times are seconds since 1970."""
    claims = last_claims(connection, [row.id for row in rows if row.claimed])
    return [
        {
            "id": row.id,
            "why": row.why,
            "state": row.state,
            "prediction": _prediction(row, known),
            "margin": row.margin,
            "novelty": row.novelty,
            "claimed": _said(claims.get(row.id), known),
            "decided": None
            if row.decided_by is None
            else {
                "label": known.names[row.class_id] if row.class_id else None,
                "by": row.decided_by,
                "at": row.decided_at,
            },
            "sample": row.sha256 if row.state == State.LABELLED else None,
            "at": row.at,
            "until": None if row.state == State.LABELLED else row.until,
            "width": row.width,
            "height": row.height,
            "format": row.format,
            "model": row.version,
        }
        for row in rows
    ]


def erase(home: Home, capture_id: str) -> str | None:
    """Delete a capture, whatever became of it: bytes, claims, and what was said of it. Returns the
    id of the sample that was made of it, which stays. Raises NotFound."""
    row = _remove(home, captures.c.id == capture_id) if ids.is_id(capture_id) else None
    if row is None:
        raise _missing(capture_id)
    return row.sha256 if row.outcome else None


def forget(home: Home, sample_id: str) -> None:
    """Delete what was captured of an image that is erased as a sample. Raises Broken."""
    _remove(home, captures.c.sha256 == sample_id, for_good=True)


def expire(home: Home, *, all_of_them: bool = False) -> int:
    """Delete the captures whose days are over, and bytes that a failure left behind; returns how
    many were deleted. Several processes may do it at once.

    Args:
        all_of_them: also those whose days are not over, of which no sample was made.

    Raises:
        Broken: the storage gave some of them not up; the others were deleted.
    """
    over = captures.c.stored | (captures.c.state != State.LABELLED)
    if not all_of_them:
        over &= captures.c.until <= time.time()
    removed, failed, more = 0, dict[str, Broken](), True
    while more and len(failed) < AT_ONCE:
        with home.db.read() as connection:
            query = select(captures).where(over & captures.c.id.not_in(failed))
            found = connection.execute(query.order_by(captures.c.until).limit(AT_ONCE)).all()
        for row in found:
            try:
                removed += _let_go(home, row, over)
            except Broken as exc:
                failed[row.id] = exc
        more = len(found) == AT_ONCE
    if failed:
        capture_id, last = failed.popitem()
        raise Broken(
            f"of {len(failed) + 1 + removed} captures {removed} were deleted; {capture_id}: {last}"
        ) from last
    return removed


def tidy(home: Home, *, older_s: float = BROKEN_OFF_S) -> None:
    """Delete the halves of images whose keeping was broken off.

    Args:
        older_s: those that were begun so long ago; a younger one may be going on.
    """
    home.blobs.delete_parts("captures", older_s=older_s)


def clear(home: Home, capture_id: str) -> None:
    """Delete the bytes of a capture that was decided. Raises Broken."""
    home.blobs.delete([path(capture_id)])
    with home.db.write() as connection:
        connection.execute(
            captures.update().where(captures.c.id == capture_id).values(stored=False)
        )


def waiting(home: Home) -> int:
    """How many wait for a reviewer."""
    query = select(func.count()).where(_stands("waiting"))
    with home.db.read() as connection:
        return int(connection.execute(query).scalar_one())


def last_claims(connection: Connection, capture_ids: list[str]) -> dict[str, Row[Any]]:
    """By the captures' ids: the last word on each."""
    of_these = capture_claims.c.capture_id.in_(capture_ids)
    last = select(func.max(capture_claims.c.seq)).where(of_these)
    last = last.group_by(capture_claims.c.capture_id)
    rows = connection.execute(select(capture_claims).where(capture_claims.c.seq.in_(last)))
    return {row.capture_id: row for row in rows}


def _stands(which: Which = "all") -> ColumnElement[bool]:
    """It can be looked at: its days are not over, and its bytes have come."""
    lasts = captures.c.until > time.time()
    conditions = {
        State.WAITING: (captures.c.state == State.WAITING) & captures.c.stored & lasts,
        State.LABELLED: captures.c.state == State.LABELLED,
        State.DISCARDED: (captures.c.state == State.DISCARDED) & lasts,
    }
    return or_(*conditions.values()) if which == "all" else conditions[State(which)]


def _insert(connection: Connection, home: Home, shot: Shot, digest: str, info: ImageInfo) -> bool:
    """False: another process was faster."""
    now = time.time()
    values = {
        "id": shot.id,
        "sha256": digest,
        "why": shot.why.value,
        "version": shot.version,
        "top": _by_class(connection, shot),
        "margin": shot.margin,
        "novelty": shot.novelty,
        "format": info.format,
        "width": info.width,
        "height": info.height,
        "claimed": False,
        "state": State.WAITING.value,
        "stored": False,
        "at": now,
        "until": now + home.settings.capture_keep_days * DAY_S,
    }
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]  # its twin
    query = insert(captures).values(values).on_conflict_do_nothing().returning(captures.c.id)
    return connection.execute(query).first() is not None


def _by_class(connection: Connection, shot: Shot) -> list[tuple[int, float]]:
    if shot.version is None:
        return []
    query = select(versions.c.class_ids).where(versions.c.name == shot.version)
    class_ids = connection.execute(query).scalar_one()
    return [(class_ids[place], confidence) for place, confidence in shot.top]


def _make_way(home: Home, digest: str) -> None:
    """What is over stands in no newcomer's way, also where nobody swept."""
    over = (captures.c.state != State.LABELLED) & (captures.c.until <= time.time())
    this = (captures.c.sha256 == digest) & over
    with home.db.read() as connection:
        there = connection.execute(select(captures.c.id).where(this)).first() is not None
    if there:
        _remove(home, this)


def _said(claim: Row[Any] | None, known: Classes) -> dict[str, Any] | None:
    if claim is None:
        return None
    return {"label": known.names[claim.class_id], "by": claim.actor, "at": claim.at}


def _prediction(row: Row[Any], known: Classes) -> dict[str, Any] | None:
    top = [{"label": known.names[class_id], "confidence": share} for class_id, share in row.top]
    return {**top[0], "top": top} if top else None


def _missing(capture_id: str) -> NotFound:
    return NotFound(
        f"there is no capture {capture_id!r}, or its days are over; GET /v1/captures lists them"
    )


def _let_go(home: Home, row: Row[Any], over: ColumnElement[bool]) -> bool:
    """One that is over; a labelled one stays, without its bytes. Whether it was deleted."""
    if row.state == State.LABELLED:
        clear(home, row.id)
        return False
    unlabelled = captures.c.state != State.LABELLED  # also by now
    return _remove(home, over & unlabelled & (captures.c.id == row.id)) is not None


def _remove(home: Home, which: ColumnElement[bool], *, for_good: bool = False) -> Row[Any] | None:
    """Delete one capture; returns it as it was. Its days end first, so that nobody sees it and the
    sweep finds again what fails in between; the bytes go while no lock is held; then the row."""
    with home.db.write() as connection:
        row = connection.execute(select(captures).where(which).with_for_update()).first()
        if row is None:
            return None
        this = captures.c.id == row.id
        ended = {"state": State.DISCARDED.value, "until": 0.0}
        connection.execute(captures.update().where(this).values(ended))
    (home.blobs.forget if for_good else home.blobs.delete)([path(row.id)])
    with home.db.write() as connection:
        connection.execute(capture_claims.delete().where(capture_claims.c.capture_id == row.id))
        return row if connection.execute(captures.delete().where(this)).rowcount else None
