"""Images taken in by the many: checked side by side, written down in their order. One bad file
never stops the rest."""

import os
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from toploss import classes, duplicates, samples
from toploss.classes import Classes
from toploss.database import one_at_a_time
from toploss.errors import BadInput, Broken, Erased, ToplossError
from toploss.home import Home
from toploss.preprocess import SUFFIXES
from toploss.samples import Kept, OnConflict
from toploss.splits import EVERY, Split

SPLIT_NAMES = {split.value: split for split in Split} | {
    "training": Split.TRAIN,
    "val": Split.VALID,
    "validation": Split.VALID,
}
BATCH = 256  # images of one transaction: what a crash may leave to import again
BATCH_BYTES = 64 * 2**20  # of images that are in memory already


@dataclass(frozen=True, kw_only=True)
class Item:
    """An image to take in."""

    path: str  # as people are told where it was
    name: str  # of the file
    label: str
    among: tuple[Split, ...] = EVERY  # one, as the data came; else the hash decides
    read: Callable[[], bytes]  # raises BadInput, NotFound, or an OSError of a file
    held: int = 0  # bytes that it has in memory already


@dataclass
class Summary:
    """What became of the images."""

    added: int = 0
    known: int = 0  # their bytes were there already, conflicts among them
    conflicts: int = 0  # known, but given with another label
    refused: list[dict[str, str]] = field(default_factory=list)  # path, reason
    conflicting: list[dict[str, str]] = field(default_factory=list)  # path, id, given, label
    near_duplicates: int = 0  # added, each to the group of the sample it is nearest to
    quarantined: list[dict[str, str]] = field(default_factory=list)  # id, because
    notes: list[str] = field(default_factory=list)  # what may not have been meant

    def refuse(self, path: str, reason: str) -> None:
        self.refused.append({"path": path, "reason": reason})

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def take_in(
    home: Home,
    items: Iterable[Item],
    summary: Summary,
    *,
    actor: str,
    on_conflict: OnConflict = "keep",
    new_classes: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Check and keep images side by side, write them down batch by batch, in their order.

    Args:
        summary: is added to, and returned.
        new_classes: whether an image may bring its class along; else one of an unknown class is
            refused.
        progress: told how many are done.
    """
    done = 0
    duplicates.fill(home)
    with home.db.read() as connection:
        known = None if new_classes else classes.load(connection)
        gone = samples.erased(connection)
    with ThreadPoolExecutor(home.settings.thread_count) as pool:
        for batch, kept in _ahead(pool, partial(_keep, home, known, gone), items):
            _record(home, batch, list(kept), summary, on_conflict, new_classes, actor)
            done += len(batch)
            if progress:
                progress(done)
    return summary


def unread_suffix(suffix: str) -> str | None:
    """Why a file of this suffix is not taken for an image; None when it is."""
    if suffix.lower() in SUFFIXES:
        return None
    return f"{suffix or 'no suffix'} is not one of {', '.join(SUFFIXES)}"


def spelt(name: str | Path) -> str:
    """A file's name as text; of one that is no UTF-8 the odd bytes are spelt out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _ahead(
    pool: ThreadPoolExecutor, keep: Callable[[Item], Kept | str], items: Iterable[Item]
) -> Iterator[tuple[list[Item], Iterator[Kept | str]]]:
    """The batches with their images; while one is written down, the next is being kept."""
    started = None
    for batch in _batches(items):
        waiting, started = started, (batch, pool.map(keep, batch))
        if waiting:
            yield waiting
    if started:
        yield started


def _keep(home: Home, known: Classes | None, gone: Container[str], item: Item) -> Kept | str:
    """The checked image, or why it was refused; `known`: the only classes that it may have;
    `gone`: samples that were erased."""
    try:
        label = classes.checked(item.label)
        if known is not None:
            known.id_of(label)
        return samples.keep(home, item.read(), item.name, gone=gone)
    except Broken:
        raise  # the storage, not the file
    except (ToplossError, PermissionError, IsADirectoryError) as exc:
        return str(exc)


def _record(
    home: Home,
    batch: list[Item],
    kept: list[Kept | str],
    summary: Summary,
    on_conflict: OnConflict,
    new_classes: bool,
    actor: str,
) -> None:
    with home.db.write() as connection:
        one_at_a_time(connection)
        pairs = list(zip(batch, kept, strict=True))
        wanted = dict.fromkeys(item.label for item, image in pairs if isinstance(image, Kept))
        if new_classes:
            for label in wanted:
                classes.ensure(connection, label, actor)
        known = classes.load(connection)
        for item, image in pairs:
            if isinstance(image, str):
                summary.refuse(item.path, image)
                continue
            try:
                added = samples.record(
                    connection,
                    home,
                    image,
                    known.id_of(classes.checked(item.label)),
                    actor=actor,
                    among=item.among,
                    on_conflict=on_conflict,
                    known=known,
                )
            except (BadInput, Erased) as exc:
                summary.refuse(item.path, str(exc))
                continue
            summary.added += added.new
            summary.known += not added.new
            summary.near_duplicates += added.joined is not None
            summary.quarantined += [entry.as_json() for entry in added.quarantined]
            if added.conflict:
                summary.conflicts += 1
                summary.conflicting.append(
                    {"path": item.path, "id": added.id, "given": item.label, "label": added.label}
                )


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH or sum(one.held for one in batch) > BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch
