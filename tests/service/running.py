"""`bentoml serve service:Toploss`, as a user starts it: real processes, real sockets."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

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
        "PYTHONPATH": os.pathsep.join([str(witness), str(ROOT)]),
        "WITNESS": str(folder / "witness.txt"),
    }


def free_port() -> int:
    """One that the system gives: tests beside these would find the same one by counting."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(port: int, *more: str, what: str = "service:Toploss") -> list[str]:
    return [str(BENTOML), "serve", what, "--port", str(port), *more]


@contextmanager
def served(
    folder: Path, *, what: str = "service:Toploss", cwd: Path = ROOT, **settings: str
) -> Iterator[Server]:
    """A server on the home in this folder, until the context ends."""
    port, log = free_port(), folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command(port, what=what),
            cwd=cwd,
            env=environment(folder) | settings,
            stdout=out,
            stderr=out,
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
