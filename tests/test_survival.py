"""`kill -9` at bad moments, of real processes: what was acknowledged is there, nothing is half."""

import hashlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import select

from tests.conftest import COLOURS, QUICK, coloured
from tests.toploss.test_decisions import consistent
from toploss import artifact, models, records, runs, samples, schema
from toploss.home import Home
from toploss.runs import ACTIVE, RunState
from toploss.settings import PREFIX, read_settings
from toploss.splits import Split

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
ACTIONS = ("confirm", "relabel", "exclude", "skip")
RECIPE = [
    f"--{key.replace('_', '-')}={value}" for key, value in (QUICK | {"epochs_head": 1}).items()
]

# Runs in every Python process of the test, before anything else. DIE_AT names one moment per
# attempt at a run; there the trainer ends as by `kill -9`.
REAPER = """
import os, signal, sys, threading
from contextlib import contextmanager

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def moment():
    told = sys.argv[sys.argv.index("--fence") + 1] if "--fence" in sys.argv else "1"
    moments = dict(enumerate(os.environ["DIE_AT"].split(","), start=1))
    return moments.get(int(told))

if os.environ.get("DIE_AT") and {"training.run", "train"} & set(sys.orig_argv):
    from toploss import records, runs
    from toploss.blobs import Blobs
    from toploss.database import Database

    note, put, finish, write = runs.note, Blobs.put_file, runs.finish, Database.write
    finished = threading.Event()

    def noted(*args, **fields):
        note(*args, **fields)
        if fields.get("stage") == moment():  # stage-1 or export: in the midst of it
            threading.Timer(0.2, die).start()

    def placed(self, path, *args, **more):
        put(self, path, *args, **more)
        if path.startswith("versions/") and path.endswith(".onnx") and moment() == "half-copied":
            die()

    def ended(*args, **fields):
        finish(*args, **fields)
        finished.set()
        if moment() == "uncommitted":
            die()

    @contextmanager
    def written(self):
        with write(self) as connection:
            yield connection
        if finished.is_set() and moment() == "committed":
            die()

    runs.note, Blobs.put_file, runs.finish, Database.write = noted, placed, ended, written
"""


@dataclass
class Place:
    """A home in the test's folder, and the processes that work on it."""

    folder: Path
    home: Home
    started: ExitStack
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *command: str, **more: str) -> subprocess.Popen[bytes]:
        """A process of ours; it is ended with the test."""
        log = (self.folder / "log.txt").open("ab")
        with log:
            process = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                cwd=ROOT,
                env={**self.environment, **more},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.started.callback(_end, process)
        return process

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    def run(self) -> dict[str, Any]:
        """The newest one."""
        return records.listed(self.home, limit=1)[0]

    def until(self, done: Callable[[], object], seconds: float = 240) -> float:
        """Wait for it; returns how long it took."""
        began = time.monotonic()
        while not done():
            assert time.monotonic() < began + seconds, f"not in {seconds} s\n{self.log()[-4000:]}"
            time.sleep(0.05)
        return time.monotonic() - began

    def nothing_is_left(self) -> bool:
        """No run is active or waits."""
        return all(
            run["state"] not in (*ACTIVE, RunState.QUEUED) for run in records.listed(self.home)
        )

    def whole(self) -> list[str]:
        """The versions that are visible, every file of every one checked against its hash."""
        found = models.listed(self.home)
        for version in found:
            artifact.fetch(self.home, version, self.folder / "fetched" / version.name)
        return [version.name for version in found]

    def stray_versions(self) -> list[Path]:
        """Folders of versions that have no row."""
        visible = {version.name for version in models.listed(self.home)}
        folders = (Path(self.home.settings.storage) / "versions").iterdir()
        return [folder for folder in folders if folder.name not in visible]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Makes places: on a copy of a home, or on an empty one."""
    with ExitStack() as stack:

        def place(copy_of: Path | None = None, **settings: str) -> Place:
            target = tmp_path / "home"
            if copy_of is not None:
                shutil.copytree(copy_of, target)
            (tmp_path / "bentoml").mkdir()
            (tmp_path / "site").mkdir()
            (tmp_path / "site" / "sitecustomize.py").write_text(REAPER)
            outside = ("BENTOML", "PYTHON", "PROMETHEUS", PREFIX)
            kept = {key: text for key, text in os.environ.items() if not key.startswith(outside)}
            home = Home.open(read_settings(home=target))
            stack.callback(home.db.close)
            made = {
                "TOPLOSS_HOME": str(target),
                "TOPLOSS_THREADS": "1",
                "TOPLOSS_POLL_S": "0.1",
                "BENTOML_HOME": str(tmp_path / "bentoml"),
                "PYTHONPATH": str(tmp_path / "site"),
            }
            given = {PREFIX + key.upper(): value for key, value in settings.items()}
            return Place(folder=tmp_path, home=home, started=stack, environment=kept | made | given)

        yield place


@pytest.fixture
def learned_place(learned: tuple[Path, Any], at: Callable[..., Place]) -> Callable[..., Place]:
    """A place with a version in production, one new image, and a short recipe for the next run."""

    def place(**settings: str) -> Place:
        made = at(learned[0], **settings)
        samples.add(
            made.home, coloured("red", 601), "red", name="x.png", actor="x", split=Split.TRAIN
        )
        with made.home.db.write() as connection:
            plan = connection.execute(select(schema.runs.c.plan)).scalar_one()
            connection.execute(schema.runs.update().values(plan=plan | {"epochs_head": 1}))
        return made

    return place


def asked(place: Place) -> str:
    return str(runs.enqueue(place.home, reason="test", actor="test")["id"])


def trainer_of(dispatcher: subprocess.Popen[bytes]) -> psutil.Process | None:
    children = psutil.Process(dispatcher.pid).children()
    return children[0] if children else None


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


# The service


class Service:
    """`bentoml serve`, always on the same port."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.port = next(port for port in range(4101, 4199, 2) if _free(port))
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)
        place.started.callback(self.client.close)

    def start(self) -> float:
        """Returns the seconds until it was ready."""
        self.process = self._place.start(
            "bentoml", "serve", "service:Toploss", "--port", str(self.port)
        )
        return self._place.until(self.ready)

    def ready(self) -> bool:
        assert self.process.poll() is None, self._place.log()[-4000:]
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def workers(self) -> list[psutil.Process]:
        """All that `bentoml serve` has started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def answering(self) -> psutil.Process:
        """The worker that a request reaches."""
        return next(p for p in self.workers() if "_bentoml_impl.worker.service" in p.cmdline())


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


class Reviewer(threading.Thread):
    """A client that posts a new image and a decision on it, one after the other, and again what
    got no answer, until there is one; remembers every answer."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = []
        self.unknown = 0  # requests that broke off without an answer
        self.kept = 0  # of these, images that turned out to be there already
        self.wrong: list[str] = []  # answers that are none
        self.stop = threading.Event()
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)

    def run(self) -> None:
        with self._client:
            for number in itertools.count():
                if self.stop.is_set() or self.wrong:
                    return
                label = sorted(COLOURS)[number % 3]
                data = coloured(label, 10_000 + number)
                sent = self._post("/v1/samples", files={"image": data}, data={"label": label})
                action = ACTIONS[number % 4]
                decision = {"sample": sent["id"], "action": action, "revision": sent["revision"]}
                if action == "relabel":
                    decision["label"] = sorted(COLOURS)[(number + 1) % 3]
                key = {"Idempotency-Key": f"decision-{number}"}
                decided = self._post("/v1/decisions", json=decision, headers=key)
                assert sent["id"] == hashlib.sha256(data).hexdigest()
                self.answers.append((sent, decision, decided))

    def _post(self, path: str, **request: Any) -> dict[str, Any]:
        again = False
        while True:
            try:
                answer = self._client.post(path, **request)
            except httpx.TransportError as exc:
                again = True
                self.unknown += not isinstance(exc, httpx.ConnectError)
                time.sleep(0.05)
                continue
            if answer.status_code == 503:  # the worker is up, its model not yet
                continue
            if answer.status_code not in (200, 201):
                self.wrong.append(answer.text)
                raise SystemExit
            self.kept += again and answer.status_code == 200
            return dict(answer.json())


@pytest.mark.parametrize("victim", ["service", "worker"])
def test_what_the_service_acknowledged_survives_kill_9(
    learned_place: Callable[..., Place], victim: str
) -> None:
    place = learned_place()
    service = Service(place)
    service.start()
    reviewer = Reviewer(service.port)
    reviewer.start()

    downs = []
    for kills in range(1, 4):
        place.until(lambda: len(reviewer.answers) >= 15 * kills or reviewer.wrong)  # noqa: B023
        family = service.workers()
        began = time.monotonic()
        if victim == "service":
            kill(service.process)
            place.until(lambda: not any(p.is_running() for p in family), 10)  # noqa: B023
            assert _free(service.port)
            service.start()
        else:
            dead = service.answering()
            dead.kill()
            place.until(lambda: not dead.is_running())  # noqa: B023
            place.until(service.ready)  # BentoML starts another
        downs.append(round(time.monotonic() - began, 1))
    place.until(lambda: len(reviewer.answers) >= 60 or reviewer.wrong)
    reviewer.stop.set()
    reviewer.join()

    assert reviewer.wrong == []
    with place.home.db.read() as connection:
        events = connection.execute(select(schema.sample_events)).all()
    for number, (sent, decision, decided) in enumerate(reviewer.answers):
        mine = [event for event in events if event.sample_id == sent["id"]]
        assert [event.kind for event in mine] == ["add", decision["action"]]  # once, no more
        assert (mine[1].id, mine[1].revision) == (decided["id"], decided["revision"])
        assert hashlib.sha256(place.home.blobs.get_image(sent["id"])).hexdigest() == sent["id"]
        again = service.client.post(
            "/v1/decisions", json=decision, headers={"Idempotency-Key": f"decision-{number}"}
        ).json()
        assert {key: again[key] for key in ("id", "sample", "revision")} == {
            key: decided[key] for key in ("id", "sample", "revision")
        }
    with place.home.db.read() as connection:
        assert len(connection.execute(select(schema.sample_events)).all()) == len(events)
    alias = models.production(place.home)
    assert alias is not None
    consistent(place.home, alias.version)
    answer = service.client.post("/predict", files={"image": coloured("red", 1)})
    assert answer.json()["model"] == alias.version

    family = service.workers()
    _end(service.process)
    place.until(lambda: not any(process.is_running() for process in family), 10)
    assert _free(service.port)
    print(
        f"{kills} kills of the {victim}, {2 * len(reviewer.answers)} acknowledged, all there; "
        f"{reviewer.unknown} broke off, {reviewer.kept} of them recorded; down for {downs} s"
    )


def test_an_empty_home_serves_as_soon_as_something_was_learned(at: Callable[..., Place]) -> None:
    """On the way the storage breaks, and the first training is killed."""
    place = at(gate_cannot_tell="promote")
    service = Service(place)
    ready = service.start()
    client = service.client
    post = {"files": {"image": coloured("red", 1)}}

    answer = client.post("/predict", **post)
    assert answer.status_code == 503
    assert "no model yet" in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"

    labelled = [(label, seed) for seed in range(25) for label in COLOURS]
    for label in COLOURS:
        assert client.post("/v1/classes", json={"name": label}).status_code == 201
    for label, seed in labelled:
        file = {"image": coloured(label, seed)}
        answer = client.post("/v1/samples", files=file, data={"label": label})
        assert answer.status_code == 201

    images = Path(place.home.settings.storage) / "images"
    images.rename(images.with_name("elsewhere"))
    images.write_text("a file where the folder was")
    answer = client.post("/v1/samples", data={"label": "red"}, files={"image": coloured("red", 99)})
    assert answer.status_code == 503
    assert "cannot be written to the storage" in answer.json()["detail"]
    assert "TOPLOSS_STORAGE_URL" in answer.json()["detail"]
    images.unlink()
    images.with_name("elsewhere").rename(images)
    assert client.get("/v1/dataset").json()["samples"] == len(labelled)
    answer = client.post("/v1/samples", data={"label": "red"}, files={"image": coloured("red", 99)})
    assert answer.status_code == 201

    killed = place.start("toploss", "train", *RECIPE, DIE_AT="stage-1")
    assert killed.wait(240) == -signal.SIGKILL
    assert place.run()["state"] == "running"
    assert client.post("/predict", **post).status_code == 503

    second = place.start("toploss", "train", *RECIPE)
    place.until(
        lambda: place.run()["state"] == RunState.RUNNING and len(records.listed(place.home)) == 2
    )
    dead = records.listed(place.home)[1]
    assert (dead["state"], dead["error"]) == ("failed", "its process has ended")
    place.until(lambda: place.run()["state"] not in ACTIVE)
    waited = place.until(lambda: client.post("/predict", **post).status_code == 200, 30)
    assert second.wait(60) == 0, place.log()[-4000:]

    answer = client.post("/predict", **post)
    assert answer.headers["x-model-version"] == place.run()["version"]
    assert place.whole() == [place.run()["version"]]
    print(f"ready after {ready:.1f} s, serving {waited:.1f} s after the promotion")


# The dispatcher


def test_a_run_survives_its_dispatchers(learned_place: Callable[..., Place]) -> None:
    """Killed before the trainer has begun, killed in the midst, stopped politely; the fourth
    dispatcher sees the run to its end."""
    place = learned_place(attempts="9")
    before = models.production(place.home)
    run, gone = asked(place), []

    for attempt, stage in ((1, None), (2, "stage-1"), (3, "stage-1")):
        dispatcher = place.start("toploss", "dispatch")
        place.until(
            lambda: (
                place.run()["attempt"] == attempt  # noqa: B023
                and (stage is None or place.run()["state"] == RunState.RUNNING)  # noqa: B023
                and (stage is None or place.run()["stage"] == stage)  # noqa: B023
                and trainer_of(dispatcher)  # noqa: B023
            )
        )
        trainer = trainer_of(dispatcher)
        assert trainer is not None
        if attempt < 3:
            kill(dispatcher)
            gone.append(round(place.until(lambda: not trainer.is_running(), 60), 1))  # noqa: B023
            assert place.run()["state"] in ACTIVE  # nobody could say so yet
        else:
            dispatcher.terminate()
            assert dispatcher.wait(30) == 0
            assert not trainer.is_running()
            assert place.run()["state"] == RunState.QUEUED
            assert place.run()["error"] == "its dispatcher was stopped"
        assert models.production(place.home) == before
        assert len(place.whole()) == 1

    last = place.start("toploss", "dispatch")
    place.until(lambda: place.run()["state"] not in (*ACTIVE, RunState.QUEUED))
    shown = place.run()
    assert (shown["id"], shown["state"], shown["attempt"]) == (run, "succeeded", 4), place.log()
    assert shown["error"] is None
    assert place.nothing_is_left()
    assert place.whole()[0] == shown["version"]
    assert len(models.listed(place.home)) == 2
    place.until(lambda: trainer_of(last) is None)
    last.terminate()
    assert last.wait(30) == 0
    print(f"the trainers were gone {gone} s after their dispatchers")


# The training


def test_a_training_killed_at_every_bad_moment_leaves_nothing_half(
    learned_place: Callable[..., Place],
) -> None:
    moments = ["stage-1", "export", "half-copied", "uncommitted", "committed"]
    place = learned_place(attempts="9")
    before = models.production(place.home)
    run = asked(place)

    dispatcher = place.start("toploss", "dispatch", DIE_AT=",".join(moments))

    for attempt, moment in enumerate(moments[:-1], start=1):
        place.until(lambda: place.run()["attempt"] > attempt)  # noqa: B023
        assert f"exit code {-signal.SIGKILL}" in place.run()["error"], moment
        assert len(place.whole()) == 1, moment
        assert models.production(place.home) == before, moment
    strays = sorted(len(list(folder.iterdir())) for folder in place.stray_versions())
    assert strays[0] < strays[1] == 8  # half-copied, and whole but for its row: the kills struck
    place.until(place.nothing_is_left)
    shown = records.show(place.home, run)
    assert (shown["state"], shown["attempt"]) == ("succeeded", len(moments))
    assert place.whole()[0] == shown["version"]
    assert len(models.listed(place.home)) == 2
    alias = models.production(place.home)
    assert alias is not None
    assert (alias.version == shown["version"]) == shown["gate"]["promoted"]
    consistent(place.home, shown["version"])
    place.until(lambda: trainer_of(dispatcher) is None)
    assert "done in" not in records.read_log(place.home, run)  # it died before it could say so
    assert records.show(place.home, run) == shown


def test_a_training_that_always_dies_fails_with_words(learned_place: Callable[..., Place]) -> None:
    place = learned_place(attempts="1")
    before = models.production(place.home)
    asked(place)

    assert place.start("toploss", "dispatch", "--once", DIE_AT="stage-1").wait(240) == 0

    assert place.run()["state"] == "failed"
    assert "ended without a word (exit code -9); see its log" in place.run()["error"]
    assert "stage-1" in records.read_log(place.home, place.run()["id"])
    assert models.production(place.home) == before
    assert len(place.whole()) == 1
