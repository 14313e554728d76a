"""Bytes in the storage, by content hash or by path."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from toploss import stores
from toploss.errors import Broken
from toploss.stores import Addressing
from toploss.stores import Stored as Stored


def sha256(data: bytes) -> str:
    """In hex: the id of these bytes."""
    return hashlib.sha256(data).hexdigest()


PIECE = 8 * 2**20  # bytes


class Blobs:
    """Files that appear whole or not at all, in a folder or in a bucket; threads may share it."""

    def __init__(self, url: str, *, endpoint: str = "", addressing: Addressing = "auto") -> None:
        """Nothing is asked of the storage yet.

        Args:
            endpoint: URL of an S3 that is not Amazon's.

        Raises:
            BadSettings: the URL's kind of storage is not known.
        """
        self._store = stores.opened(url, endpoint=endpoint, addressing=addressing)

    @property
    def root(self) -> str:
        """The folder, or the URL."""
        return self._store.root

    @property
    def folder(self) -> Path | None:
        """Where the storage lies, if it is a folder of this machine."""
        return self._store.folder

    def put_image(self, data: bytes) -> str:
        """Keep an image; returns its id, the SHA-256 of its bytes. Known bytes cost nothing."""
        digest = sha256(data)
        self.put(image_path(digest), data, known=True)
        return digest

    def get_image(self, digest: str) -> bytes:
        """Raises Broken when the bytes are gone or are not those of the hash."""
        data = self.get(image_path(digest))
        if sha256(data) != digest:
            raise Broken(f"image {digest} in the storage is damaged; restore it from a back-up")
        return data

    def put(self, path: str, data: bytes, *, known: bool = False) -> None:
        """Write a whole file, in place of what was there.

        Args:
            known: the path is a content hash, so a file of that size is the same.

        Raises:
            Broken: the storage cannot be written.
        """
        self._write(path, data, len(data) if known else None)

    def put_file(self, path: str, file: Path, *, known: bool = False) -> None:
        """Write a whole file as `put` does, from a file of this machine: it need not fit into
        memory. Raises Broken."""
        self._write(path, file, file.stat().st_size if known else None)

    def get(self, path: str) -> bytes:
        """Raises Broken when there is no such file, or the storage is away."""
        return self._read(path)

    def part(self, path: str, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`, which may lie behind the file's. Raises Broken
        when there is no such file."""
        end = min(end, self.size(path))
        return self._read(path, start, end) if start < end else b""

    def pieces(self, path: str) -> Iterator[bytes]:
        """A file that need not fit into memory, piece by piece. Raises Broken when there is no such
        file."""
        size = self.size(path)
        for start in range(0, size, PIECE):
            yield self._read(path, start, min(start + PIECE, size))

    def tail(self, path: str, limit: int) -> bytes:
        """The last bytes of a file, at most so many. Raises Broken when there is no such file."""
        size = self.size(path)
        return self._read(path, max(0, size - limit), size) if size else b""

    def size(self, path: str) -> int:
        """Of a file, in bytes. Raises Broken when there is no such file."""
        size = self._size(path)
        if size is None:
            raise self._missing(path)
        return size

    def exists(self, path: str) -> bool:
        """Whether there is such a file; a folder is none. Raises Broken: the storage is away."""
        return self._size(path) is not None

    def below(self, folder: str) -> list[Stored]:
        """Every file below a folder, by path, halves included. Raises Broken."""
        try:
            return sorted(self._store.below(folder), key=lambda file: file.path)
        except OSError as exc:
            raise self._failed(f"{folder} cannot be listed in", exc) from exc

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files; one that is not there is no error.

        Raises:
            Broken: the storage cannot be written.
        """
        for path in paths:
            try:
                self._store.remove(path)
            except OSError as exc:
                raise self._failed(f"{path} cannot be removed from", exc) from exc

    def forget(self, paths: Iterable[str]) -> str | None:
        """Remove files, and all that a bucket keeps of what they were before. Returns what could
        not be made sure of, in words; None: nothing is left.

        Raises:
            Broken: the storage cannot be written, or keeps what may not be removed.
        """
        doubts = [self._forgotten(path, partial(self._store.forget, path)) for path in paths]
        return next(filter(None, doubts), None)

    def forget_old(self, folder: str, names: tuple[str, ...]) -> str | None:
        """The same of what files below a folder were before, whose names end so; what they are now
        stays. Raises Broken."""
        return self._forgotten(folder, partial(self._store.forget_old, folder, names))

    def _forgotten(self, path: str, forget: Callable[[], str | None]) -> str | None:
        try:
            return forget()
        except OSError as exc:
            raise self._failed(f"{path} cannot be removed from", exc) from exc

    def delete_parts(self, folder: str, *, older_s: float) -> None:
        """Remove the halves of files that a kill left in a folder, if they are so old. Raises
        Broken."""
        try:
            names = self._store.halves(folder, older_s=older_s)
        except OSError as exc:
            raise self._failed(f"{folder} cannot be listed in", exc) from exc
        self.delete(f"{folder}/{name}" for name in names)

    def _write(self, path: str, content: bytes | Path, known: int | None) -> None:
        if known is not None and self._size(path) == known:
            return
        try:
            self._store.write(path, content)
        except OSError as exc:
            raise self._failed(f"{path} cannot be written to", exc) from exc

    def _read(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        try:
            return self._store.read(path, start, end)
        except FileNotFoundError as exc:
            raise self._missing(path) from exc
        except OSError as exc:
            raise self._failed(f"{path} cannot be read from", exc) from exc

    def _size(self, path: str) -> int | None:
        try:
            return self._store.size(path)
        except OSError as exc:
            raise self._failed(f"{path} cannot be looked for in", exc) from exc

    def _missing(self, path: str) -> Broken:
        return Broken(f"{path} is missing in the storage {self.root}; restore it from a back-up")

    def _failed(self, what: str, exc: OSError) -> Broken:
        return Broken(f"{what} the storage {self.root} ({exc}); {self._store.remedy}")


def image_path(digest: str) -> str:
    """Where an image lies in the storage, by its id."""
    return f"images/{digest[:2]}/{digest[2:4]}/{digest}"
