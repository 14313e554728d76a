"""While a run is trained: that it lives, and whether it should stop."""

import logging
import threading

from toploss import attempts
from toploss.attempts import Lease
from toploss.errors import Cancelled, Fenced, ToplossError
from toploss.home import Home

log = logging.getLogger("toploss.run")


class Pulse:
    """Says in the background that the attempt lives; hears that it should stop.

    Raises from `check`, which the training calls after every batch.
    """

    def __init__(self, home: Home, lease: Lease) -> None:
        self._home, self._lease = home, lease
        self._stop: ToplossError | None = None
        self._done = threading.Event()
        self._every_s = min(5.0, home.settings.lease_s / 5)
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def __enter__(self) -> "Pulse":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def check(self) -> None:
        """Raises Cancelled when somebody asked the run to stop, Fenced when it is another's."""
        if self._stop is not None:
            raise self._stop

    def _beat(self) -> None:
        while not self._done.wait(self._every_s):
            try:
                if attempts.beat(self._home, self._lease):
                    self._stop = Cancelled(f"run {self._lease.run} was cancelled")
            except Fenced as exc:
                self._stop = exc
                return
            except Exception:  # the database may be away for a while; the lease decides
                log.warning("no heartbeat", exc_info=True)
