"""The file of a snapshot: one line a sample, sorted by id. It is written and read line by line, and
a single sample is found in it without reading the rest: ids are hashes, so where one must stand can
be reckoned. Equal data give equal bytes.
"""

import csv
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from sys import intern

from toploss.errors import Broken
from toploss.home import Home

COLUMNS = ("id", "label", "split", "group")
HEAD = b"id,label,split,group\n"
# Bytes read at a time. Hashes are spread so evenly that the place of one among a million is
# reckoned to some tens of thousands of bytes: one such part nearly always has it.
WINDOW = 256 * 1024
FEW = 100  # samples that are looked for one by one; for more the file is read
ID = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One sample of a snapshot."""

    id: str
    label: str
    split: str
    group: str


def write(rows: Iterable[Row], file: Path) -> str:
    """Write the file; returns its SHA-256, which is the snapshot's fingerprint."""
    digest = hashlib.sha256()
    with file.open("wb") as out:
        writer = csv.writer(Sink(out.write, digest.update), lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((row.id, row.label, row.split, row.group) for row in rows)
    return digest.hexdigest()


class Sink:
    """What a CSV writer writes to: bytes go to the file and into its hash."""

    def __init__(self, *takers: Callable[[bytes], object]) -> None:
        self._takers = takers

    def write(self, line: str) -> None:
        data = line.encode()
        for take in self._takers:
            take(data)


def scan(home: Home, path: str, fingerprint: str) -> Iterator[Row]:
    """Every row in the order of ids. Raises Broken when the file is gone, or at its end when it is
    damaged: what was made of its rows is worth nothing then."""
    digest = hashlib.sha256()
    try:
        lines = csv.reader(_lines(home.blobs.pieces(path), digest.update))
        next(lines, None)
        for sample, label, split, group in lines:
            # Most samples are their group, and labels are few: one string for each.
            yield Row(
                id=sample,
                label=intern(label),
                split=intern(split),
                group=sample if group == sample else group,
            )
    except (ValueError, csv.Error) as exc:
        raise _damaged(path) from exc
    if digest.hexdigest() != fingerprint:
        raise _damaged(path)


def not_of_test(
    home: Home, path: str, fingerprint: str, ids: Collection[str], groups: Collection[str]
) -> Iterator[Row]:
    """The samples of train and valid that are among `ids`, or in one of `groups`. It reads all of
    the file and keeps nothing of it. Raises Broken as `scan`."""
    wanted, theirs = {one.encode() for one in ids}, {one.encode() for one in groups}
    digest = hashlib.sha256()
    for line in _binary_lines(home.blobs.pieces(path)):
        digest.update(line)
        # A line ends with the split and the group, a hash.
        met = line[:64] in wanted or line[-65:-1] in theirs
        if met and not line[:-66].endswith(b",test"):
            yield _row(path, line)
    if digest.hexdigest() != fingerprint:
        raise _damaged(path)


def find(home: Home, path: str, sample_id: str) -> Row | None:
    """A sample's row; None: it is not in the snapshot. The file's hash is not checked.

    Raises:
        Broken: the file is gone or makes no sense.
    """
    if not ID.fullmatch(sample_id):
        return None
    _, part = _around(home, path, sample_id.encode())
    start = 0 if part.startswith(sample_id.encode()) else part.find(f"\n{sample_id},".encode()) + 1
    line = part[start:].partition(b"\n")[0]
    return _row(path, line) if line.startswith(sample_id.encode()) else None


def listed(home: Home, path: str, *, after: str | None = None, limit: int) -> list[Row]:
    """Rows in the order of ids, those behind `after`. Raises Broken."""
    at, part = (len(HEAD), b"") if after is None else _around(home, path, after.encode())
    at, rows = at + len(part), _whole(path, part, after)
    end = home.blobs.size(path)
    rest = b"" if part.endswith(b"\n") else part.rpartition(b"\n")[2]
    while len(rows) < limit and at < end:
        piece = rest + home.blobs.part(path, at, min(at + WINDOW, end))
        at, rest = min(at + WINDOW, end), piece.rpartition(b"\n")[2]
        rows += _whole(path, piece, after)
    return rows[:limit]


def among(home: Home, path: str, ids: Collection[str]) -> set[str]:
    """Which of these samples are in the snapshot. Raises Broken."""
    if len(ids) <= FEW:
        return {one for one in ids if find(home, path, one) is not None}
    wanted = {one.encode() for one in ids}
    lines = _binary_lines(home.blobs.pieces(path))
    return {line[:64].decode() for line in lines if line[:64] in wanted}


def _around(home: Home, path: str, wanted: bytes) -> tuple[int, bytes]:
    """A part of the file that begins with a line, and its place: the first line that is not before
    `wanted` begins in it, or right behind it."""
    low, high = len(HEAD), home.blobs.size(path)
    lowest, highest = 0.0, 1.0  # what the ids at these two are, of all hashes
    share = int(wanted[:12], 16) / 16**12
    halve = False
    while high - low > WINDOW:
        within = (share - lowest) / (highest - lowest) if highest > lowest else 0.5
        middle = low + int((0.5 if halve else within) * (high - low))
        halve = not halve  # were they no hashes, it would still come to an end
        at = min(max(low, middle - WINDOW // 2), high - WINDOW)
        part = home.blobs.part(path, at, at + WINDOW)
        start = 0 if at == low else part.find(b"\n") + 1
        last = part.rfind(b"\n", 0, part.rfind(b"\n")) + 1
        if last <= start:
            raise _damaged(path)
        if part[start : start + 64] > wanted and at != low:
            high, highest = at + start, _share(path, part[start:])
        elif part[last : last + 64] < wanted and at + WINDOW < high:
            low, lowest = at + last, _share(path, part[last:])
        else:
            return at + start, part[start:]
    return low, home.blobs.part(path, low, high)


def _share(path: str, line: bytes) -> float:
    try:
        return int(line[:12], 16) / 16**12
    except ValueError as exc:
        raise _damaged(path) from exc


def _whole(path: str, part: bytes, after: str | None) -> list[Row]:
    """The rows of a part's whole lines."""
    least = (after or "").encode()
    lines = part.split(b"\n")[:-1]
    return [_row(path, line) for line in lines if line[:64] > least]


def _row(path: str, line: bytes) -> Row:
    try:
        ((sample, label, split, group),) = csv.reader([line.decode()])
    except (ValueError, csv.Error) as exc:
        raise _damaged(path) from exc
    return Row(id=sample, label=label, split=split, group=group)


def _lines(pieces: Iterable[bytes], heard: Callable[[bytes], object]) -> Iterator[str]:
    for line in _binary_lines(pieces):
        heard(line)
        yield line.decode()


def _binary_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _damaged(path: str) -> Broken:
    return Broken(f"{path} in the storage is damaged; restore it from a back-up")
