"""What this server tells the others, and the watch over a promotion: how it stands to production,
and what came of the images that it was asked about. Nobody waits for it."""

import logging
import os
import socket
import threading
import time
from collections import Counter

from service import metrics
from service.behind import Behind
from service.swap import Serving, Swap
from toploss import outcomes, servers, traffic, watch
from toploss.answers import Answer
from toploss.home import Home
from toploss.ids import new_id
from toploss.outcomes import Outcomes

log = logging.getLogger("toploss.reports")

SAY_S = 5.0  # between two words; what a server that is killed has not said is lost
LOOK_S = 0.25  # between two looks whether there is something new to say
MOST_WAITING = 48  # generations and hours that wait for a database that is away

Key = tuple[int, int, str]  # hour, generation, version


class Reports(Behind):
    """Whoever answers adds to counters in memory. A thread of the lowest priority tells them, and
    how the model stands, to the database; a change of that at once."""

    def __init__(self, home: Home, swap: Swap) -> None:
        super().__init__("reports")
        self._home, self._swap = home, swap
        self._id, self._name = new_id(), f"{socket.gethostname()}:{os.getpid()}"[-200:]
        self._lock = threading.Lock()  # held for a microsecond
        self._counts: dict[Key, Counter[str]] = {}
        self._away = False  # the last word was not taken

    def answered(self, serving: Serving, answer: Answer) -> None:
        """An image was answered."""
        novel = answer.novelty is not None and answer.novelty > serving.reader.novel_above
        self._count(serving, answers=1, novel=int(novel))

    def failed(self, serving: Serving) -> None:
        """The model could not compute an image."""
        self._count(serving, failed=1)

    def say(self) -> None:
        """Tell everything; when that fails, what was counted is kept for the next time."""
        with self._lock:
            counts, self._counts = self._counts, {}
        try:
            with self._home.db.write() as connection:
                for (hour, generation, version), counted in sorted(counts.items()):
                    outcomes.add(connection, hour, generation, version, Outcomes(**counted))
                if counts:
                    outcomes.forget(connection, now=traffic.hour(time.time()))
                servers.say(connection, self._id, self._name, self._swap.standing())
                undone = watch.rollbacks(connection)
        except Exception as exc:
            self._keep(counts)
            if not self._away:
                log.warning("action=report outcome=failed error=%r; tried again", exc)
            self._away = True
            return
        self._away = False
        for cause, number in undone.items():
            metrics.ROLLBACKS.labels(cause=cause).set(number)

    def _count(self, serving: Serving, **more: int) -> None:
        key = traffic.hour(time.time()), serving.generation, serving.version
        with self._lock:
            self._counts.setdefault(key, Counter()).update(more)

    def _keep(self, counts: dict[Key, Counter[str]]) -> None:
        with self._lock:
            for key, counted in counts.items():
                self._counts.setdefault(key, Counter()).update(counted)
            for key in sorted(self._counts)[:-MOST_WAITING]:
                del self._counts[key]

    def _follow(self) -> None:
        self.say()
        said, known = time.monotonic(), self._known()
        while not self._stopped.wait(LOOK_S):
            if time.monotonic() - said >= SAY_S or known != self._known():
                known = self._known()
                self.say()
                said = time.monotonic()
        self.say()
        try:
            with self._home.db.write() as connection:
                servers.leave(connection, self._id)
        except Exception as exc:  # it will count as gone within half a minute, as if killed
            log.warning("action=report outcome=failed error=%r; the server ends", exc)

    def _known(self) -> tuple[object, ...]:
        standing = self._swap.standing()
        return standing.generation, standing.wanted, standing.error
