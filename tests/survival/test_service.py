"""`kill -9` of the service: what was acknowledged is there, once."""

# B023: what is waited for is asked before the loop goes on.

import hashlib
import itertools
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import select

from tests.conftest import COLOURS, coloured
from tests.survival.place import (
    RECIPE,
    Place,
    end,
    free,
    kill,
)
from tests.toploss.deciding import consistent
from toploss import models, records, schema
from toploss.states import ACTIVE, RunState

ACTIONS = ("confirm", "relabel", "exclude", "skip")


class Service:
    """`bentoml serve`, always on the same port."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.port = next(port for port in range(4101, 4199, 2) if free(port))
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


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "victims",
    [
        ("worker", "service"),
        pytest.param(("worker",) * 3, marks=SLOW),
        pytest.param(("service",) * 3, marks=SLOW),
    ],
    ids=" ".join,
)
def test_what_the_service_acknowledged_survives_kill_9(
    learned_place: Callable[..., Place], victims: tuple[str, ...]
) -> None:
    place = learned_place()
    service = Service(place)
    service.start()
    reviewer = Reviewer(service.port)
    reviewer.start()

    downs = []
    for kills, victim in enumerate(victims, start=1):
        place.until(lambda: len(reviewer.answers) >= 15 * kills or reviewer.wrong)  # noqa: B023
        family = service.workers()
        began = time.monotonic()
        if victim == "service":
            kill(service.process)
            place.until(lambda: not any(p.is_running() for p in family), 10)  # noqa: B023
            assert free(service.port)
            service.start()
        else:
            dead = service.answering()
            dead.kill()
            place.until(lambda: not dead.is_running())  # noqa: B023
            place.until(service.ready)  # BentoML starts another
        downs.append(round(time.monotonic() - began, 1))
    place.until(lambda: len(reviewer.answers) >= 15 * (kills + 1) or reviewer.wrong)
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
    end(service.process)
    place.until(lambda: not any(process.is_running() for process in family), 10)
    assert free(service.port)
    print(
        f"killed: {', '.join(victims)}; {2 * len(reviewer.answers)} acknowledged, all there; "
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
