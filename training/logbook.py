"""The log of one attempt at a run: a file of this machine, kept in the storage as it grows."""

import logging
import threading
from pathlib import Path
from types import TracebackType

from toploss import records
from toploss.attempts import Lease
from toploss.errors import Broken
from toploss.home import Home

log = logging.getLogger("toploss.run")

EVERY_S = 3.0  # between two looks at whether it has grown


class Logbook:
    """In a folder, the file lies where it belongs from the start. For a bucket, which takes whole
    files alone, it lies under HOME, and a thread copies it whenever it has grown; at the end it is
    copied once more and removed, unless the storage is away.

    Whoever writes into `file` opens a `Logbook` first, and is the only one for that attempt.
    """

    def __init__(self, home: Home, lease: Lease) -> None:
        self._home, self._lease = home, lease
        self._path = records.log_path(lease.run, lease.fence)
        self._copies = home.blobs.folder is None
        self._copied = 0  # bytes of it that are in the storage
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="logbook", daemon=True)

    @property
    def file(self) -> Path:
        folder = self._home.blobs.folder
        # An attempt has one number for all of its life, so nobody else writes into this one.
        return (folder or self._home.settings.home / "logs") / self._path

    def open(self) -> "Logbook":
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if self._copies:
            self._thread.start()
        return self

    def close(self) -> None:
        """Nobody writes any more."""
        if not self._copies or self._done.is_set():
            return
        self._done.set()
        self._thread.join()
        if self._copy():
            self.file.unlink(missing_ok=True)

    def __enter__(self) -> "Logbook":
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def _follow(self) -> None:
        while not self._done.wait(EVERY_S):
            self._copy()

    def _copy(self) -> bool:
        """Whether all of it is in the storage."""
        try:
            size = self.file.stat().st_size
            if size != self._copied:
                self._home.blobs.put_file(self._path, self.file)
                self._copied = size
            return True
        except FileNotFoundError:
            return False  # nothing was written
        except Broken as exc:  # a log is no reason to end a training; it is tried again
            log.warning("the log of run %s is behind: %s", self._lease.run, exc)
            return False
