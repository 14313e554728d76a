"""0.1.0's servers and today's side by side on one database, under traffic, while it is upgraded."""

import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import COLOURS, coloured, write_folder
from tests.service.running import answers, command, free_port, soon
from tests.toploss.deciding import consistent
from toploss.database import Database
from toploss.home import Home
from toploss.schema import REVISION
from toploss.settings import PREFIX, read_settings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
OLD = "33e5d04"  # the commit of 0.1.0
PACE_S = {"predict": 0.05, "list": 0.5, "decide": 0.25, "post": 0.25}  # between two requests
SOME_S = 4.0  # of traffic, before and after each step
LEAVES_S = 1.0  # that a server goes on after no more is sent to it, as `preStop` has it


@pytest.fixture(scope="module")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    packed = subprocess.run(["git", "archive", OLD], cwd=ROOT, capture_output=True)
    if packed.returncode:
        pytest.skip(f"the history back to 0.1.0 ({OLD}) is not here: {packed.stderr.decode()[:80]}")
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@dataclass
class Place:
    """One home, and who works on it."""

    folder: Path

    def environment(self, code: Path, bentoml: str = "bentoml") -> dict[str, str]:
        (self.folder / bentoml).mkdir(exist_ok=True)
        outside = ("BENTOML", "PYTHON", "PROMETHEUS", PREFIX)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(outside)}
        ours = {
            "HOME": str(self.folder / "home"),
            "THREADS": "1",
            "POLL_S": "0.2",
            "GATE_CANNOT_TELL": "promote",
        }
        return {
            **kept,
            **{PREFIX + name: value for name, value in ours.items()},
            "BENTOML_HOME": str(self.folder / bentoml),
            "PYTHONPATH": str(code),
        }

    def toploss(self, code: Path, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "training.cli", *arguments, "--json"],
            cwd=code,
            env=self.environment(code),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    @contextmanager
    def server(self, code: Path, name: str) -> Iterator["Server"]:
        port, log = free_port(), self.folder / f"{name}.txt"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command(port), cwd=code, env=self.environment(code, name), stdout=out, stderr=out
            )
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            server = Server(name=name, process=process, client=client, log=log)
            try:
                soon(lambda: answers(client), seconds=120, process=process, log=log)
                yield server
            finally:
                if process.poll() is None:
                    process.terminate()
                process.wait(60)


@dataclass
class Server:
    name: str
    process: subprocess.Popen[bytes]
    client: httpx.Client
    log: Path


@dataclass
class Balancer:
    """Sends each request to the next server that is ready, once, as a cluster's Service does."""

    servers: list[Server] = field(default_factory=list)
    ready: list[Server] = field(default_factory=list)
    seen: list[tuple[str, str, int | str]] = field(default_factory=list)  # what, by whom, how
    _turn: Iterator[int] = field(default_factory=itertools.count)
    stopped: threading.Event = field(default_factory=threading.Event)

    def probe(self) -> None:
        while not self.stopped.wait(0.1):
            self.ready = [server for server in self.servers if answers(server.client)]

    def send(self, what: str, method: str, path: str, **more: Any) -> httpx.Response | None:
        there = self.ready
        server = there[next(self._turn) % len(there)]
        try:
            answer = server.client.request(method, path, **more)
        except httpx.TransportError as exc:
            self.seen.append((what, server.name, repr(exc)))
            return None
        self.seen.append((what, server.name, answer.status_code))
        return answer

    def steadily(self, what: str, once: Callable[[], object]) -> threading.Thread:
        def go() -> None:
            due = time.monotonic()
            while not self.stopped.is_set():
                once()
                due = max(due + PACE_S[what], time.monotonic())
                self.stopped.wait(due - time.monotonic())

        return threading.Thread(target=go, name=what)

    def leave(self, server: Server) -> None:
        """No more is sent to it; then it is asked to end."""
        self.servers.remove(server)
        self.ready = [other for other in self.ready if other is not server]
        time.sleep(LEAVES_S)
        server.process.terminate()
        server.process.wait(60)


class Traffic:
    """What users do meanwhile."""

    def __init__(self, through: Balancer) -> None:
        self._through, self._send = through, through.send
        self._numbers, self._turn = itertools.count(10_000), itertools.count()
        self.decided: list[str] = []  # ids of decisions that were answered
        self.posted: list[str] = []
        self.threads = [through.steadily(name, getattr(self, name)) for name in PACE_S]
        self.threads.append(threading.Thread(target=through.probe, name="probe"))

    @contextmanager
    def flowing(self) -> Iterator[None]:
        for thread in self.threads:
            thread.start()
        try:
            yield
        finally:
            self._through.stopped.set()
            for thread in self.threads:
                thread.join(60)

    def predict(self) -> None:
        image = coloured("red", next(self._numbers))
        self._send("predict", "POST", "/predict", files={"image": image})

    def list(self) -> None:
        self._send("list", "GET", "/v1/top-losses?limit=20")

    def decide(self) -> None:
        page = self._send("look", "GET", "/v1/top-losses?limit=20&state=all")
        if page is None or page.status_code != 200:
            return
        number = next(self._turn)
        item = page.json()["items"][number % len(page.json()["items"])]
        action = ("confirm", "relabel", "exclude", "skip")[number % 4]
        body = {"sample": item["id"], "action": action, "revision": item["revision"]}
        if action == "relabel":
            body["label"] = next(name for name in COLOURS if name != item["label"])
        answer = self._send("decide", "POST", "/v1/decisions", json=body)
        if answer is not None and answer.status_code == 201:
            self.decided.append(answer.json()["id"])

    def post(self) -> None:
        number = next(self._numbers)
        label = list(COLOURS)[number % len(COLOURS)]
        given = {"files": {"image": coloured(label, number)}, "data": {"label": label}}
        answer = self._send("post", "POST", "/v1/samples", **given)
        if answer is not None and answer.status_code == 201:
            self.posted.append(answer.json()["id"])


@pytest.mark.timeout(1200)
def test_no_request_fails_while_0_1_0_is_upgraded_under_traffic(
    old_code: Path, tmp_path: Path
) -> None:
    place = Place(tmp_path)
    images = write_folder(tmp_path / "images")
    place.toploss(old_code, "import", str(images))
    brief = {"arch": "resnet18", "weights": "none", "size": 32, "batch-size": 8}
    brief |= {"epochs-head": 1, "epochs-all": 1, "lr": 3e-3}
    flags = [word for name, value in brief.items() for word in (f"--{name}", str(value))]
    trained = place.toploss(old_code, "train", *flags)
    place.toploss(old_code, "models", "promote", trained["version"])

    balancer = Balancer()
    traffic = Traffic(balancer)
    with ExitStack() as stack:
        old = [stack.enter_context(place.server(old_code, f"old-{n}")) for n in (1, 2)]
        balancer.servers += old
        balancer.ready = list(old)
        with traffic.flowing():
            time.sleep(SOME_S)
            upgraded = place.toploss(ROOT, "db", "upgrade")
            before = len(balancer.seen)
            time.sleep(SOME_S)  # both of 0.1.0 on today's tables
            since = Counter(balancer.seen[before:])
            for number, leaving in enumerate(old, start=1):
                balancer.servers.append(stack.enter_context(place.server(ROOT, f"new-{number}")))
                time.sleep(SOME_S)
                balancer.leave(leaving)
            time.sleep(SOME_S)

    wrong = [one for one in balancer.seen if one[2] not in (200, 201)]
    print(Counter(balancer.seen))
    assert wrong == []
    assert (upgraded["before"], upgraded["after"]) == ("0001", REVISION)
    for server, what in itertools.product(("old-1", "old-2"), ("predict", "decide", "post")):
        assert since[(what, server, 200 if what == "predict" else 201)], (server, what)
    assert {name for _, name, _ in balancer.seen} == {"old-1", "old-2", "new-1", "new-2"}
    _check_what_is_there(place, traffic, trained["version"])
    _check_that_0_1_0_comes_not_back(place, old_code)


def _check_what_is_there(place: Place, traffic: Traffic, version: str) -> None:
    late = place.toploss(ROOT, "db", "upgrade")
    assert late["late"] > 0
    home = Home.open(read_settings(home=place.folder / "home"))
    with home.db.read() as connection:
        events = connection.exec_driver_sql("SELECT id, kind FROM sample_events").all()
        samples = connection.exec_driver_sql("SELECT id FROM samples").scalars().all()
    told = {event.id for event in events if event.kind not in ("add", "label", "conflict")}
    assert told == set(traffic.decided)
    assert set(traffic.posted) <= set(samples)
    consistent(home, version)
    home.db.close()


def _check_that_0_1_0_comes_not_back(place: Place, old_code: Path) -> None:
    """Its code refuses every schema but its own, which no later release can change."""
    done = subprocess.run(
        command(free_port()),
        cwd=old_code,
        env=place.environment(old_code),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "use the newer release that made it" in done.stderr
    assert Database(f"sqlite:///{place.folder}/home/toploss.db").revision() == REVISION
