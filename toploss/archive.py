"""A zip or tar of images, from anybody: read in place, never unpacked to disk.

What would escape (absolute names, `..`), links and devices are refused one by one; an archive that
is not whole, or that holds more than may be taken, is refused before anything of it is taken in.
(Fifield, "A better zip bomb", 2019: entries may share their bytes, so what counts is the sum of
what comes out.)
"""

import bz2
import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO, cast

from toploss.errors import BadInput, TooLarge, UnsupportedType
from toploss.intake import SPLIT_NAMES, Item, Summary, unread_suffix
from toploss.splits import EVERY, Split

MOST_ENTRIES = 100_000
LARGEST_INDEX = 16 * 2**20  # bytes of a zip's directory, all of which is read into memory
LARGEST_EXTENSION = 64 * 1024  # bytes of what a tar says of an entry beside its header
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack more than is asked for
DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, ValueError, zlib.error),
    *(NotImplementedError, RuntimeError, UnicodeError, IndexError, KeyError),
)
ENCRYPTED = 0x1  # of a zip entry's flags
READS_BEHIND = 64  # the end of a tar, of which a sound one has one or two
WHOLE = "make the archive anew"


def items(file: BinaryIO, *, most: int, largest: int, summary: Summary) -> Iterator[Item]:
    """The images of `<class>/<file>`, or `train|valid|test/<class>/<file>`, at any depth below the
    class. What is not taken is told in the summary.

    Args:
        file: that can be sought in, and stays open while the items are read.
        most: bytes of all that comes out of the archive.
        largest: bytes of one image.

    Raises:
        UnsupportedType: neither zip nor tar, plain or by gzip or bzip2.
        BadInput: it is not whole. TooLarge: it holds more than `most`. Nothing was yielded then.
    """
    head = file.read(512)
    file.seek(0)
    if head.startswith(b"PK"):
        return _in_zip(file, most, largest, summary)
    for magic, unpacked in _PACKED.items():
        if head.startswith(magic):
            return _in_tar(partial(_again, file, unpacked), most, largest, summary)
    if head[257:262] == b"ustar":
        return _in_tar(partial(_again, file, lambda plain: plain), most, largest, summary)
    raise UnsupportedType(
        f"the bytes starting {head[:8]!r} are no archive that is read; send a zip, or a tar, plain "
        "or packed by gzip or bzip2"
    )


_PACKED: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file, mode="rb"),
    b"BZh": lambda file: bz2.BZ2File(file),
}


def _again(file: BinaryIO, unpacked: Callable[[BinaryIO], BinaryIO]) -> BinaryIO:
    """What comes out of a file, from its start."""
    file.seek(0)
    return unpacked(file)


def _in_zip(file: BinaryIO, most: int, largest: int, summary: Summary) -> Iterator[Item]:
    archive = _opened_zip(file)
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise TooLarge(_many(f"{len(entries):,}"))
    # No more comes out of an entry than it says of itself.
    if (together := sum(entry.file_size for entry in entries)) > most:
        raise TooLarge(_told(f"{together:,}", most))
    taken = []
    for entry in entries:
        mode = entry.external_attr >> 16
        odd = stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)
        if not entry.is_dir() and (place := _place(entry.filename, odd, summary)):
            taken.append((place, entry))
    # As from a folder: train's first, for what comes first decides where the same bytes belong.
    order = [None, *Split]
    taken.sort(key=lambda pair: (order.index(pair[0][1]), pair[1].filename))
    return (
        _item(entry.filename, place, partial(_of_zip, archive, entry, largest))
        for place, entry in taken
    )


def _opened_zip(file: BinaryIO) -> zipfile.ZipFile:
    try:
        end = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # before all of it is read
        if end and end[zipfile._ECD_SIZE] > LARGEST_INDEX:  # type: ignore[attr-defined]
            raise TooLarge(
                f"the directory of the zip has {end[zipfile._ECD_SIZE]:,} bytes, of "  # type: ignore[attr-defined]
                f"{LARGEST_INDEX:,} taken; send it in parts"
            )
        return zipfile.ZipFile(file)
    except DAMAGED as exc:
        raise BadInput(f"the zip is damaged ({exc}); {WHOLE}") from exc


def _of_zip(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, largest: int) -> bytes:
    if entry.file_size > largest:
        raise TooLarge(_image_too_large(largest))
    if entry.compress_type not in METHODS:
        raise BadInput("it is packed by a method that is not read; make the zip with deflate")
    if entry.flag_bits & ENCRYPTED:
        raise BadInput("it is encrypted; make the zip without a password")
    try:
        with archive.open(entry) as image:
            return image.read(entry.file_size + 1)
    except DAMAGED as exc:
        raise BadInput(f"it cannot be unpacked ({exc}); {WHOLE}") from exc


def _in_tar(
    unpacked: Callable[[], BinaryIO], most: int, largest: int, summary: Summary
) -> Iterator[Item]:
    """Read twice: a tar tells what it holds only to whoever has read all of it."""
    end = 0
    with _damage_told():
        for number, (archive, _) in enumerate(_entries(unpacked, most), start=1):
            if number > MOST_ENTRIES:
                raise TooLarge(_many(f"over {MOST_ENTRIES:,}"))
            end = archive.offset  # where the next entry starts
        stream = unpacked()
        stream.seek(end)
        if any(stream.read(tarfile.BLOCKSIZE)):  # which `tarfile` takes for the end without a word
            raise BadInput(f"the tar is damaged (no entry starts at byte {end:,}); {WHOLE}")
    return _of_tar(unpacked, most, largest, summary)


def _of_tar(
    unpacked: Callable[[], BinaryIO], most: int, largest: int, summary: Summary
) -> Iterator[Item]:
    for archive, entry in _entries(unpacked, most):
        if entry.isdir():
            continue
        odd = not entry.isreg() or entry.type == tarfile.GNUTYPE_SPARSE
        place = _place(entry.name, odd, summary)
        if place is None:
            continue
        if entry.size > largest:
            summary.refuse(_shown(entry.name), _image_too_large(largest))
            continue
        with _damage_told():
            image = archive.extractfile(entry)
            assert image is not None, "it is a file"
            data = image.read(entry.size)
        yield _item(entry.name, place, partial(bytes, data), held=len(data))


def _entries(
    unpacked: Callable[[], BinaryIO], most: int
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    with _damage_told():
        bounded = cast("IO[bytes]", _Bounded(unpacked(), most))
        with tarfile.open(fileobj=bounded, mode="r|", tarinfo=_Entry) as archive:
            for entry in archive:
                if entry.size < 0:
                    raise BadInput(f"the tar is damaged (a size of {entry.size}); {WHOLE}")
                yield archive, entry
                archive.members = []  # type: ignore[attr-defined]  # kept for who looks back


@contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except DAMAGED as exc:
        raise BadInput(f"the tar is damaged ({exc}); {WHOLE}") from exc


class _Entry(tarfile.TarInfo):
    """An entry whose extended headers are read by us: `tarfile` takes them at any size, in some
    Pythons in a time that grows with its square (CVE-2024-6232)."""

    def _proc_pax(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """Of all that may stand there, the name alone."""
        said = _records(self._extension(archive))
        try:
            entry = self.fromtarfile(archive)
        except tarfile.HeaderError as exc:
            raise tarfile.ReadError(f"nothing comes after an extended header: {exc}") from exc
        if b"size" in said:
            raise tarfile.ReadError("an entry of 8 GiB or more")
        if self.type != tarfile.XGLTYPE and (name := said.get(b"path")):
            entry.name = name.decode("utf-8", "backslashreplace")
        return entry

    def _proc_gnulong(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        self._extension_fits()
        entry: tarfile.TarInfo = super()._proc_gnulong(archive)  # type: ignore[misc]
        return entry

    def _proc_sparse(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """As any other: it is refused, and what it says of its holes is not believed."""
        entry: tarfile.TarInfo = self._proc_builtin(archive)  # type: ignore[attr-defined]
        return entry

    def _extension(self, archive: tarfile.TarFile) -> bytes:
        self._extension_fits()
        padded: bytes = archive.fileobj.read(self._block(self.size))  # type: ignore[attr-defined]
        return padded[: self.size]

    def _extension_fits(self) -> None:
        if not 0 <= self.size <= LARGEST_EXTENSION:
            raise tarfile.ReadError(f"an extended header of {self.size:,} bytes")


def _records(data: bytes) -> dict[bytes, bytes]:
    """`<length> <key>=<value>` and a line's end, one after the other (POSIX.1-2001, pax)."""
    found, at = {}, 0
    while at < len(data):
        digits, _, _ = data[at : at + 8].partition(b" ")
        if not digits.isdigit() or not 0 < int(digits) <= len(data) - at:
            raise tarfile.ReadError("an extended header that is none")
        key, _, value = data[at + len(digits) + 1 : at + int(digits) - 1].partition(b"=")
        found[key] = value
        at += int(digits)
    return found


class _Bounded:
    """A stream that ends in TooLarge when more came out of it than may, and in EOFError for who
    goes on reading behind its end: `tarfile` would, to wherever a header sends it."""

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self._stream, self._most, self._left = stream, most, most
        self._behind = 0  # reads that gave nothing

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        self._behind += not data
        if self._behind > READS_BEHIND:
            raise EOFError("it ends before its last entry does")
        if self._left < 0:
            raise TooLarge(_told(f"more than {self._most:,}", self._most))
        return data


def _place(name: str, odd: bool, summary: Summary) -> tuple[str, Split | None] | None:
    """The class and split that a name in the archive says; None: it is left out."""
    path = PurePosixPath(name)
    parts = path.parts
    drive = any(part.endswith(":") for part in parts[:1])
    if path.is_absolute() or ".." in parts or drive or "\\" in name or "\0" in name:
        summary.refuse(_shown(name), "its name leads out of the archive; send <class>/<file>")
        return None
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return None
    if odd:
        summary.refuse(_shown(name), "it is no file, but a link or a device; send the file itself")
        return None
    split = SPLIT_NAMES.get(parts[0].lower()) if len(parts) > 2 else None
    inner = parts[1:] if split else parts
    if len(inner) < 2:
        summary.refuse(_shown(name), "it lies in no class folder; send <class>/<file>")
        return None
    if reason := unread_suffix(path.suffix):
        summary.refuse(_shown(name), reason)
        return None
    return inner[0], split


def _item(
    name: str, place: tuple[str, Split | None], read: Callable[[], bytes], held: int = 0
) -> Item:
    label, split = place
    return Item(
        path=_shown(name),
        name=PurePosixPath(name).name,
        label=label,
        among=(split,) if split else EVERY,
        read=read,
        held=held,
    )


def _shown(name: str) -> str:
    """On one line, and not longer than one."""
    return "".join(filter(str.isprintable, name))[:255]


def _image_too_large(largest: int) -> str:
    return (
        f"the file has more than the {largest:,} bytes allowed; shrink it or raise "
        "TOPLOSS_MAX_BYTES"
    )


def _told(found: str, most: int) -> str:
    return (
        f"{found} bytes come out of the archive, of {most:,} taken; send it in parts, or raise "
        "TOPLOSS_MAX_ARCHIVE"
    )


def _many(found: str) -> str:
    return f"the archive has {found} entries, of {MOST_ENTRIES:,} taken; send it in parts"
