"""Images with labels: how they come in, and what is known of them."""

import time
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, func, select

from toploss import classes, decisions, schema, splits
from toploss.decisions import Kind, Standing, State
from toploss.errors import NotFound
from toploss.home import Home
from toploss.preprocess import ImageInfo, verify
from toploss.schema import facts, sample_events, samples, split_ledger
from toploss.splits import Split

OnConflict = Literal["keep", "new-label"]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An image that was checked and whose bytes lie in the storage."""

    id: str  # SHA-256 of the bytes, in hex
    info: ImageInfo
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


def keep(home: Home, data: bytes, name: str) -> Kept:
    """Check the image wholly and put its bytes into the storage. Threads may do it side by side.

    Raises:
        NotAnImage, UnsupportedType, TooLarge: nothing is stored.
    """
    info = verify(data, home.limits)
    return Kept(id=home.blobs.put_image(data), info=info, bytes=len(data), name=name)


def add(
    home: Home, data: bytes, label: str, *, name: str, actor: str, split: Split | None = None
) -> Added:
    """Take in one image under a label that must be one of the classes.

    Raises:
        NotAnImage, UnsupportedType, TooLarge, UnknownLabel: nothing is recorded.
    """
    with home.db.read() as connection:
        classes.load(connection).id_of(label)
    kept = keep(home, data, name)
    with home.db.write() as connection:
        class_id = classes.load(connection).id_of(label)
        return record(connection, home, kept, class_id, actor=actor, split=split)


def record(
    connection: Connection,
    home: Home,
    kept: Kept,
    class_id: int,
    *,
    actor: str,
    split: Split | None = None,
    on_conflict: OnConflict = "keep",
) -> Added:
    """Write a kept image down: a new sample with its split, or a known one's conflict.

    A label that the sample was given before is no news, and so no conflict: importing a folder
    again never takes back what a reviewer decided.

    Args:
        split: where the data came already split; else the hash decides.
        on_conflict: `keep` the label that the sample has, or take the `new-label`.
    """
    known = connection.execute(select(samples).where(samples.c.id == kept.id)).first()
    if known is None:
        return _insert(connection, home, kept, class_id, actor=actor, split=split)
    names = classes.load(connection).names
    standing, revision = Standing.of(known), known.revision
    conflict = class_id != known.class_id and not _given_before(connection, kept.id, class_id)
    if conflict and on_conflict == "new-label":
        standing = decisions.apply(standing, Kind.LABEL, class_id=class_id)
        revision += 1
        decisions.append(
            connection, known, Kind.LABEL, standing, revision, actor=actor, class_id=class_id
        )
    elif conflict and not _conflict_known(connection, kept.id, class_id):
        decisions.append(
            connection, known, Kind.CONFLICT, standing, revision, actor=actor, class_id=class_id
        )
    return Added(
        id=kept.id,
        label=names[standing.class_id],
        split=known.split,
        revision=revision,
        new=False,
        conflict=conflict,
    )


def find(connection: Connection, sample_id: str) -> Row[Any]:
    """The sample's row. Raises NotFound."""
    row = connection.execute(select(samples).where(samples.c.id == sample_id)).first()
    if row is None:
        raise NotFound(
            f"there is no sample {sample_id!r}; ids are the SHA-256 of the image's bytes, in hex"
        )
    return row


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
    *,
    actor: str,
    split: Split | None,
) -> Added:
    now = time.time()
    group = kept.id  # every sample is a group of its own until near-duplicates are looked for
    why = "given" if split else "hash"
    if split is None:
        shares, seed = fixed_split(connection, home)
        split = splits.assign(group, seed=seed, shares=shares)
    connection.execute(split_ledger.insert().values(group_id=group, split=split, why=why, at=now))
    standing = Standing(class_id=class_id, state=State.ACTIVE)
    connection.execute(
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
    )
    decisions.record_event(
        connection, kept.id, Kind.ADD, None, 1, actor=actor, class_id=class_id, at=now
    )
    label = classes.load(connection).names[class_id]
    return Added(id=kept.id, label=label, split=split, revision=1, new=True, conflict=False)


def _given_before(connection: Connection, sample_id: str, class_id: int) -> bool:
    return _has_event(connection, sample_id, class_id, (Kind.ADD, Kind.LABEL))


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
