"""A play of the fault matrix: who works on a run, and what can be done to them."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from tests.survival.databases import Server
from tests.survival.matrix import Case
from tests.survival.place import ROOT
from toploss import records, runs
from toploss.errors import Broken, Refused
from toploss.home import Home
from toploss.schema import runs as table
from toploss.settings import PREFIX, read_settings
from toploss.states import ACTIVE, RunState

LEASE_S = 3


class Forks:
    """Where dispatchers come from."""

    def __init__(self) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.survival.actor"],
            cwd=ROOT,
            env=kept | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._one = threading.Lock()

    def fork(self, name: str, environment: dict[str, str]) -> psutil.Process:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._one:
            wanted = {"name": name, "environment": environment}
            print(json.dumps(wanted), file=self._process.stdin, flush=True)
            return psutil.Process(int(self._process.stdout.readline()))

    def end(self) -> None:
        self._process.communicate()  # it ends with its input


class Witness(threading.Thread):
    """Looks at the queue all the time, and remembers what must not be."""

    def __init__(self, home: Home) -> None:
        super().__init__(daemon=True)
        self._home, self._before = home, {}
        self.wrong: list[str] = []
        self.looks = 0
        self.over = threading.Event()

    def run(self) -> None:
        query = select(table.c.id, table.c.state, table.c.fence).order_by(table.c.id)
        while not self.over.wait(0.01):
            try:
                with self._home.db.read() as connection:
                    rows = connection.execute(query).all()
            except Broken:
                continue
            self.looks += 1
            self._judge({row.id: (RunState(row.state), row.fence) for row in rows})

    def _judge(self, now: dict[str, tuple[RunState, int]]) -> None:
        states = [state for state, _ in now.values()]
        if sum(state in ACTIVE for state in states) > 1 or states.count(RunState.QUEUED) > 1:
            self.wrong.append(f"two at once: {now}")
        for run, (state, fence) in now.items():
            was, before = self._before.get(run, (state, fence))
            if fence < before or (was not in (*ACTIVE, RunState.QUEUED) and state != was):
                self.wrong.append(f"{run} went from {was} {before} to {state} {fence}")
        self._before = now


@dataclass
class Play:
    """A home, who works on it, and what can be done to them."""

    case: Case
    home: Home
    folder: Path
    server: Server | None
    stack: ExitStack
    environment: dict[str, str]
    forks: Forks
    dispatchers: dict[str, psutil.Process] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)  # that were acknowledged

    # What is done

    def kill_trainer(self) -> None:
        self.hard(self.trainer())

    def kill_dispatcher(self) -> None:
        self.kill("a")
        self.dispatch("b")

    def kill_both(self) -> None:
        self.hard(self.trainer())
        self.kill_dispatcher()

    def kill_dispatcher_of_lost(self) -> None:
        self.kill_dispatcher()

    def kill_database(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.free()
        time.sleep(1)
        self.server.start()

    kill_database_of_lost = kill_database

    def fill(self) -> None:
        self.during(self.file("full"), self.lost)

    def fill_a_moment(self) -> None:
        self.during(self.file("full"), lambda: time.sleep(1) or True)

    def take_away(self) -> None:
        self.during(self.away(), self.lost)

    def take_away_a_moment(self) -> None:
        self.during(self.away(), lambda: time.sleep(1) or True)

    def look_on(self) -> None:
        self.dispatch("b")
        time.sleep(LEASE_S * 1.5)

    def zombie(self) -> None:
        """It comes back when another attempt has ended."""
        stopped = [self.trainer(), self.dispatchers["a"]]
        # Not in the midst of a transaction: on SQLite nobody could write any more.
        with self.home.db.write():
            for process in stopped:
                process.suspend()
        self.dispatch("b")
        self.free()
        self.until(lambda: self.run()["attempt"] == 2 and self.nothing_is_left())
        for process in stopped[::-1]:
            process.resume()
        self.until(lambda: not alive(stopped[0]))

    def silence(self) -> None:
        trainer = self.trainer()
        trainer.suspend()
        self.free()
        self.until(lambda: not alive(trainer))

    def rival(self) -> None:
        self.dispatch("b")
        time.sleep(1.5)

    def rival_takes_over(self) -> None:
        self.dispatch("b")
        time.sleep(1.5)
        self.kill("a")

    def cancel(self) -> None:
        runs.cancel(self.home, self.reasons_run)

    def cancel_and_kill(self) -> None:
        self.cancel()
        self.kill_trainer()

    def cancel_the_endless(self) -> None:
        trainer = self.trainer()
        self.file("endless")
        self.free()
        self.cancel()
        self.until(lambda: not alive(trainer), 10)

    def cancel_too_late(self) -> None:
        said: list[str] = []

        def cancel() -> None:
            try:
                self.cancel()
            except Refused as exc:
                said.append(str(exc))

        thread = threading.Thread(target=cancel)
        thread.start()
        time.sleep(0.5)
        self.free()
        thread.join()
        assert "it has succeeded already" in said[0]

    def cancel_again(self) -> None:
        with pytest.raises(Refused, match="it has succeeded already"):
            self.cancel()

    def bad_data(self) -> None:
        self.file("bad")

    def last_for_ever(self) -> None:
        self.file("endless")

    # Who does it, and where it stands

    def dispatch(self, name: str) -> None:
        self.dispatchers[name] = self.forks.fork(name, self.environment)
        self.stack.callback(self.hard, self.dispatchers[name])

    def ask(self, reason: str) -> str:
        run = str(runs.enqueue(self.home, reason=reason, actor="test")["id"])
        self.reasons.append(reason)
        return run

    def strike(self) -> None:
        """The run goes to the point; there the fault strikes; and on."""
        hold = self.file(f"hold-{self.case.at}")
        if self.case.fault.endswith("_of_lost"):
            self.file("hold-trainer-1-taken")
        self.reasons_run = self.ask("first")
        self.dispatch("a")
        if self.case.fault.endswith("_of_lost"):
            self.at("trainer-1-taken")
            self.kill_trainer()
            (self.folder / "hold-trainer-1-taken").unlink()
        if self.case.fault == "rival":
            self.dispatch("b")
        self.at(self.case.at)
        if self.case.also:
            asking = threading.Thread(target=self.ask, args=["second"])
            asking.start()  # on SQLite it waits for who is in the midst of a transaction
        getattr(self, self.case.fault)()
        hold.unlink(missing_ok=True)
        if self.case.also:
            asking.join()

    def at(self, point: str) -> None:
        self.until(lambda: (self.folder / f"at-{point}").exists())

    def free(self) -> None:
        (self.folder / f"hold-{self.case.at}").unlink(missing_ok=True)

    def file(self, name: str) -> Path:
        (self.folder / name).touch()
        return self.folder / name

    def away(self) -> Path:
        """A file in the storage's place."""
        storage = Path(self.home.settings.storage)
        storage.mkdir(exist_ok=True)
        storage.rename(self.folder / "gone")
        storage.touch()
        return storage

    def during(self, state: Path, done: Callable[[], object]) -> None:
        self.free()
        self.until(done)
        state.unlink()
        if (self.folder / "gone").exists():
            (self.folder / "gone").rename(state)

    def trainer(self, attempt: int = 1) -> psutil.Process:
        return psutil.Process(int((self.folder / f"pid-{attempt}").read_text()))

    def hard(self, process: psutil.Process) -> None:
        with suppress(psutil.NoSuchProcess):
            process.kill()

    def kill(self, name: str) -> None:
        self.dispatchers[name].kill()
        self.until(lambda: not alive(self.dispatchers[name]))

    def run(self) -> dict[str, Any]:
        return records.show(self.home, self.reasons_run)

    def lost(self) -> bool:
        run = self.run()
        return run["losses"] > 0 or run["state"] == RunState.FAILED

    def nothing_is_left(self) -> bool:
        return all(
            run["state"] not in (*ACTIVE, RunState.QUEUED) for run in records.listed(self.home)
        )

    def until(self, done: Callable[[], object], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with suppress(Broken):
                if done():
                    return
            log = (self.folder / "log.txt").read_text()[-3000:]
            assert time.monotonic() < deadline, f"{self.case}\n{records.listed(self.home)}\n{log}"
            time.sleep(0.02)


def alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def set_up(
    case: Case, folder: Path, stack: ExitStack, template: Path, server: Server | None, forks: Forks
) -> Play:
    """On SQLite where there is no server."""
    given: dict[str, Any] = {"home": folder / "home", "lease_s": LEASE_S, "attempts": 9}
    given |= {"retry_s": 0.2, "away_s": 20 if "database" in case.fault else 0}
    given["home"].mkdir(parents=True)
    (folder / "log.txt").touch()
    if server is not None:
        given["database_url"] = server.made()
    else:
        shutil.copy(template, given["home"])
    given |= dict(case.settings)
    home = Home.open(read_settings(**given))
    stack.callback(home.db.close)
    environment = {PREFIX + key.upper(): str(value) for key, value in given.items()}
    skews = dict(zip(("SKEW_DISPATCHER", "SKEW_TRAINER"), map(str, case.skew), strict=True))
    environment |= {"STAGE": str(folder), **skews}
    return Play(
        case=case,
        home=home,
        folder=folder,
        server=server,
        stack=stack,
        environment=environment,
        forks=forks,
    )


@contextmanager
def play(
    case: Case, folder: Path, template: Path, server: Server | None, forks: Forks
) -> Iterator[Play]:
    """Let the fault strike, and see all to the end."""
    with ExitStack() as stack:
        played = set_up(case, folder, stack, template, server, forks)
        witness = Witness(played.home)
        witness.start()
        stack.callback(witness.over.set)
        played.strike()
        played.until(played.nothing_is_left)
        witness.over.set()
        witness.join()
        assert not witness.wrong
        assert witness.looks > 10
        yield played
