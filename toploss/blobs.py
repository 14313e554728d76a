"""Bytes in the storage, by content hash or by path, through fsspec."""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toploss.errors import BadSettings, Broken
from toploss.ids import new_id


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


PART = ".part"  # how the temporary name of a file ends


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file of the storage."""

    path: str
    bytes: int
    at: float  # when it was written; seconds since 1970


class Blobs:
    """A folder of immutable files. A file appears whole or not at all; threads may share it."""

    def __init__(self, url: str) -> None:
        """Raises BadSettings when the URL's kind of storage is not known."""
        import fsspec

        try:
            self._fs, self.root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as exc:
            raise BadSettings(
                f"TOPLOSS_STORAGE_URL={url!r} is not usable ({exc}); give a folder or s3://…"
            ) from exc

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
        """Write a whole file: under a temporary name, then moved.

        Args:
            known: the path is a content hash, so a file of that size is the same.

        Raises:
            Broken: the storage cannot be written.
        """
        if known and self.exists(path) and self._fs.size(self._full(path)) == len(data):
            return
        self._place(path, lambda temporary: self._fs.pipe_file(temporary, data))

    def put_file(self, path: str, file: Path) -> None:
        """Write a whole file as `put` does, from a file of this machine: it need not fit into
        memory. Raises Broken."""
        self._place(path, lambda temporary: self._fs.put_file(str(file), temporary))

    def get(self, path: str) -> bytes:
        """Raises Broken when there is no such file."""
        try:
            data: bytes = self._fs.cat_file(self._full(path))
        except OSError as exc:
            raise Broken(
                f"{path} is missing in the storage {self.root} ({exc}); restore it from a back-up"
            ) from exc
        return data

    def tail(self, path: str, limit: int) -> bytes:
        """The last bytes of a file, at most so many. Raises Broken when there is no such file."""
        try:
            data: bytes = self._fs.tail(self._full(path), limit)
        except OSError as exc:
            raise Broken(f"{path} is missing in the storage {self.root} ({exc})") from exc
        return data

    def local(self, path: str) -> Path:
        """Where a file lies on this machine, its folder made: for a log that grows.

        Raises:
            BadSettings: the storage is no folder of this machine.
        """
        if "file" not in self._fs.protocol:
            raise BadSettings(
                f"the storage {self.root} is no folder of this machine, and logs of trainings "
                "need one; set TOPLOSS_STORAGE_URL to a folder"
            )
        full = Path(self._full(path))
        full.parent.mkdir(parents=True, exist_ok=True)
        return full

    def exists(self, path: str) -> bool:
        """Whether there is such a file; a folder is none."""
        return bool(self._fs.isfile(self._full(path)))

    def below(self, folder: str) -> list[Stored]:
        """Every file below a folder, by path, halves included. Raises Broken."""
        full = self._full(folder)
        self._fs.invalidate_cache(full)
        try:
            found = self._fs.find(full, detail=True)
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise Broken(
                f"{folder} cannot be listed in the storage {self.root} ({exc}); check its rights"
            ) from exc
        return [
            Stored(
                path=name.removeprefix(f"{self.root}/"),
                bytes=int(told["size"] or 0),
                at=self._written(name, told),
            )
            for name, told in sorted(found.items())
        ]

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files; one that is not there is no error.

        Raises:
            Broken: the storage cannot be written.
        """
        for path in paths:
            try:
                if self.exists(path):
                    self._fs.rm_file(self._full(path))
            except FileNotFoundError:
                pass  # somebody else was faster
            except OSError as exc:
                raise Broken(
                    f"{path} cannot be removed from the storage {self.root} ({exc}); "
                    "check its rights, and ask again"
                ) from exc

    def delete_parts(self, folder: str, *, older_s: float) -> None:
        """Remove the halves of files that a kill left in a folder, if they are so old. Raises
        Broken."""
        full = self._full(folder)
        self._fs.invalidate_cache(full)
        try:
            names = [name for name in self._fs.ls(full, detail=False) if name.endswith(PART)]
            old = [name for name in names if self._age_s(name) >= older_s]
        except FileNotFoundError:
            return  # no such folder, or somebody else was faster and will do the rest
        except OSError as exc:
            raise Broken(
                f"{folder} cannot be listed in the storage {self.root} ({exc}); check its rights"
            ) from exc
        self.delete(f"{folder}/{name.rpartition('/')[2]}" for name in old)

    def _age_s(self, full: str) -> float:
        return time.time() - float(self._fs.modified(full).timestamp())

    def _written(self, full: str, told: dict[str, Any]) -> float:
        """When a file was, as far as its listing says so; each kind of storage has its word."""
        said = told.get("mtime", told.get("LastModified"))
        if said is None:
            return time.time() - self._age_s(full)
        return float(said) if isinstance(said, int | float) else float(said.timestamp())

    def _place(self, path: str, write: Callable[[str], object]) -> None:
        target = self._full(path)
        temporary = f"{target}.{new_id()}{PART}"
        try:
            self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            write(temporary)
            self._fs.mv(temporary, target)
        except OSError as exc:
            raise Broken(
                f"{path} cannot be written to the storage {self.root} ({exc}); "
                "check TOPLOSS_STORAGE_URL, its rights and its free space"
            ) from exc

    def _full(self, path: str) -> Any:
        return f"{self.root}/{path}"


def image_path(digest: str) -> str:
    return f"images/{digest[:2]}/{digest[2:4]}/{digest}"
