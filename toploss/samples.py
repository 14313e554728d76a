"""Images with labels: how they come in, and what is known of them."""

import time
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, func, select

from toploss import (
    classes,
    duplicates,
    events,
    holdout,
    likeness,
    preprocess,
    quarantine,
    schema,
    splits,
)
from toploss.blobs import image_path, sha256
from toploss.classes import Classes
from toploss.database import one_at_a_time
from toploss.errors import NotFound
from toploss.events import Kind, Standing, State
from toploss.home import Home
from toploss.likeness import Likeness
from toploss.preprocess import ImageInfo
from toploss.quarantine import Quarantined
from toploss.schema import erasures, facts, sample_events, samples, split_ledger
from toploss.splits import EVERY, Split

OnConflict = Literal["keep", "new-label"]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An image that was checked; its bytes lie in the storage by the time that it is recorded."""

    id: str  # SHA-256 of the bytes, in hex
    info: ImageInfo
    likeness: Likeness
    bytes: int
    name: str  # the file's name as it came


@dataclass(frozen=True, kw_only=True)
class Added:
    """What became of an image that came in."""

    id: str
    label: str  # today's
    split: str
    revision: int
    new: bool  # False: its bytes were known
    conflict: bool  # it came with another label than it has
    joined: str | None = None  # the near-duplicate whose group, and so whose split, it has
    quarantined: tuple[Quarantined, ...] = ()  # kept out of training because it came


def keep(home: Home, data: bytes, name: str, *, gone: Container[str] = ()) -> Kept:
    """Check the image wholly and put its bytes into the storage. Threads may do it side by side.

    Args:
        gone: ids of samples that were erased (`toploss.erasure`).

    Raises:
        NotAnImage, UnsupportedType, TooLarge, Erased: nothing is stored.
    """
    if gone and (digest := sha256(data)) in gone:
        raise events.erased(digest)
    info, picture = preprocess.read(data, home.limits)
    like, digest = likeness.of(picture), home.blobs.put_image(data)
    return Kept(id=digest, info=info, likeness=like, bytes=len(data), name=name)


def add(
    home: Home, data: bytes, label: str, *, name: str, actor: str, split: Split | None = None
) -> Added:
    """Take in one image under a label that must be one of the classes.

    Raises:
        NotAnImage, UnsupportedType, TooLarge, UnknownLabel, Erased: nothing is recorded.
    """
    with home.db.read() as connection:
        classes.load(connection).id_of(label)
        gone = erased(connection)
    kept = keep(home, data, name, gone=gone)
    with home.db.write() as connection:
        one_at_a_time(connection)
        known = classes.load(connection)
        return record(
            connection,
            home,
            kept,
            known.id_of(label),
            actor=actor,
            among=(split,) if split else EVERY,
            known=known,
        )


def record(
    connection: Connection,
    home: Home,
    kept: Kept,
    class_id: int,
    *,
    actor: str,
    among: tuple[Split, ...] = EVERY,
    chosen: bool = False,
    on_conflict: OnConflict = "keep",
    known: Classes | None = None,
) -> Added:
    """Write a kept image down: a new sample with its split, or a known one's conflict.

    A near-duplicate joins the group of the sample it is nearest to. See `toploss.quarantine` for
    what comes of one that stands between the splits.

    A label that the sample was given before is no news, and so no conflict: importing a folder
    again never takes back what a reviewer decided.

    Args:
        among: the splits that it may be of: one, where the data came already split; else the hash
            decides.
        chosen: a model had a say in that it came, so it opens no group of `test`.
        on_conflict: `keep` the label that the sample has, or take the `new-label`.
        known: the classes as this transaction sees them, for who has loaded them.

    Raises:
        Erased: nothing is written, and the bytes are gone again.
    """
    one_at_a_time(connection)
    known = known or classes.load(connection)
    row = connection.execute(select(samples).where(samples.c.id == kept.id)).first()
    if row is None:
        return _insert(
            connection, home, kept, class_id, known, actor=actor, among=among, chosen=chosen
        )
    if row.state == State.ERASED:
        home.blobs.forget([image_path(kept.id)])
        raise events.erased(kept.id)
    standing, revision = Standing.of(row), row.revision
    conflict = class_id != row.class_id and not _given_before(connection, kept.id, class_id)
    if conflict and on_conflict == "new-label":
        standing = events.apply(standing, Kind.LABEL, class_id=class_id)
        revision += 1
        events.append(
            connection, row, Kind.LABEL, standing, revision, actor=actor, class_id=class_id
        )
    elif conflict:
        _note_conflict(connection, row, class_id, actor=actor, name=kept.name)
    return Added(
        id=kept.id,
        label=known.names[standing.class_id],
        split=row.split,
        revision=revision,
        new=False,
        conflict=conflict,
    )


def contradict(
    connection: Connection, row: Row[Any], class_id: int, *, actor: str, name: str
) -> bool:
    """Somebody says that a sample is of another class. It keeps its own, and the conflict is
    recorded; False where that is no news. Raises Erased."""
    one_at_a_time(connection)
    events.refuse_erased(row)
    if class_id == row.class_id or _given_before(connection, row.id, class_id):
        return False
    return _note_conflict(connection, row, class_id, actor=actor, name=name)


def find(connection: Connection, sample_id: str) -> Row[Any]:
    """The sample's row. Raises NotFound."""
    row = connection.execute(select(samples).where(samples.c.id == sample_id)).first()
    if row is None:
        raise NotFound(
            f"there is no sample {sample_id!r}; ids are the SHA-256 of the image's bytes, in hex"
        )
    return row


def erased(connection: Connection) -> frozenset[str]:
    """The ids of all samples that were erased."""
    query = select(samples.c.id).join(erasures, erasures.c.sample_seq == samples.c.seq)
    return frozenset(connection.execute(query).scalars())


def present(home: Home) -> set[Split]:
    """The splits that have a sample, whatever became of it."""
    with home.db.read() as connection:
        return {Split(name) for name in connection.scalars(select(samples.c.split).distinct())}


def fixed_split(connection: Connection, home: Home) -> tuple[str, int]:
    """Shares and seed of the split: those of the first import, whatever the settings say since."""
    wanted = {"split": home.settings.split, "split_seed": str(home.settings.split_seed)}
    stored = {row.key: row.value for row in connection.execute(select(facts))}
    for key, value in wanted.items():
        if key not in stored:
            connection.execute(facts.insert().values(key=key, value=value))
    fixed = wanted | stored
    return fixed["split"], int(fixed["split_seed"])


def _insert(
    connection: Connection,
    home: Home,
    kept: Kept,
    class_id: int,
    known: Classes,
    *,
    actor: str,
    among: tuple[Split, ...],
    chosen: bool,
) -> Added:
    now = time.time()
    found = duplicates.near(connection, kept.likeness)
    joined = duplicates.to_join(found, among)
    if joined:
        group, split = joined.group, joined.split
    else:
        group = kept.id
        among = (Split.TRAIN, Split.VALID) if chosen else among
        split = _open_group(connection, home, group, among, now)
    standing = Standing(class_id=class_id, state=State.ACTIVE)
    written = connection.execute(
        samples.insert().values(
            id=kept.id,
            group_id=group,
            split=split,
            **standing.columns(),
            revision=1,
            changed=True,
            format=kept.info.format,
            width=kept.info.width,
            height=kept.info.height,
            bytes=kept.bytes,
            name=kept.name,
            added_at=now,
        )
    ).inserted_primary_key
    assert written is not None
    duplicates.keep(connection, written[0], kept.likeness)
    if split == Split.TEST:
        holdout.add(connection, written[0], kept.id, fixed_split(connection, home)[1])
    leaking = quarantine.leaking(kept.id, split, found)
    quarantine.put(connection, leaking)
    events.record_event(
        connection, kept.id, Kind.ADD, None, 1, actor=actor, class_id=class_id, at=now
    )
    return Added(
        id=kept.id,
        label=known.names[class_id],
        split=split,
        revision=1,
        new=True,
        conflict=False,
        joined=joined.id if joined else None,
        quarantined=leaking,
    )


def _open_group(
    connection: Connection,
    home: Home,
    group: str,
    among: tuple[Split, ...],
    now: float,
) -> Split:
    """Open a group, and say once for all in which split it is."""
    shares, seed = fixed_split(connection, home)
    split = splits.assign(group, seed=seed, shares=shares, among=among)
    why = "given" if len(among) == 1 else "hash"
    connection.execute(split_ledger.insert().values(group_id=group, split=split, why=why, at=now))
    return split


def _given_before(connection: Connection, sample_id: str, class_id: int) -> bool:
    return _has_event(connection, sample_id, class_id, (Kind.ADD, Kind.LABEL))


def _note_conflict(
    connection: Connection, row: Row[Any], class_id: int, *, actor: str, name: str
) -> bool:
    if _conflict_known(connection, row.id, class_id):
        return False
    events.append(
        connection,
        row,
        Kind.CONFLICT,
        Standing.of(row),
        row.revision,
        actor=actor,
        class_id=class_id,
        evidence={"name": name},
    )
    return True


def _conflict_known(connection: Connection, sample_id: str, class_id: int) -> bool:
    return _has_event(connection, sample_id, class_id, (Kind.CONFLICT,))


def _has_event(
    connection: Connection, sample_id: str, class_id: int, kinds: tuple[Kind, ...]
) -> bool:
    # An event speaks of the class as it was then; one merged since is today's.
    named = schema.classes.c
    query = (
        select(sample_events.c.seq)
        .join(schema.classes, named.id == sample_events.c.class_id)
        .where(
            (sample_events.c.sample_id == sample_id)
            & (func.coalesce(named.merged_into, named.id) == class_id)
            & sample_events.c.kind.in_(kinds)
        )
    )
    return connection.execute(query.limit(1)).first() is not None
