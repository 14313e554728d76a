"""Where the storage's bytes lie, through fsspec: a folder of this machine, or a bucket that speaks
S3.

Both raise OSError alone (FileNotFoundError: there is no such file), and in both a file appears
whole or not at all.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from toploss.errors import BadSettings
from toploss.ids import new_id

PART = ".part"  # how the temporary name of a file in a folder ends
Addressing = Literal["auto", "path", "virtual"]

# Of a bucket, in seconds. A store that is away is told within a minute or two, never waited for
# without end: each try is made up to four times, by botocore and by s3fs.
CONNECT_S = 5.0
ANSWER_S = 15.0  # between two pieces of an answer
ASK_S = 60.0  # of a question without content, all tries together
CARRY_S = 900.0  # of a file's content
CONNECTIONS = 32  # at a time, of one process
# What a key may not ask, or a store does not know.
NOT_TOLD = ("AccessDenied", "NotImplemented", "MethodNotAllowed", "403", "405", "501")
DOUBT = (
    "whether the bucket keeps old versions of objects could not be told; allow the key "
    "s3:GetBucketVersioning, or see docs/storage.md"
)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file of the storage."""

    path: str
    bytes: int
    at: float  # when it was written; seconds since 1970


class Store(Protocol):
    """What `toploss.blobs` stands on. Paths are relative to the root."""

    root: str  # for people
    remedy: str  # what to look at when it fails
    folder: Path | None  # where it lies, if on this machine

    def size(self, path: str) -> int | None:
        """Of a file, in bytes; None: there is no such file, or it is a folder."""

    def read(self, path: str, start: int | None = None, end: int | None = None) -> bytes: ...

    def write(self, path: str, content: bytes | Path) -> None:
        """Bytes, or those of a file of this machine, which need not fit into memory."""

    def remove(self, path: str) -> None:
        """One that is not there is no error."""

    def forget(self, path: str) -> str | None:
        """Remove a file and all that is kept of what it was before. Returns what cannot be told of
        that, in words; None: nothing is left."""

    def forget_old(self, folder: str, names: tuple[str, ...]) -> str | None:
        """The same of what files below a folder were before, and of those that are gone, if their
        names end so. What they are now stays."""

    def below(self, folder: str) -> list[Stored]:
        """Every file below a folder, halves included; none where there is no such folder."""

    def halves(self, folder: str, *, older_s: float) -> list[str]:
        """Names of what a kill left half-written in a folder, if it is so old."""


def opened(url: str, *, endpoint: str = "", addressing: Addressing = "auto") -> Store:
    """The storage at a URL or path. Raises BadSettings: it is of no kind that we know."""
    if url.startswith("s3://"):
        return Bucket(url, endpoint=endpoint, addressing=addressing)
    return Folder(url)


class Folder:
    """A file is written under a temporary name and then moved, which a file system does at once."""

    remedy = "check TOPLOSS_STORAGE_URL, its rights and its free space"

    def __init__(self, url: str) -> None:
        import fsspec
        from fsspec.implementations.local import LocalFileSystem

        wanted = "give a folder or s3://bucket/prefix"
        try:
            self._fs, self.root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as exc:
            raise BadSettings(
                f"TOPLOSS_STORAGE_URL={url!r} is not usable ({exc}); {wanted}"
            ) from exc
        if not isinstance(self._fs, LocalFileSystem):
            raise BadSettings(
                f"TOPLOSS_STORAGE_URL={url!r} is not usable (it is none of the kinds that are "
                f"tested); {wanted}"
            )
        self.folder: Path | None = Path(self.root)

    def size(self, path: str) -> int | None:
        full = self._full(path)
        try:
            return int(self._fs.size(full)) if self._fs.isfile(full) else None
        except FileNotFoundError:
            return None  # somebody else was faster

    def read(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        data: bytes = self._fs.cat_file(self._full(path), start=start, end=end)
        return data

    def write(self, path: str, content: bytes | Path) -> None:
        target = self._full(path)
        temporary = f"{target}.{new_id()}{PART}"
        self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        if isinstance(content, Path):
            self._fs.put_file(str(content), temporary)
        else:
            self._fs.pipe_file(temporary, content)
        self._fs.mv(temporary, target)

    def remove(self, path: str) -> None:
        try:
            if self._fs.isfile(self._full(path)):
                self._fs.rm_file(self._full(path))
        except FileNotFoundError:
            pass  # somebody else was faster

    def forget(self, path: str) -> str | None:
        self.remove(path)
        return None

    def forget_old(self, folder: str, names: tuple[str, ...]) -> str | None:
        return None  # what a file was before, a folder does not keep

    def below(self, folder: str) -> list[Stored]:
        try:
            found = self._fs.find(self._full(folder), detail=True)
        except FileNotFoundError:
            return []  # somebody else removes it
        return [
            Stored(
                path=name.removeprefix(f"{self.root}/"), bytes=told["size"] or 0, at=told["mtime"]
            )
            for name, told in found.items()
        ]

    def halves(self, folder: str, *, older_s: float) -> list[str]:
        try:
            names = self._fs.ls(self._full(folder), detail=False)
            old = [name for name in names if name.endswith(PART) and self._age_s(name) >= older_s]
        except FileNotFoundError:
            return []  # no such folder, or somebody else was faster and will do the rest
        return [name.rpartition("/")[2] for name in old]

    def _age_s(self, full: str) -> float:
        return time.time() - float(self._fs.modified(full).timestamp())

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"


class Bucket:
    """A put is whole or not at all by itself, and what was put is seen by whoever asks next: no
    temporary names, and nothing that was listed is remembered. Threads may share it, and so may
    processes that were forked: each has connections of its own.

    Credentials and region are botocore's to find (`AWS_…`, a profile, the machine's role).
    """

    folder: Path | None = None

    def __init__(self, url: str, *, endpoint: str = "", addressing: Addressing = "auto") -> None:
        self._place = url.removeprefix("s3://").rstrip("/")
        self._bucket = self._place.partition("/")[0]
        if not self._bucket:
            raise BadSettings(
                f"TOPLOSS_STORAGE_URL={url!r} names no bucket; give s3://bucket/prefix"
            )
        self.root = f"s3://{self._place}"
        self.remedy = (
            "check TOPLOSS_STORAGE_URL, TOPLOSS_S3_ENDPOINT_URL and the credentials in AWS_…"
        )
        self._endpoint = endpoint or None
        # Others than Amazon seldom have a host name for each bucket.
        self._style = "path" if addressing == "auto" and endpoint else addressing
        self._opened: dict[int, Any] = {}

    def size(self, path: str) -> int | None:
        with self._told():
            bucket, key, _ = self._fs.split_path(self._full(path))
            try:
                head = self._fs.call_s3("head_object", Bucket=bucket, Key=key, timeout=ASK_S)
            except FileNotFoundError:
                return None
            return int(head["ContentLength"])

    def read(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        with self._told():
            # At once: of several parts each could be another one's, if the file is replaced.
            data: bytes = self._fs.cat_file(
                self._full(path), start=start, end=end, max_concurrency=1, timeout=CARRY_S
            )
            return data

    def write(self, path: str, content: bytes | Path) -> None:
        with self._told():
            full = self._full(path)
            if isinstance(content, Path):
                self._fs.put_file(str(content), full, timeout=CARRY_S)
            else:
                self._fs.pipe_file(full, content, timeout=CARRY_S)

    def remove(self, path: str) -> None:
        with self._told():
            bucket, key, _ = self._fs.split_path(self._full(path))
            self._fs.call_s3("delete_object", Bucket=bucket, Key=key, timeout=ASK_S)

    def forget(self, path: str) -> str | None:
        self.remove(path)  # where versions are kept, it is one of the old ones from here on
        return self._forget(path, lambda name, _: name == path)

    def forget_old(self, folder: str, names: tuple[str, ...]) -> str | None:
        return self._forget(f"{folder}/", lambda name, newest: not newest and name.endswith(names))

    def _forget(self, below: str, which: Callable[[str, bool], bool]) -> str | None:
        """Delete for good the versions that a bucket keeps of objects, their marks last: a mark
        that goes first would bring back what lies under it.

        Args:
            which: by an object's path, and whether the version is the newest of it.
        """
        root = self._full("").partition("/")[2]
        with self._told():
            try:
                found = list(self._versions(f"{root}{below}"))
            except OSError as exc:
                if _code(exc) not in NOT_TOLD:
                    raise
                return self._doubt()
            for one in found:
                if which(one["Key"].removeprefix(root), one["IsLatest"]):
                    this = {"Key": one["Key"], "VersionId": one["VersionId"]}
                    self._fs.call_s3("delete_object", Bucket=self._bucket, **this, timeout=ASK_S)
        return None

    def _versions(self, prefix: str) -> Iterator[dict[str, Any]]:
        """What a bucket keeps of all objects whose names begin so, marks of deletion last."""
        marks: list[dict[str, Any]] = []
        more: dict[str, str] = {}
        while True:
            page = self._fs.call_s3(
                "list_object_versions", Bucket=self._bucket, Prefix=prefix, **more, timeout=ASK_S
            )
            yield from page.get("Versions", [])
            marks += page.get("DeleteMarkers", [])
            if not page.get("IsTruncated"):
                break
            more = {"KeyMarker": page["NextKeyMarker"]}
            more |= {"VersionIdMarker": page.get("NextVersionIdMarker", "")}
        yield from marks

    def _doubt(self) -> str | None:
        """What is to be said where versions cannot be listed. Raises OSError: they are kept."""
        try:
            told = self._fs.call_s3("get_bucket_versioning", Bucket=self._bucket, timeout=ASK_S)
        except OSError as exc:
            if _code(exc) not in NOT_TOLD:
                raise
            return DOUBT
        if told.get("Status"):
            raise OSError(
                "the bucket keeps old versions of objects, and the key may not see them: allow it "
                "s3:ListBucketVersions and s3:DeleteObjectVersion"
            )
        return None

    def below(self, folder: str) -> list[Stored]:
        with self._told():
            found = self._fs.find(self._full(folder), detail=True)
        return [
            Stored(
                path=name.removeprefix(f"{self._place}/"),
                bytes=int(told["size"] or 0),
                at=told["LastModified"].timestamp(),
            )
            for name, told in found.items()
        ]

    def halves(self, folder: str, *, older_s: float) -> list[str]:
        return []  # nobody ever sees half of an object

    @property
    def _fs(self) -> Any:
        """This process's. A parent's is kept, or its end would close what the parent works with."""
        mine = self._opened.get(os.getpid())
        return mine or self._opened.setdefault(os.getpid(), self._connected())

    def _connected(self) -> Any:
        from s3fs import S3FileSystem

        config: dict[str, Any] = {
            "connect_timeout": CONNECT_S,
            "read_timeout": ANSWER_S,
            "retries": {"mode": "standard", "total_max_attempts": 2},
            "max_pool_connections": CONNECTIONS,
        }
        if self._style != "auto":
            config["s3"] = {"addressing_style": self._style}
        fs = S3FileSystem(
            endpoint_url=self._endpoint,
            config_kwargs=config,
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        fs.retries = 2
        fs.connect(timeout=ASK_S)
        return fs

    def _full(self, path: str) -> str:
        return f"{self._place}/{path}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever the libraries raise, as an OSError that says what it was."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except (NoCredentialsError, ValueError) as exc:
            raise OSError(str(exc)) from exc
        except TimeoutError as exc:
            raise OSError("it did not answer in time") from exc
        except (OSError, ClientError) as exc:
            code = _code(exc)
            if code == "NoSuchBucket":
                raise OSError(f"there is no bucket {self._bucket!r}") from exc
            if isinstance(exc, PermissionError):
                raise OSError(f"the key is refused or lacks the right: {code or exc}") from exc
            if isinstance(exc, OSError):
                raise
            raise OSError(str(exc)) from exc
        except BotoCoreError as exc:  # connections, proxies, certificates
            raise OSError(str(exc)) from exc


def _code(exc: BaseException) -> str:
    """S3's own word for an error, which s3fs keeps as the cause."""
    response = getattr(exc.__cause__, "response", None) or getattr(exc, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))
