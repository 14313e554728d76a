"""Bytes in the storage, by content hash or by path, through fsspec."""

import hashlib
from collections.abc import Iterable
from typing import Any

from toploss.errors import BadSettings, Broken
from toploss.ids import new_id


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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
            known: the path is a content hash, so a file that is there already is the same.
        """
        target = self._full(path)
        if known and self._fs.exists(target):
            return
        temporary = f"{target}.{new_id()}.part"
        self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._fs.pipe_file(temporary, data)
        self._fs.mv(temporary, target)

    def get(self, path: str) -> bytes:
        """Raises Broken when there is no such file."""
        try:
            data: bytes = self._fs.cat_file(self._full(path))
        except OSError as exc:
            raise Broken(
                f"{path} is missing in the storage {self.root} ({exc}); restore it from a back-up"
            ) from exc
        return data

    def exists(self, path: str) -> bool:
        return bool(self._fs.exists(self._full(path)))

    def delete(self, paths: Iterable[str]) -> None:
        """Remove files; one that is not there is no error."""
        for path in paths:
            if self.exists(path):
                self._fs.rm_file(self._full(path))

    def _full(self, path: str) -> Any:
        return f"{self.root}/{path}"


def image_path(digest: str) -> str:
    return f"images/{digest[:2]}/{digest[2:4]}/{digest}"
