"""From an image's bytes to what the network says of it, in threads of our own.

A request's image goes through two queues: for decoding, and for a lane of the engine, which takes
what is there as one batch. Batches grow by themselves as load does: an idle lane waits for nobody,
and while all are busy, images gather. (Continuous batching; Crankshaw et al., "Clipper", 2017, has
the wait.)
"""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from service import metrics
from service.swap import Serving
from toploss.answers import Answer
from toploss.engine import Images
from toploss.errors import Broken, Overloaded, TimedOut, ToplossError
from toploss.preprocess import Limits, decode
from toploss.priority import BEHIND, step_back

log = logging.getLogger("toploss.batcher")

Image = npt.NDArray[np.uint8]  # (3, s, s)


@dataclass(kw_only=True, eq=False)
class _Job:
    """One image on its way."""

    data: bytes
    serving: Serving  # the version that answers, whatever is promoted meanwhile
    deadline: float  # monotonic clock, seconds
    answer: "asyncio.Future[Answer]"
    since: float  # when it entered the queue it is in; monotonic clock, seconds
    asked_in: Context = field(default_factory=copy_context)  # which request a log line is of
    image: Image | None = field(default=None, init=False)

    @property
    def given_up(self) -> bool:
        """Nobody waits for it any more."""
        return self.answer.done() or time.monotonic() > self.deadline


class Batcher:
    """At most `places` images are inside at a time. Touched by the event loop and its threads."""

    def __init__(
        self,
        limits: Limits,
        *,
        threads: int,
        places: int,
        largest: int,
        wait_s: float,
        timeout_s: float,
    ) -> None:
        """
        Args:
            threads: that decode, and lanes that compute, of which an engine may want fewer.
            largest: images of a batch; 0: as many as the engine has best.
            wait_s: for how long a lane waits for images that are being decoded, at most.
            timeout_s: after which an image that was not answered is given up.
        """
        self._limits = limits
        self._threads, self._places, self._largest = threads, places, largest
        self._wait_s, self._timeout_s = wait_s, timeout_s
        self._inside = 0  # images that are not answered yet; the event loop's
        self._raw: deque[_Job] = deque()
        self._ready: deque[_Job] = deque()
        self._decoding = 0
        self._busy = 0  # lanes
        self._closed = False
        lock = threading.Lock()
        self._to_decode, self._to_compute = threading.Condition(lock), threading.Condition(lock)
        for number in range(threads):
            for name, work in (("decode", self._decode), ("lane", self._compute)):
                threading.Thread(target=work, name=f"{name}-{number}", daemon=True).start()

    @property
    def idle(self) -> bool:
        """Nobody waits for an answer."""
        return self._inside == 0

    @property
    def fair_share(self) -> int:
        """Places that one request of many images should take at a time, at most."""
        return max(1, min(self._places // 4, 16))

    def expect_room(self) -> None:
        """Raises Overloaded, if every place is taken."""
        if self._inside >= self._places:
            raise Overloaded(
                f"{self._inside} predictions are in flight, as many as are taken; try again in a "
                "second, or raise TOPLOSS_QUEUE_SIZE"
            )

    async def ask(self, data: bytes, serving: Serving) -> Answer:
        """What this version says of one image.

        A caller that is cancelled leaves its place; what was not begun for it is not done.

        Raises:
            Overloaded: every place is taken; refused at once, nothing was computed.
            TimedOut: no answer within `timeout_s`.
            NotAnImage, UnsupportedType, TooLarge; Broken, when the engine fails.
        """
        self.expect_room()
        self._inside += 1
        metrics.INSIDE.inc()
        now = time.monotonic()
        job = _Job(
            data=data,
            serving=serving,
            deadline=now + self._timeout_s,
            answer=asyncio.get_running_loop().create_future(),
            since=now,
        )
        try:
            with self._to_decode:
                self._raw.append(job)
                self._to_decode.notify()
            async with asyncio.timeout(self._timeout_s):
                return await job.answer
        except TimeoutError:
            raise TimedOut(
                f"the image was not answered within {self._timeout_s:g} s; try again later, or "
                "raise TOPLOSS_TIMEOUT_S"
            ) from None
        finally:
            self._inside -= 1
            metrics.INSIDE.dec()

    def close(self) -> None:
        """Stop the threads. What is under way ends; what waits is cancelled."""
        with self._to_decode:
            self._closed = True
            waiting = [*self._raw, *self._ready]
            self._raw.clear()
            self._ready.clear()
            self._to_decode.notify_all()
            self._to_compute.notify_all()
        _refuse(waiting, Overloaded("the service is stopping; ask another replica"))

    def _decode(self) -> None:
        step_back(BEHIND)  # measured: refusals and health wait for a core else
        while (job := self._next_raw()) is not None:
            try:
                job.image = decode(job.data, job.serving.size, self._limits)
            except ToplossError as exc:
                _refuse([job], exc)
            except Exception as exc:  # a bug of ours, or of a decoder; the next image goes on
                job.asked_in.run(log.exception, "action=decode outcome=bug")
                _refuse([job], exc)
            with self._to_compute:
                self._decoding -= 1
                if job.image is not None:
                    metrics.STAGE_SECONDS.labels(stage="decode").observe(_since(job))
                    self._ready.append(job)
                self._to_compute.notify()

    def _next_raw(self) -> _Job | None:
        with self._to_decode:
            while True:
                while not self._raw and not self._closed:
                    self._to_decode.wait()
                if self._closed:
                    return None
                job = self._raw.popleft()
                if not job.given_up:
                    self._decoding += 1
                    metrics.STAGE_SECONDS.labels(stage="wait").observe(_since(job))
                    return job

    def _compute(self) -> None:
        step_back(BEHIND)  # measured: refusals and health wait for a core else
        while (batch := self._next_batch()) is not None:
            jobs, alone = batch
            began = time.monotonic()
            try:
                images: Images = np.stack([job.image for job in jobs if job.image is not None])
                answers = jobs[0].serving.answers(images, alone=alone)
            except Exception as exc:  # whatever a runtime raises; the next batch goes on
                version = jobs[0].serving.version
                failed = "action=compute outcome=failed version=%s"
                jobs[0].asked_in.run(log.exception, failed, version)  # one of those it is of
                _refuse(jobs, Broken(f"version {version} has failed ({exc}); see the log"))
            else:
                metrics.STAGE_SECONDS.labels(stage="infer").observe(time.monotonic() - began)
                metrics.BATCH_IMAGES.observe(len(jobs))
                _answer(jobs, answers)
            finally:
                with self._to_compute:
                    self._busy -= 1
                    self._to_compute.notify()

    def _next_batch(self) -> tuple[list[_Job], bool] | None:
        """The images for a lane, all of one version, and whether nothing else is under way."""
        with self._to_compute:
            while True:
                while not self._closed and not self._free_lanes():
                    self._to_compute.wait()
                if self._closed:
                    return None
                self._gather()
                if batch := self._pick():
                    alone = not (self._busy or self._decoding or self._raw or self._ready)
                    self._busy += 1
                    if self._ready:  # whoever gathered has heard what was meant for others
                        self._to_compute.notify()
                    return batch, alone

    def _pick(self) -> list[_Job]:
        """The first that are ready, of one version, without those that were given up."""
        batch: list[_Job] = []
        share = self._share(len(self._ready)) if self._ready else 0
        while self._ready and len(batch) < share:
            if batch and self._ready[0].serving is not batch[0].serving:
                break
            job = self._ready.popleft()
            if not job.given_up:
                metrics.STAGE_SECONDS.labels(stage="queue").observe(_since(job))
                batch.append(job)
        return batch

    def _gather(self) -> None:
        """Wait, a little, for what is being decoded: together it is computed faster."""
        until = time.monotonic() + self._wait_s
        while (coming := len(self._raw) + self._decoding) and self._free_lanes():
            left = until - time.monotonic()
            if left <= 0 or len(self._ready) >= self._share(len(self._ready) + coming):
                return
            self._to_compute.wait(left)

    def _free_lanes(self) -> int:
        """How many batches more may be computed now, if there is anything to compute."""
        if not self._ready:
            return 0
        return min(self._ready[0].serving.engine.lanes, self._threads) - self._busy

    def _share(self, images: int) -> int:
        """Of so many, those of one lane, when all that are free take as many."""
        engine = self._ready[0].serving.engine
        return min(self._largest or engine.largest, math.ceil(images / max(1, self._free_lanes())))


def _since(job: _Job) -> float:
    """Seconds that it spent where it was; it is somewhere else from now on."""
    now = time.monotonic()
    spent, job.since = now - job.since, now
    return spent


def _answer(jobs: list[_Job], answers: list[Answer]) -> None:
    def tell(job: _Job, row: int) -> None:
        if not job.answer.done():
            job.answer.set_result(answers[row])

    _on_their_loops(jobs, tell)


def _refuse(jobs: list[_Job], error: Exception) -> None:
    def tell(job: _Job, row: int) -> None:
        if not job.answer.done():
            job.answer.set_exception(error)

    _on_their_loops(jobs, tell)


def _on_their_loops(jobs: list[_Job], tell: Callable[[_Job, int], None]) -> None:
    """Futures may only be touched on the loop that they belong to: one call wakes it for all."""
    loops = {job.answer.get_loop() for job in jobs}
    for loop in loops:

        def told(loop: asyncio.AbstractEventLoop = loop) -> None:
            for row, job in enumerate(jobs):
                if job.answer.get_loop() is loop:
                    tell(job, row)

        with contextlib.suppress(RuntimeError):  # it has closed: nobody waits any more
            loop.call_soon_threadsafe(told)
