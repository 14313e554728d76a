"""Images kept for review, behind the answers: nobody waits for it, and no answer fails by it."""

import logging
import threading
import time
from collections import deque

from service import metrics
from service.behind import Behind
from service.choice import Choice, margin
from service.swap import Serving
from toploss import captures, outbox
from toploss.answers import Answer
from toploss.captures import Shot
from toploss.errors import CapReached
from toploss.home import Home
from toploss.times import DAY_S

log = logging.getLogger("toploss.capture")

PLACES = 64  # images that wait to be kept
MOST_BYTES = 64 * 2**20  # of all of them
TOP = 3  # classes that a reviewer is shown
SWEEP_S = 60.0  # between two looks at those whose days are over
TIDY_S = 3_600.0  # between two looks through their whole folder


class Capture(Behind):
    """Keeps what is chosen with one thread of the lowest priority; what does not fit is dropped,
    and counted. The same thread deletes what is over, also where nothing is kept any more."""

    def __init__(self, home: Home) -> None:
        super().__init__("capture")
        rate = home.settings.capture_rate
        self._home = home
        self._choice = Choice(rate) if rate else None
        self._waiting: deque[Shot] = deque()
        self._held: Shot | None = None  # that is being kept
        self._full_day = -1  # the day of which no more is kept
        self._away = False  # the last try failed
        self._swept = False  # the last sweep did not fail
        self._tidy_at = 0.0  # monotonic clock, seconds
        self._woken = threading.Event()

    def stop(self) -> None:
        """What waits is kept first."""
        self._stopped.set()
        self._woken.set()
        super().stop()

    def offer(self, data: bytes, serving: Serving, answer: Answer, prediction_id: str) -> None:
        """An image and its answer, to be kept if it is chosen and there is room."""
        if self._choice is None:
            return
        why = self._choice.of(answer, serving.version)
        if why is None:
            return
        if self._full_day == time.time() // DAY_S:
            metrics.CAPTURES_DROPPED.labels(reason="cap").inc()
            return
        waiting = sum(len(shot.data) for shot in tuple(self._waiting))
        if len(self._waiting) >= PLACES or waiting + len(data) > MOST_BYTES:
            metrics.CAPTURES_DROPPED.labels(reason="room").inc()
            return
        self._waiting.append(shot_of(data, serving, answer, prediction_id, why))
        self._woken.set()

    def holds(self, prediction_id: str) -> bool:
        """Whether the image of that prediction is on its way."""
        shots = (*tuple(self._waiting), self._held)  # in this order: it goes from one to the other
        return any(shot is not None and shot.id == prediction_id for shot in shots)

    def sweep(self) -> None:
        """Delete what is over, and tell how many wait."""
        metrics.CAPTURES_WAITING.set(captures.waiting(self._home))
        waiting, given_up = outbox.counts(self._home)
        metrics.MESSAGES_WAITING.set(waiting)
        metrics.MESSAGES_GIVEN_UP.set(given_up)
        if time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + TIDY_S  # first: if it fails, the rest has its turn
            captures.tidy(self._home)
        removed = captures.expire(self._home)
        if removed:
            log.info("action=expire-captures outcome=done captures=%d", removed)

    def keep(self) -> bool:
        """Keep the image that waits longest, if there is one."""
        if not self._waiting:
            return False
        self._held = self._waiting[0]
        self._waiting.popleft()
        self._keep(self._held)
        self._held = None
        return True

    def _keep(self, shot: Shot) -> None:
        try:
            if captures.keep(self._home, shot):
                metrics.CAPTURES.labels(reason=shot.why.value).inc()
            else:
                metrics.CAPTURES_DROPPED.labels(reason="known").inc()
            self._away = False
        except CapReached:
            self._full_day = int(time.time() // DAY_S)
            metrics.CAPTURES_DROPPED.labels(reason="cap").inc()
        except Exception as exc:
            metrics.CAPTURES_DROPPED.labels(reason="failed").inc()
            if not self._away:
                log.warning("action=capture outcome=failed error=%r", exc)
            self._away = True

    def _follow(self) -> None:
        sweep_at = 0.0  # monotonic clock, seconds
        while True:
            self._woken.clear()
            while self.keep():
                pass
            if self._stopped.is_set():
                return
            if time.monotonic() >= sweep_at:
                self._try_to_sweep()
                sweep_at = time.monotonic() + SWEEP_S
            self._woken.wait(max(0.0, sweep_at - time.monotonic()))

    def _try_to_sweep(self) -> None:
        try:
            self.sweep()
            self._swept = True
        except Exception as exc:
            if self._swept:
                log.warning("action=expire-captures outcome=failed error=%r; tried again", exc)
            self._swept = False


def shot_of(
    data: bytes, serving: Serving, answer: Answer, prediction_id: str, why: captures.Why
) -> Shot:
    """An image with what a version said of it."""
    return Shot(
        id=prediction_id,
        data=data,
        why=why,
        version=serving.version,
        top=tuple(
            (serving.labels.index(guess.label), guess.confidence) for guess in answer.guesses[:TOP]
        ),
        margin=margin(answer),
        novelty=answer.novelty,
    )
