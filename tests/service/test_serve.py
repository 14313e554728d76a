"""`bentoml serve service:Toploss`, as a user starts it: real processes, real sockets."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from service import address
from tests.service.conftest import LABELS, is_problem, plain, publish, settings_for
from toploss import keys, models
from toploss.home import Home
from toploss.settings import PREFIX

ROOT = Path(__file__).parents[2]
BENTOML = Path(sys.executable).parent / "bentoml"

# Runs in every Python process of the server, before anything else: notes what is imported that a
# server must not need, and every class that an unpickling asks for.
WITNESS = """
import os, sys

def write(said):
    with open(os.environ["WITNESS"], "a") as file:
        file.write(f"{os.getpid()} {said}\\n")

def note(event, args):
    if event == "import" and args[0].partition(".")[0] in ("fastai", "fastcore", "torch"):
        write(f"import {args[0]}")
    elif event == "pickle.find_class":
        write(f"pickle {args[0]}.{args[1]}")

sys.addaudithook(note)
write("watched")
"""


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    client: httpx.Client
    home: Path
    log: Path

    def family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


def environment(folder: Path) -> dict[str, str]:
    """Ours alone: no setting of the caller's, a BentoML home of its own, the witness."""
    witness = folder / "witness"
    witness.mkdir(parents=True, exist_ok=True)
    (witness / "sitecustomize.py").write_text(WITNESS)
    (folder / "bentoml").mkdir(exist_ok=True)
    outside = ("BENTOML", "PYTHON", "PROMETHEUS", PREFIX)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(outside)}
    return {
        **kept,
        "TOPLOSS_HOME": str(folder / "home"),
        "TOPLOSS_THREADS": "1",
        "TOPLOSS_POLL_S": "0.1",
        "BENTOML_HOME": str(folder / "bentoml"),
        "PYTHONPATH": str(witness),
        "WITNESS": str(folder / "witness.txt"),
    }


def free_port() -> int:
    for port in range(3950, 4000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no free port")


def command(port: int, *more: str) -> list[str]:
    return [str(BENTOML), "serve", "service:Toploss", "--port", str(port), *more]


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    port, log = free_port(), folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command(port), cwd=ROOT, env=environment(folder), stdout=out, stderr=out
        )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        server = Server(process=process, client=client, home=folder / "home", log=log)
        try:
            soon(lambda: answers(client), process=process, log=log)
            yield server
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(20)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def soon(
    until: Callable[[], bool],
    *,
    seconds: float = 60,
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        told = log.read_text() if log else ""
        assert process is None or process.poll() is None, told
        assert time.monotonic() < deadline, told
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, export: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    home = Home.open(settings_for(folder / "home"))
    version = publish(home, export, folder)
    models.promote(home, version, reason="test", actor="test")
    home.db.close()
    with served(folder) as running:
        yield running


def test_it_predicts(server: Server) -> None:
    for label in LABELS:
        answer = server.client.post("/predict", files={"image": plain(label)})
        assert answer.json()["label"] == label
        assert answer.headers["x-model-version"] == answer.json()["model"]
    raw = server.client.post(
        "/predict", content=plain("red"), headers={"content-type": "image/png"}
    )
    assert raw.json()["label"] == "red"
    assert server.client.get("/livez").status_code == 200


def test_bentomls_own_answers_pass_the_door(server: Server) -> None:
    is_problem(server.client.get("/nothing"), 404)
    answer = server.client.delete("/readyz")
    is_problem(answer, 405)
    assert "GET" in answer.headers["allow"]
    is_problem(server.client.get("/livez", headers={"host": "evil.example"}), 403)
    is_problem(server.client.post("/predict", content=b"x" * 30_000_000), 413)
    there = server.client.get("/", headers={"accept": "text/html"})
    assert (there.status_code, there.headers["location"]) == (307, "/review")


def test_every_route_stands_in_the_docs(server: Server) -> None:
    from service import api

    listed = server.client.get("/docs.json").json()["paths"]
    assert set(api.build().openapi()["paths"]) <= set(listed)
    assert {"/livez", "/readyz", "/metrics"} <= set(listed)


def test_metrics_are_merged_and_bounded(server: Server) -> None:
    server.client.get("/v1/samples/" + "a" * 64)
    text = server.client.get("/metrics").text
    assert "toploss_generation 1.0" in text
    assert 'route="/v1/samples/{sample_id}"' in text
    assert "a" * 64 not in text


def test_a_promotion_is_followed_and_kept_in_bentomls_store(server: Server, export: Path) -> None:
    home = Home.open(settings_for(server.home))
    version = publish(home, export, server.home)
    models.promote(home, version, reason="test", actor="test")
    home.db.close()
    seen = set()

    def moved() -> bool:
        answer = server.client.post("/predict", files={"image": plain("blue")})
        assert answer.status_code == 200
        seen.add(answer.json()["model"])
        return version in seen

    soon(moved)
    assert len(seen) <= 2
    assert (server.home.parent / "bentoml" / "models" / "toploss" / version).is_dir()


def test_it_knows_no_fastai_and_unpickles_nothing(server: Server) -> None:
    told = (server.home.parent / "witness.txt").read_text().splitlines()
    assert {f"{process.pid} watched" for process in server.family()} <= set(told)
    assert [line for line in told if not line.endswith(" watched")] == []


def test_sigterm_leaves_nothing(server: Server) -> None:
    family = server.family()
    assert len(family) >= 2
    server.process.terminate()
    server.process.wait(20)
    soon(lambda: not any(process.is_running() for process in family), seconds=10)
    assert "Traceback" not in server.log.read_text()


def test_bentoml_reports_nothing_to_its_makers(server: Server) -> None:
    """It marks its home with an identity when it is about to report."""
    assert not (server.home.parent / "bentoml" / "client_id").exists()


def test_an_empty_home_is_ready_and_kill_9_leaves_no_worker(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        answer = server.client.post("/predict", files={"image": plain("red")})
        assert "no model yet" in is_problem(answer, 503)
        assert server.client.post("/v1/classes", json={"name": "red"}).status_code == 201
        family = server.family()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)
        soon(lambda: not any(process.is_running() for process in family), seconds=10)


@pytest.mark.parametrize("how", ["option", "variable", "schema", "setting"])
def test_it_refuses_to_start_in_one_line(tmp_path: Path, how: str) -> None:
    env = environment(tmp_path)
    more: list[str] = []
    if how == "option":
        more = ["--host", "0.0.0.0"]
    elif how == "variable":
        env["BENTOML_HOST"] = "0.0.0.0"
    elif how == "schema":
        (tmp_path / "home").mkdir()
        with sqlite3.connect(tmp_path / "home" / "toploss.db") as raw:
            raw.execute("CREATE TABLE alembic_version (version_num TEXT)")
            raw.execute("INSERT INTO alembic_version VALUES ('9999')")
        raw.close()
    else:
        env["TOPLOSS_QUEUE_SIZE"] = "many"
    run = subprocess.run(
        command(free_port(), *more), cwd=ROOT, env=env, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 1
    (line,) = run.stderr.strip().splitlines()
    wanted = {"option": "0.0.0.0", "variable": "0.0.0.0", "schema": "'9999'", "setting": "'many'"}
    assert wanted[how] in line


def test_with_keys_bentomls_own_routes_are_closed_too(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        home = Home.open(settings_for(server.home))
        secret = keys.create(home, "ann", "predict")
        soon(
            lambda: server.client.get("/v1/classes").status_code == 401,
            process=server.process,
            log=server.log,
        )
        own = ("/", "/docs.json", "/metrics", "/static_content/swagger-ui.css", "/schema.json")
        for path in own:
            is_problem(server.client.get(path), 401)
        for path in ("/livez", "/readyz"):
            assert server.client.get(path).status_code == 200
        headers = {"authorization": f"Bearer {secret}"}
        assert server.client.get("/metrics", headers=headers).status_code == 200
        home.db.close()


@pytest.mark.parametrize("keyed", [False, True])
def test_other_addresses_are_served_with_keys_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keyed: bool
) -> None:
    """Not by a listening server: what the supervisor decides before there is one."""
    home = Home.open(settings_for(tmp_path / "home"))
    monkeypatch.setenv("TOPLOSS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(address, "_command", lambda _: {"host": "0.0.0.0"})
    if keyed:
        keys.create(home, "ann", "admin")
        address.refuse_in_supervisor("127.0.0.1")
    else:
        with pytest.raises(SystemExit):
            address.refuse_in_supervisor("127.0.0.1")
    home.db.close()
