"""The processes that take turns: our server, its peers, and the bare loop."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from toploss.settings import available_cores

ROOT = Path(__file__).parents[2]
LONGEST_START_S = 180
PEERS = ("with_fastapi", "with_litserve", "with_bentoml")


@contextmanager
def ours(home: Path, logs: Path, *, until: str = "/readyz", **settings: str) -> Iterator[str]:
    """Our server on this home, once it answers `until`; its address. On the CPU, if no setting says
    otherwise."""
    settings = {"device": "cpu", **settings}
    said = {f"TOPLOSS_{key.upper()}": value for key, value in settings.items()}
    port = free_port()
    command = [_beside("bentoml"), "serve", "service:Toploss", "--port", str(port)]
    with _running(command, logs / "ours.log", TOPLOSS_HOME=str(home), **said):
        address = f"http://127.0.0.1:{port}"
        _await(lambda: httpx.get(f"{address}{until}").status_code == 200)
        yield address


@contextmanager
def dispatcher(home: Path, logs: Path, **settings: str) -> Iterator[None]:
    """Our dispatcher on this home."""
    said = {f"TOPLOSS_{key.upper()}": value for key, value in settings.items()}
    command = [_beside("toploss"), "dispatch"]
    with _running(command, logs / "dispatcher.log", TOPLOSS_HOME=str(home), **said):
        yield


@contextmanager
def peer(name: str, version: Path, learner: Path, photograph: Path, logs: Path) -> Iterator[str]:
    """One of `PEERS`; its address."""
    port = free_port()
    module = f"bench.serving.peers.{name}"
    on = ("--host", "127.0.0.1", "--port", str(port))
    cores = str(available_cores())
    commands = {
        "with_fastapi": [
            _beside("uvicorn"),
            f"{module}:app",
            "--workers",
            cores,
            *on,
        ],
        "with_litserve": [sys.executable, "-m", module],
        "with_bentoml": [_beside("bentoml"), "serve", f"{module}:Classifier", *on],
    }
    told = {"PEER_MODEL": str(version), "PEER_LEARNER": str(learner), "PEER_PORT": str(port)}
    with _running(commands[name], logs / f"{name}.log", **told):
        address = f"http://127.0.0.1:{port}"
        image = photograph.read_bytes()

        def answers() -> bool:
            answer = httpx.post(f"{address}/predict", files={"image": image}, timeout=30)
            return answer.status_code == 200

        _await(answers)
        yield address


class Bare:
    """The bare loop, which rests until it is asked."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, what: str, seconds: float) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what} {seconds}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def bare(version: Path, photographs: list[Path]) -> Iterator[Bare]:
    command = [sys.executable, "-m", "bench.serving.limit", str(version), *map(str, photographs)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Bare(process)
    finally:
        process.kill()
        process.wait()


def worker(address: str) -> psutil.Process:
    """The process of our server that answers there."""
    for process in psutil.Process().children(recursive=True):
        ours = "_bentoml_impl.worker.service" in process.cmdline()
        if ours and _port(address) in _ports([process]):
            return process
    raise SystemExit(f"nobody answers at {address}")


@contextmanager
def others_at_rest(address: str, addresses: Iterable[str]) -> Iterator[None]:
    """Nobody but the one at `address` runs: some look for work all the time."""
    at_rest = [
        process
        for server in psutil.Process().children()
        for family in [[server, *server.children(recursive=True)]]
        if _port(address) not in (heard := _ports(family)) and heard & set(map(_port, addresses))
        for process in family
    ]
    for process in at_rest:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(at_rest):
            process.resume()


def _ports(family: list[psutil.Process]) -> set[int]:
    """That these listen on."""
    connections = (one for process in family for one in process.net_connections("tcp"))
    return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _beside(program: str) -> str:
    return str(Path(sys.executable).with_name(program))


@contextmanager
def _running(command: list[str], log: Path, **environment: str) -> Iterator[None]:
    """A server with a BentoML home of its own; it ends, with all that it started."""
    store = log.with_suffix(".bentoml")
    store.mkdir(parents=True, exist_ok=True)
    said: Mapping[str, str] = {**os.environ, "BENTOML_HOME": str(store), **environment}
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=said, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield
    except BaseException:
        print(f"the last of {log}:\n{log.read_text()[-2000:]}", file=sys.stderr)
        raise
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await(ready: Any) -> None:
    deadline = time.monotonic() + LONGEST_START_S
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
    raise SystemExit(f"a server was not ready within {LONGEST_START_S} s")
