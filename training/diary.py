"""While a run is trained: that it lives, whether it should stop, and how far it is."""

import logging
import threading
from collections.abc import Callable
from typing import Any

from toploss import records, runs
from toploss.errors import Cancelled, Fenced, ToplossError
from toploss.home import Home
from toploss.runs import Lease
from training import recipe
from training.finder import STEPS, Finder
from training.follower import Follower
from training.trained import Epoch

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
                if runs.beat(self._home, self._lease):
                    self._stop = Cancelled(f"run {self._lease.run} was cancelled")
            except Fenced as exc:
                self._stop = exc
                return
            except Exception:  # the database may be away for a while; the lease decides
                log.warning("no heartbeat", exc_info=True)


class Diary(Follower):
    """Writes a training's progress to its run, its log, and to whoever watches."""

    def __init__(
        self, home: Home, lease: Lease, pulse: Pulse, watch: Callable[[str, float], None]
    ) -> None:
        self._home, self._lease, self._pulse, self._watch = home, lease, pulse, watch
        self._stage, self._epochs = "", 0
        self._history: list[dict[str, Any]] = []

    def recall(self, history: list[Epoch]) -> None:
        """The epochs that an earlier attempt has done, and that are not done again."""
        self._history = [vars(epoch) for epoch in history]
        last = history[-1]
        log.info("going on after epoch %d of %s", last.epoch, last.stage)

    def stage(self, name: str, epochs: int, rate: str) -> None:
        self._stage, self._epochs = name, epochs
        self.enter(name, epochs=epochs)
        if epochs:
            log.info("%s: %d epochs at rate %s", name, epochs, rate)
        elif name == recipe.FINDER:
            log.info("%s: %d steps", name, STEPS)

    def enter(self, name: str, **fields: Any) -> None:
        """A stage of the run begins."""
        self._pulse.check()
        runs.note(self._home, self._lease, stage=name, epoch=0, **fields)
        self._watch(name, 0.0)
        if not fields:
            log.info("%s", name)

    def step(self, done: float) -> None:
        self._pulse.check()
        self._watch(self._stage, done)

    def epoch(self, epoch: Epoch) -> None:
        self._history.append(vars(epoch))
        runs.note(self._home, self._lease, epoch=epoch.epoch, history=self._history)
        log.info(
            "%s: epoch %d of %d, train loss %.4f, plain %.4f, valid loss %.4f, valid accuracy %.4f",
            epoch.stage,
            epoch.epoch,
            self._epochs,
            epoch.train_loss,
            epoch.plain_loss,
            epoch.valid_loss,
            epoch.accuracy,
        )

    def parted(self, images: int) -> None:
        plan = records.show(self._home, self._lease.run)["settings"]
        runs.note(self._home, self._lease, plan=plan | {"part": images})

    def finder(self, finder: Finder) -> None:
        runs.note(self._home, self._lease, finder=vars(finder))
        given = records.show(self._home, self._lease.run)["settings"]["lr"]
        used = "" if given is None else f"; {given:.1e} was given and is used"
        log.info("lr-find: %.1e (%s)%s", finder.chosen, finder.why, used)
