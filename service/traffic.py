"""Counts what production answers, and looks whether it has drifted. Nobody waits for either."""

import logging
import math
import threading
import time
from collections import Counter

from sqlalchemy.exc import IntegrityError

from service import metrics
from service.behind import Behind
from service.swap import Serving
from toploss import drift, traffic
from toploss.answers import Answer
from toploss.drift import State
from toploss.errors import NoModel
from toploss.home import Home
from toploss.traffic import CLASSES, Cell

log = logging.getLogger("toploss.drift")

NOTE_S = 10.0  # between two notes of what was counted; a server that is killed loses as much
LOOK_S = 60.0  # between two looks at the drift
MOST_WAITING = 48  # hours of versions that wait for a database that is away; older ones are lost


class _Counts:
    """Of one version, since the last note."""

    def __init__(self, serving: Serving) -> None:
        self._places = {label: place for place, label in enumerate(serving.labels)}
        self._classes = Counter[str]()
        self._traits: list[Counter[int]] = []

    def add(self, answer: Answer) -> None:
        self._classes[answer.guesses[0].label] += 1
        if len(self._traits) < len(answer.traits):
            self._traits = [Counter() for _ in answer.traits]
        for counter, place in zip(self._traits, answer.traits, strict=False):
            counter[place] += 1

    def cells(self) -> Counter[Cell]:
        found = Counter({(CLASSES, self._places[label]): n for label, n in self._classes.items()})
        for kind, counter in enumerate(self._traits, start=CLASSES + 1):
            found.update({(kind, place): number for place, number in counter.items()})
        return found


class Traffic(Behind):
    """Whoever answers adds to counters in memory, of a fixed size for each version. A thread of the
    lowest priority adds them to the database, where those of all servers meet."""

    def __init__(self, home: Home) -> None:
        super().__init__("traffic")
        self._home = home
        self._lock = threading.Lock()  # held for a microsecond
        self._counts: dict[str, _Counts] = {}  # by version
        self._waiting: dict[tuple[int, str], Counter[Cell]] = {}  # by hour and version
        self._away = False  # the last look failed
        self._lost = False  # likewise, for what is noted

    def count(self, serving: Serving, answer: Answer) -> None:
        """An image was answered."""
        with self._lock:
            counts = self._counts.get(serving.version)
            if counts is None:
                counts = self._counts[serving.version] = _Counts(serving)
            counts.add(answer)

    def note(self) -> None:
        """Add what was counted to the database; when that fails, it is kept for the next time."""
        with self._lock:
            taken, self._counts = self._counts, {}
        now = time.time()
        for version, counts in taken.items():
            key = traffic.hour(now), version
            self._waiting.setdefault(key, Counter()).update(counts.cells())
        for key in sorted(self._waiting)[:-MOST_WAITING]:
            del self._waiting[key]
        if not self._waiting:
            return
        try:
            with self._home.db.write() as connection:
                for (hour, version), cells in sorted(self._waiting.items()):
                    traffic.add(connection, version, hour, cells)
                traffic.forget(connection, now=now)
        except Exception as exc:
            if not self._lost:
                log.warning("action=note-traffic outcome=failed error=%r; tried again", exc)
            self._lost = True
        else:
            self._lost = False
            self._waiting.clear()

    def look(self) -> None:
        """Compare, tell the metrics, and put on record which alarms begin and end."""
        try:
            found = drift.look(self._home)
            for kind, shift in found.kinds.items():
                told = math.nan if shift.statistic is None else shift.statistic
                metrics.DRIFT.labels(kind=kind.value).set(told)
                metrics.DRIFT_ALARM.labels(kind=kind.value).set(shift.state == State.ALARM)
            with self._home.db.write() as connection:
                begun = drift.record(connection, found)
        except (NoModel, IntegrityError):  # nothing to look at, or another server was faster
            return
        except Exception as exc:
            if not self._away:
                log.warning("action=drift outcome=failed error=%r; tried again", exc)
            self._away = True
            return
        self._away = False
        for alarm in begun:
            log.warning(
                "action=drift outcome=alarm kind=%s version=%s answers=%d %s",
                alarm.kind,
                alarm.version,
                alarm.answers,
                alarm.why,
            )

    def _follow(self) -> None:
        noted = looked = time.monotonic()
        while not self._stopped.wait(min(NOTE_S, LOOK_S) / 4):
            now = time.monotonic()
            if now - noted >= NOTE_S:
                self.note()
                noted = now
            if now - looked >= LOOK_S:
                self.look()
                looked = now
        self.note()
