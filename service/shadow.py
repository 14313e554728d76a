"""The candidate that scores a share of the traffic beside production, while nobody waits."""

import logging
import random
import time
from collections import Counter, deque
from dataclasses import dataclass
from functools import partial

from service import metrics
from service.batcher import Batcher
from service.behind import Behind
from service.logs import in_a_line
from service.swap import Serving, load
from toploss import bentostore, models, shadow
from toploss.answers import Answer
from toploss.errors import ToplossError
from toploss.home import Home
from toploss.preprocess import decode
from toploss.shadow import Pair

log = logging.getLogger("toploss.shadow")

PLACES = 16  # images that wait to be scored
MOST_BYTES = 32 * 2**20  # of all of them
PAUSE_S = 0.02  # between two looks whether anybody waits for an answer
RETRY_S = 60.0  # after which a version that did not load is tried again
NOTE_S = 5.0  # between two notes of what was counted


@dataclass(frozen=True, kw_only=True)
class _Offered:
    """An image that production has answered."""

    data: bytes
    live: str  # the version that answered
    label: str  # what it said


class Shadow(Behind):
    """Scores with one thread of the lowest priority, one image at a time, and only begins while
    the batcher is idle: what does not fit is left out, and counted as missed. Another thread looks
    which version it is."""

    def __init__(self, home: Home, batcher: Batcher) -> None:
        super().__init__("shadow")
        self.candidate: Serving | None = None
        self._home, self._batcher = home, batcher
        self._waiting: deque[_Offered] = deque()
        self._counts: dict[tuple[str, str], Counter[Pair]] = {}  # by candidate and live version
        self._refused = ""  # the version that did not load
        self._again_at = 0.0  # when it is tried again; monotonic clock, seconds
        self._away = False  # the database could not be asked the last time

    def offer(self, data: bytes, live: Serving, answer: Answer) -> None:
        """An image and its answer, to be scored if it falls into the share and there is room."""
        candidate = self.candidate
        if candidate is None or random.random() >= self._home.settings.shadow_share:  # noqa: S311  # no secret
            return
        waiting = sum(len(offered.data) for offered in tuple(self._waiting))
        if len(self._waiting) >= PLACES or waiting + len(data) > MOST_BYTES:
            metrics.SHADOWED.labels(result="missed").inc()
            return
        label = answer.guesses[0].label
        self._waiting.append(_Offered(data=data, live=live.version, label=label))

    def look(self) -> bool:
        """Ask which version is to score, and load it; returns whether it is another one now. What
        does not load is told once, and tried again. For the thread that loads versions."""
        try:
            with self._home.db.read() as connection:
                wanted = shadow.candidate(connection)
                sealed = wanted and models.found(connection, wanted).manifest_sha256
        except Exception as exc:
            if not self._away:
                log.warning("action=look outcome=failed error=%r; the candidate stays", exc)
            self._away = True
            return False
        self._away = False
        before = self.candidate
        if sealed == (before.published.manifest_sha256 if before else None):
            return False
        if before is not None:
            log.info("action=shadow outcome=ended version=%s", before.version)
            self.candidate = None
            self._waiting.clear()
        if wanted is not None and (wanted != self._refused or time.monotonic() > self._again_at):
            self._load(wanted)
        return self.candidate is not before

    def score(self) -> bool:
        """Score the image that waits longest, if there is one and nobody waits for an answer."""
        candidate = self.candidate
        if candidate is None or not self._waiting or not self._batcher.idle:
            return False
        offered = self._waiting.popleft()
        try:
            image = decode(offered.data, candidate.size, self._home.limits)
            found = candidate.answers(image[None], alone=False)[0]
        except Exception as exc:
            metrics.SHADOWED.labels(result="failed").inc()
            if not isinstance(exc, ToplossError):
                log.exception("action=shadow outcome=failed version=%s", candidate.version)
            return True
        said = offered.label, found.guesses[0].label
        versions = candidate.version, offered.live
        self._counts.setdefault(versions, Counter())[said] += 1
        metrics.SHADOWED.labels(result="agreed" if said[0] == said[1] else "differed").inc()
        return True

    def note(self) -> None:
        """Add what was counted to the database; when that fails, it is kept for the next time."""
        for versions in list(self._counts):
            answers = self._counts.pop(versions)
            try:
                shadow.add(self._home, *versions, answers)
            except Exception as exc:
                self._counts[versions] = answers
                log.warning("action=note-shadow outcome=failed error=%r; tried again", exc)
                return

    def _follow(self) -> None:
        noted = time.monotonic()
        while not self._stopped.wait(PAUSE_S if self.candidate else self._home.settings.poll_s):
            began = time.monotonic()
            while self.score() and time.monotonic() < began + NOTE_S and not self._stopped.is_set():
                pass
            if time.monotonic() - noted >= NOTE_S:
                self.note()
                noted = time.monotonic()
        self.note()

    def _load(self, wanted: str) -> None:
        """On the CPU also where production has a GPU: there nobody goes behind anybody."""
        try:
            version = models.get(self._home, wanted)
            self.candidate = load(
                self._home,
                version,
                files=partial(bentostore.pull, self._home),
                generation=0,
                engine="auto",
                device="cpu",
                threads=1,
            )
        except Exception as exc:
            metrics.SHADOW_LOADS.labels(result="failed").inc()
            if wanted != self._refused:
                log.error(
                    "action=shadow outcome=failed version=%s error=%s; tried again",
                    wanted,
                    in_a_line(exc),
                )
            log.debug("action=shadow outcome=failed version=%s", wanted, exc_info=exc)
            self._refused, self._again_at = wanted, time.monotonic() + RETRY_S
        else:
            self._refused = ""
            metrics.SHADOW_LOADS.labels(result="done").inc()
            log.info("action=shadow outcome=begun version=%s", wanted)
