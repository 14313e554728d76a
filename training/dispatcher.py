"""From the queue to a launched training, and from its end to a settled run.

Level-triggered: every step compares what the database says with what this process launched, and
does the next thing. It may be killed and started again at any point, and several may run: the
queue lets one of them act.
"""

import contextlib
import logging
import signal
import threading
import time

from toploss import erasure, policy, records, retention, runs, upkeep
from toploss.errors import Broken, Fenced
from toploss.home import Home
from toploss.processes import identity
from toploss.retention import Rules
from toploss.runs import ACTIVE, Lease, RunState
from toploss.watch import Watch
from training.launchers import PATIENCE_S, Launcher

log = logging.getLogger("toploss.dispatcher")

STEP_S = 1.0
FIRST_PRUNE_S, PRUNE_S = 3600.0, 24 * 3600.0  # after its start, and after the last one
PRUNED_AT_ONCE = 10  # versions, checkpoints and logs


class Dispatcher:
    """One of these per process."""

    def __init__(self, home: Home, launcher: Launcher) -> None:
        self._home, self._launcher = home, launcher
        self._lease: Lease | None = None  # of the run that we launched
        self._cancel_seen: float | None = None  # when, by the monotonic clock
        self._promotion = Watch(home)
        self._prune_at = time.monotonic() + FIRST_PRUNE_S

    @property
    def busy(self) -> bool:
        return self._lease is not None

    def step(self) -> None:
        """Do whatever is next; never waits for a training."""
        self._promotion.step()
        if self._lease is None:
            self._find()
        if self._lease is not None:
            self._watch(self._lease)
        runs.reap(self._home)
        if self._lease is None:
            self._ask_if_due()
            lease = runs.claim(self._home, owner=identity())
            if lease is not None:
                self._lease = lease  # first: whatever happens now, it is ours to watch
                self._launcher.launch(lease)
        upkeep.step(self._home)
        erasure.finish(self._home)
        self._prune()

    def run(self, stop: threading.Event) -> None:
        """Step until `stop` is set; then end what was launched, back into the queue."""
        log.info("dispatching for %s", self._home.settings.home)
        while not stop.is_set():
            try:
                self.step()
            except Broken as exc:
                log.error("%s", exc)  # the database or the storage is away; try again
            except Exception:
                log.exception("a step has failed; the next one tries again")
            stop.wait(STEP_S)
        self.close()

    def run_once(self) -> str | None:
        """Take the waiting run, if there is one, and see it to its end; returns its id."""
        self.step()
        taken = None if self._lease is None else self._lease.run
        while self.busy:
            time.sleep(STEP_S / 4)
            assert self._lease is not None
            self._watch(self._lease)
        return taken

    def close(self) -> None:
        """End what was launched, and its run goes back into the queue; or leave it, if it goes on
        without us."""
        if self._lease is None:
            return
        if self._launcher.outlives:
            log.info("run %s goes on; the next dispatcher finds it", self._lease.run)
            self._forget()
            return
        self._launcher.stop()
        with contextlib.suppress(Fenced):  # it had ended by itself
            runs.give_up(self._home, self._lease, error="its dispatcher was stopped", lost=False)
        self._lease = None

    def _watch(self, lease: Lease) -> None:
        self._speak_for(lease)
        code = self._launcher.poll()
        run = records.show(self._home, lease.run)
        ours = run["attempt"] == lease.fence and run["state"] in ACTIVE
        if code is not None:
            if ours:
                error = f"the training ended without a word (exit code {code}); see its log"
                error = self._launcher.reason() or error
                state = runs.give_up(self._home, lease, error=error)
                log.warning("run %s: %s; now %s", lease.run, error, state)
            else:
                log.info("run %s has %s", lease.run, run["state"])
            self._forget()
        elif not ours and run["state"] != RunState.SUCCEEDED:
            self._launcher.stop()  # fenced out: what it does counts no more
            self._forget()
        elif run["cancel_asked"]:
            self._cancel_seen = self._cancel_seen or time.monotonic()
            if time.monotonic() - self._cancel_seen > PATIENCE_S:
                self._launcher.stop()

    def _prune(self) -> None:
        """A few things at a time, so that no run waits for it; then not until tomorrow."""
        if not self._home.settings.prune or time.monotonic() < self._prune_at:
            return
        self._prune_at = time.monotonic() + PRUNE_S
        rules = Rules.from_settings(self._home.settings)
        found = retention.prune(self._home, rules, most=PRUNED_AT_ONCE)
        if found.going:
            self._prune_at = 0.0  # there may be more
            log.info("pruned: %s", found.told())

    def _find(self) -> None:
        """An attempt that goes on, and whose dispatcher may have died."""
        lease = runs.active(self._home) if self._launcher.outlives else None
        if lease is not None and self._launcher.find(lease):
            self._lease = lease

    def _speak_for(self, lease: Lease) -> None:
        """Until the trainer has taken its run up, which takes as long as it takes to start, only
        we can say that it lives."""
        if records.show(self._home, lease.run)["state"] == RunState.LEASED:
            with contextlib.suppress(Fenced):
                runs.beat(self._home, lease)

    def _forget(self) -> None:
        self._lease = self._cancel_seen = None

    def _ask_if_due(self) -> None:
        due = policy.due(self._home)
        if due.due:
            reason = f"policy: {due.why}"
            run = runs.enqueue(self._home, reason=reason, actor="policy", kind=due.kind)
            log.info("run %s is due: %s", run["id"], due.why)


def until_stopped(dispatcher: Dispatcher) -> None:
    """Run in the foreground until SIGINT or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    dispatcher.run(stop)
