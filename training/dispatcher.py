"""From the queue to a launched training, and from its end to a settled run.

Level-triggered: every step compares what the database says with what this process launched, and
does the next thing. It may be killed and started again at any point, and several may run: the
queue lets one of them act.
"""

import contextlib
import logging
import math
import signal
import threading
import time
from typing import Any

from toploss import (
    arrears,
    attempts,
    erasure,
    policy,
    records,
    retention,
    runs,
    settling,
    upkeep,
    vitals,
)
from toploss.attempts import Lease
from toploss.errors import Broken, Fenced
from toploss.home import Home
from toploss.processes import identity
from toploss.retention import Rules
from toploss.states import ACTIVE, BAD_DATA, Cause, RunState
from toploss.watch import Watch
from training.launchers import PATIENCE_S, Launcher

log = logging.getLogger("toploss.dispatcher")

STEP_S = 1.0
SAY_S = 10.0  # between two words that it works
FIRST_PRUNE_S, PRUNE_S = 3600.0, 24 * 3600.0  # after its start, and after the last one
UNTIDY_S = 60  # after a failure
PRUNED_AT_ONCE = 10  # versions, checkpoints and logs
HUNG = 10  # leases of silence after which a training is ended, whatever it does


class Dispatcher:
    """One of these per process."""

    def __init__(self, home: Home, launcher: Launcher) -> None:
        self._home, self._launcher = home, launcher
        self._lease: Lease | None = None  # of the run that we launched
        # When, by the monotonic clock:
        self._launched = 0.0
        self._cancel_seen: float | None = None
        self._silent_since: float | None = None
        self._away = -math.inf  # the database or the storage could not be used
        self._promotion = Watch(home)
        self._say_at = 0.0
        self._tidy_at = 0.0
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
        if self._lease is None:
            # Who was away with us for a while gets a lease's time to speak again.
            heard = time.monotonic() - self._away > self._home.settings.lease_s
            attempts.reap(self._home, silent=heard)
            self._ask_if_due()
            lease = runs.claim(self._home, owner=identity())
            if lease is not None:
                self._launch(lease)
        self._tidy()
        self._say()

    def run(self, stop: threading.Event) -> None:
        """Step until `stop` is set; then end what was launched, back into the queue."""
        log.info("dispatching for %s", self._home.settings.home)
        while not stop.is_set():
            try:
                self.step()
            except Broken as exc:
                self._wait_for(exc)
            except Exception:
                log.exception("a step has failed; the next one tries again")
            stop.wait(STEP_S)
        self.close()

    def run_once(self) -> str | None:
        """Take the waiting run, if there is one, and see it to its end; returns its id."""
        self.step()
        taken = None if self._lease is None else self._lease.run
        while self._lease is not None:
            time.sleep(STEP_S / 4)
            try:
                self._watch(self._lease)
            except Broken as exc:
                self._wait_for(exc)
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
        try:
            attempts.give_up(
                self._home, self._lease, error="its dispatcher was stopped", lost=False
            )
        except Fenced:
            pass  # it had ended by itself
        except Broken as exc:
            log.error("%s; the next dispatcher finds that its process has ended", exc)
        self._lease = None

    def _launch(self, lease: Lease) -> None:
        try:
            self._launcher.launch(lease)
        except Exception as exc:  # whatever it is, the run is ours and must not wait in vain
            state = attempts.give_up(
                self._home, lease, error=f"it cannot be launched: {exc}", cause=Cause.AWAY
            )
            log.error("run %s cannot be launched: %s; now %s", lease.run, exc, state)
            return
        self._lease, self._launched = lease, time.monotonic()

    def _watch(self, lease: Lease) -> None:
        self._speak_for(lease)
        code = self._launcher.poll()
        run = records.show(self._home, lease.run)
        ours = run["attempt"] == lease.fence and run["state"] in ACTIVE
        if code is not None:
            if ours:
                bad = code == BAD_DATA
                error = f"the training ended without a word (exit code {code}); see its log"
                error = self._launcher.reason() or error
                self._give_up(lease, error, Cause.BAD_DATA if bad else Cause.LOST)
            else:
                log.info("run %s has %s", lease.run, run["state"])
            self._forget()
        elif ours:
            self._attend(lease, run)
        elif run["attempt"] != lease.fence or run["state"] != RunState.SUCCEEDED:
            self._launcher.stop()  # fenced out: what it does counts no more
            self._forget()
        else:  # it tidies up
            self._silent_since = self._silent_since or time.monotonic()
            if time.monotonic() - self._silent_since > HUNG * self._home.settings.lease_s:
                self._launcher.stop()

    def _tidy(self) -> None:
        """What nobody waits for. Where it fails, as on a damaged version, the queue goes on."""
        if time.monotonic() < self._tidy_at:
            return
        try:
            if not self.busy:  # it may take longer than a lease lasts
                settling.finish(self._home)
            arrears.follow(self._home)
            upkeep.step(self._home)
            erasure.finish(self._home)
            self._prune()
        except Broken as exc:
            log.error("%s; tried again in %d s", exc, UNTIDY_S)
            self._tidy_at = time.monotonic() + UNTIDY_S

    def _say(self) -> None:
        """Whoever watches over the installation hears that steps come to their end. Not while a
        silent training may keep all writers waiting: we have it to end."""
        if time.monotonic() >= self._say_at and self._silent_since is None:
            self._say_at = time.monotonic() + SAY_S
            vitals.dispatches(self._home)

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
        lease = attempts.active(self._home) if self._launcher.outlives else None
        if lease is not None and self._launcher.find(lease):
            self._lease, self._launched = lease, time.monotonic()

    def _speak_for(self, lease: Lease) -> None:
        """Until the trainer has taken its run up, which takes as long as it takes to start, only
        we can say that it lives."""
        if records.show(self._home, lease.run)["state"] == RunState.LEASED:
            with contextlib.suppress(Fenced):
                attempts.beat(self._home, lease)

    def _attend(self, lease: Lease, run: dict[str, Any]) -> None:
        """The attempt goes on, unless somebody stops it, it takes too long, or falls silent."""
        now, settings = time.monotonic(), self._home.settings
        if run["cancel_asked"]:
            self._cancel_seen = self._cancel_seen or now
            if run["state"] == RunState.LEASED or now - self._cancel_seen > PATIENCE_S:
                self._launcher.stop()
        elif 0 < settings.run_limit_s < now - self._launched:
            error = f"it took longer than TOPLOSS_RUN_LIMIT_S={settings.run_limit_s:g} seconds"
            self._stop(lease, f"{error}; `toploss runs resume` goes on where it stood")
        elif attempts.silent(self._home, lease):
            self._silent_since = self._silent_since or now
            silence = now - self._silent_since
            # It may be at its last, long transaction, which keeps its own pulse waiting: `give_up`
            # waits for that too. But it may have stopped in the midst, and keep us all waiting.
            if silence > HUNG * settings.lease_s:
                self._launcher.stop()
            elif silence > settings.lease_s:
                self._give_up(lease, attempts.SILENT, Cause.LOST)
                self._launcher.stop()
                self._forget()
        else:
            self._silent_since = None

    def _stop(self, lease: Lease, error: str) -> None:
        """For good: the same again would take as long."""
        self._give_up(lease, error, Cause.TIME_LIMIT)
        self._launcher.stop()
        self._forget()

    def _give_up(self, lease: Lease, error: str, cause: Cause) -> None:
        try:
            state = attempts.give_up(self._home, lease, error=error, cause=cause)
        except Fenced:
            return  # it has ended in that moment
        log.warning("run %s: %s; now %s", lease.run, error, state)

    def _wait_for(self, exc: Broken) -> None:
        """The database or the storage is away; the next step tries again."""
        self._away = time.monotonic()
        log.error("%s", exc)

    def _forget(self) -> None:
        self._lease = self._cancel_seen = self._silent_since = None

    def _ask_if_due(self) -> None:
        due = policy.due(self._home)
        if due.kind is not None:
            reason = f"policy: {due.why}"
            run = runs.enqueue(self._home, reason=reason, actor="policy", kind=due.kind)
            log.info("run %s is due: %s", run["id"], due.why)


def until_stopped(dispatcher: Dispatcher) -> None:
    """Run in the foreground until SIGINT or SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    dispatcher.run(stop)
