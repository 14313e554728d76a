"""A Kubernetes API with known answers, on loopback: Jobs, pods, logs and events, as far as a
launcher asks. It checks every body against the real schemas, strictly, and fails when told to.
"""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import kubernetes_validate
from kubeflow_trainer_api import models as kubeflow
from kubernetes import client

from training.cluster import Cluster
from training.jobs import JOB, TRAIN_JOB, Form, lease

SCHEMA = "1.37"  # the newest that kubernetes-validate has
NAMESPACE = "toploss"
DROP = 0  # in place of a status: no answer at all; what was asked for is done all the same

Json = dict[str, Any]


class ApiServer:
    """What the cluster knows. A test changes it as a cluster's own controllers would."""

    def __init__(self, form: Form = JOB) -> None:
        self.form = form
        self.jobs: dict[str, Json] = {}
        self.pods: dict[str, Json] = {}
        self.logs: dict[str, str] = {}
        self.sent: list[int] = []  # lines of each answer with a log
        self._stamps: dict[str, list[float]] = {}  # when each line of a log was seen first
        self.events: list[Json] = []
        self.asked: list[tuple[str, str]] = []  # method and path
        self.faults: list[tuple[str, int, dict[str, str]]] = []  # of the next requests that match
        self.denied: set[str] = set()  # `METHOD path`, by regular expression, for ever
        self.made: Callable[[Json], None] = self._pending  # what happens when a Job is made
        self.removed: Callable[[Json], None] = lambda job: None

    def fail(self, status: int, *, on: str = ".", times: int = 1, **headers: str) -> None:
        """Answer the next requests whose `METHOD path` the expression matches with that status."""
        headers = {name.replace("_", "-"): text for name, text in headers.items()}
        self.faults += [(on, status, headers)] * times

    def pod(self, job: str, phase: str = "Pending", number: int = 1, **state: Json) -> Json:
        """A pod of this Job's, in place of the one before, its container in that state."""
        labels = self.form.pods(lease(self.jobs[job]))
        status: Json = {"phase": phase, "conditions": []}
        if state:
            status["containerStatuses"] = [{"name": self.form.container, "state": state}]
        made = {"metadata": {"name": f"{job}-x{number}", "labels": labels}, "status": status}
        self.pods[f"{job}-x{number}"] = made
        return made

    def end(self, job: str, reason: str | None = None, message: str = "") -> None:
        """The Job controller's verdict: complete, or failed for that reason."""
        kind = "Failed" if reason else "Complete"
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        self.jobs[job]["status"] = {"conditions": [condition]}

    def warn(self, name: str, message: str) -> None:
        about = {"name": name}
        at = f"2026-01-01T00:00:{len(self.events):02}Z"
        event = {"type": "Warning", "reason": "FailedCreate", "message": message}
        self.events.append({**event, "involvedObject": about, "lastTimestamp": at})

    def _pending(self, job: Json) -> None:
        self.pod(job["metadata"]["name"])

    # What is asked over HTTP; each returns status and body.

    def answer(self, method: str, path: str, query: dict[str, str], body: Json | None) -> Any:
        batch = NAMESPACE.join(self.form.path)
        core = f"/api/v1/namespaces/{NAMESPACE}"
        if (method, path) == ("POST", batch):
            return self._create(body or {})
        if (method, path) == ("GET", batch):
            return 200, {"items": self._labelled(self.jobs, query)}
        if path.startswith(f"{batch}/"):
            return self._one(method, path.removeprefix(f"{batch}/"), query)
        if path == f"{core}/pods":
            return 200, {"items": self._labelled(self.pods, query)}
        if path == f"{core}/events":
            name = query["fieldSelector"].removeprefix("involvedObject.name=")
            found = [e for e in self.events if e["involvedObject"]["name"] == name]
            return 200, {"items": found}
        if found := re.fullmatch(rf"{core}/pods/([^/]+)/log", path):
            assert query["container"] == self.form.container
            pod = found[1]
            return (200, self._log(pod, query)) if pod in self.pods else (404, status(404, pod))
        return 404, status(404, path)

    def _log(self, pod: str, query: dict[str, str]) -> str:
        lines, stamps = self.logs.get(pod, "").splitlines(), self._stamps.setdefault(pod, [])
        stamps += [time.time()] * (len(lines) - len(stamps))
        since = time.time() - float(query.get("sinceSeconds", "inf"))
        found = [
            f"{datetime.fromtimestamp(int(at), UTC):%FT%T}.{int(at % 1 * 1e9):09}Z {line}"
            for at, line in zip(stamps, lines, strict=True)
            if at >= since
        ]
        self.sent.append(len(found))
        return "".join(f"{line}\n" for line in found[-int(query["tailLines"]) :])

    def _create(self, job: Json) -> Any:
        try:
            check(job)
        except ValueError as exc:
            return 422, status(422, str(exc))
        name = job["metadata"]["name"]
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
            return 422, status(422, name)
        if name in self.jobs:
            return 409, status(409, f'jobs.batch "{name}" already exists')
        self.jobs[name] = {**job, "status": {"active": 1}}
        self.made(self.jobs[name])
        return 201, job

    def _one(self, method: str, name: str, query: dict[str, str]) -> Any:
        if name not in self.jobs:
            return 404, status(404, f'jobs.batch "{name}" not found')
        if method == "DELETE":
            assert query["propagationPolicy"] == "Background", "the default leaves the pods"
            job = self.jobs.pop(name)
            self.removed(job)
            self.pods = {pod: each for pod, each in self.pods.items() if not pod.startswith(name)}
            return 200, {}
        return 200, self.jobs[name]

    def _labelled(self, things: dict[str, Json], query: dict[str, str]) -> list[Json]:
        wanted = dict(part.split("=") for part in query["labelSelector"].split(","))
        return [
            thing
            for thing in things.values()
            if wanted.items() <= thing["metadata"].get("labels", {}).items()
        ]


def check(thing: Json) -> None:
    """Raises ValueError: the schema, strictly read, does not allow it."""
    if thing["apiVersion"] == TRAIN_JOB.api:
        model = getattr(kubeflow, f"TrainerV1alpha1{thing['kind']}")
        found = model.from_dict(thing).to_dict()
        if found != thing:  # what it does not know is left out
            raise ValueError(f"unknown fields: it would be read as {found}")
        return
    try:
        kubernetes_validate.validate(thing, SCHEMA, strict=True)
    except kubernetes_validate.ValidationError as exc:
        raise ValueError(exc.message) from exc


def status(code: int, message: str) -> Json:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "message": message}


class Processes:
    """Pods that are processes of this machine, so that a Job really trains."""

    def __init__(self, server: ApiServer, folder: Path, python: str, env: dict[str, str]) -> None:
        self._server, self._folder, self._python, self._env = server, folder, python, env
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        server.made, server.removed = self._start, self._stop

    def _start(self, job: Json) -> None:
        name = job["metadata"]["name"]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert container["command"] == ["python", "-m"]
        with (self._folder / f"{name}.txt").open("wb") as output:
            process = subprocess.Popen(
                [self._python, "-m", *container["args"]],
                env=self._env,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.started[name] = process
        self._server.pod(name, "Running", running={})
        threading.Thread(target=self._follow, args=(name, process), daemon=True).start()

    def _follow(self, name: str, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        pod = f"{name}-x1"
        self._server.logs[pod] = (self._folder / f"{name}.txt").read_text()
        if name not in self._server.jobs:
            return
        dead = {"exitCode": code if code >= 0 else 128 - code}
        self._server.pod(name, "Failed" if code else "Succeeded", terminated=dead)
        self._server.end(name, "BackoffLimitExceeded" if code else None, "it has failed")

    def _stop(self, job: Json) -> None:
        self.started[job["metadata"]["name"]].terminate()

    def close(self) -> None:
        for process in self.started.values():
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def serving(form: Form = JOB) -> Iterator[tuple[ApiServer, Callable[[], Cluster]]]:
    """A server, and what makes connections to it."""
    server = ApiServer(form)
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(server))
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    clients = []

    def connect() -> Cluster:
        settings = client.Configuration(host=f"http://127.0.0.1:{http.server_address[1]}")
        settings.retries = False
        clients.append(client.ApiClient(settings))
        return Cluster(clients[-1], NAMESPACE, form)

    yield server, connect
    for each in clients:
        each.rest_client.pool_manager.clear()
    http.shutdown()
    http.server_close()
    thread.join()


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            asked = f"{self.command} {url.path}"
            with lock:
                server.asked.append((self.command, url.path))
                fault = next((f for f in server.faults if re.search(f[0], asked)), None)
                if fault is not None:
                    server.faults.remove(fault)
                if any(re.search(each, asked) for each in server.denied):
                    fault = ("", 403, {})
                if fault is None or fault[1] == DROP:
                    query = dict(parse_qsl(url.query))
                    code, said = server.answer(self.command, url.path, query, body)
            if fault is not None and fault[1] == DROP:
                return  # the connection closes without a word
            headers: dict[str, str] = {}
            if fault is not None:
                code, headers = fault[1:]
                said = status(code, "jobs.batch is forbidden" if code == 403 else "a fault")
            self._say(code, said, headers)

        do_POST = do_DELETE = do_GET  # noqa: N815 (the library's names)

        def _say(self, code: int, said: Any, headers: dict[str, str]) -> None:
            data = said.encode() if isinstance(said, str) else json.dumps(said).encode()
            self.send_response(code)
            for name, text in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    return Handler
