"""How far a training is, written down as it goes."""

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from toploss import attempts, records
from toploss.attempts import Lease
from toploss.home import Home
from toploss.plan import Plan
from toploss.times import left
from training import patience, recipe
from training.finder import STEPS, Finder
from training.follower import Follower
from training.forecast import Forecast
from training.pulse import Pulse
from training.trained import Epoch

log = logging.getLogger("toploss.run")

TELL_S = 5.0  # between two words of how long it still takes, within a stage


class Diary(Follower):
    """Writes a training's progress to its run, its log, and to whoever watches."""

    def __init__(
        self, home: Home, lease: Lease, pulse: Pulse, watch: Callable[[str, float], None]
    ) -> None:
        self._home, self._lease, self._pulse, self._watch = home, lease, pulse, watch
        self._stage, self._epochs = "", 0
        self._history: list[dict[str, Any]] = []
        self._forecast = Forecast(samples=0)
        self._told = -math.inf  # when it was told last; monotonic clock, seconds

    def expect(self, plan: Plan, samples: int) -> None:
        """What is to be done is known: from here on, how long that takes is told."""
        self._forecast = Forecast.after(records.pace(self._home, plan), samples)

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
        self.check()
        self._forecast.enter(name, time.monotonic())
        self._note(stage=name, epoch=0, pace=self._pace(), **fields)
        self._watch(name, 0.0)
        if not fields:
            log.info("%s", name)

    def step(self, done: float) -> None:
        self.check()
        self._forecast.share = done
        if time.monotonic() - self._told >= TELL_S:
            self._note(pace=self._pace())
        self._watch(self._stage, done)

    def check(self) -> None:
        """Raises Cancelled when somebody asked the run to stop, Fenced when it is another's."""
        self._pulse.check()

    def epoch(self, epoch: Epoch) -> None:
        self._history.append(vars(epoch))
        pace = self._pace()
        self._note(epoch=epoch.epoch, history=self._history, pace=pace)
        log.info(
            "%s: epoch %d of %d, train loss %.4f, plain %.4f, valid loss %.4f, "
            "valid accuracy %.4f%s",
            epoch.stage,
            epoch.epoch,
            self._epochs,
            epoch.train_loss,
            epoch.plain_loss,
            epoch.valid_loss,
            epoch.accuracy,
            left(pace["left_s"], pace["stage_left_s"]),
        )

    def parted(self, images: int) -> None:
        self._note(plan=self._plan() | {"part": images})

    def finder(self, finder: Finder) -> None:
        self._note(finder=vars(finder))
        given = self._plan()["lr"]
        used = "" if given is None else f"; {given:.1e} was given and is used"
        log.info("lr-find: %.1e (%s)%s", finder.chosen, finder.why, used)

    def _pace(self) -> dict[str, Any]:
        self._told = time.monotonic()
        return self._forecast.told(self._told)

    def _note(self, **fields: Any) -> None:
        """A database that is away for a while ends no training."""
        patience.through(
            self._home, lambda: attempts.note(self._home, self._lease, **fields), self.check
        )

    def _plan(self) -> dict[str, Any]:
        run = patience.through(
            self._home, lambda: records.show(self._home, self._lease.run), self.check
        )
        plan: dict[str, Any] = run["settings"]
        return plan
