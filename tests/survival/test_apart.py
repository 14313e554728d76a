"""Processes that share no disk: two services and a dispatcher, on PostgreSQL and S3 alone."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

import training
from tests.conftest import QUICK, coloured, write_folder
from tests.service.running import BENTOML, ROOT, Server, environment, served, soon
from toploss import models, records
from toploss.home import Home
from toploss.schema import alias_moves
from toploss.settings import PREFIX, read_settings
from toploss.states import RunState

EAGER = {
    "RETRAIN_AFTER": "1",
    "RETRAIN_QUIET_S": "0",
    "RETRAIN_COOLDOWN_S": "0",
    "GATE_CANNOT_TELL": "promote",
    "POLL_S": "1",  # as by default
}
PROMISED_S = 10


@dataclass
class Traffic:
    """Somebody who asks a service without a pause."""

    server: Server
    answers: list[tuple[float, str]] = field(default_factory=list)  # when, by which version
    failed: list[str] = field(default_factory=list)

    def ask(self, until: threading.Event) -> None:
        image = coloured("red", 900)
        while not until.is_set():
            try:
                answer = self.server.client.post("/predict", files={"image": image})
                if answer.status_code == 200 and answer.json()["label"] == "red":
                    self.answers.append((time.time(), answer.headers["x-model-version"]))
                else:
                    self.failed.append(f"{answer.status_code} {answer.text[:200]}")
            except httpx.HTTPError as exc:
                self.failed.append(repr(exc))

    def first_of(self, version: str) -> float | None:
        return next((at for at, named in self.answers if named == version), None)


@contextmanager
def asked(*servers: Server) -> Iterator[list[Traffic]]:
    everybody, enough = [Traffic(server) for server in servers], threading.Event()
    threads = [threading.Thread(target=one.ask, args=(enough,)) for one in everybody]
    for thread in threads:
        thread.start()
    try:
        yield everybody
    finally:
        enough.set()
        for thread in threads:
            thread.join()


@contextmanager
def dispatching(folder: Path, **settings: str) -> Iterator[None]:
    folder.mkdir()
    with (folder / "log.txt").open("wb") as out:
        process = subprocess.Popen(
            [str(BENTOML.with_name("toploss")), "dispatch"],
            cwd=ROOT,
            env=environment(folder) | settings,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_the_whole_loop_with_nothing_shared_but_database_and_bucket(
    tmp_path: Path, new_postgres: Callable[[], str], new_s3: Callable[[], dict[str, str]]
) -> None:
    shared = {"database_url": new_postgres(), **new_s3()}
    settings = {f"{PREFIX}{key.upper()}": value for key, value in {**shared, **EAGER}.items()}
    home = Home.open(read_settings(home=tmp_path / "operator", threads=2, **shared))
    training.from_folder(write_folder(tmp_path / "images"), home=home)
    first = training.fit(home=home, **QUICK)
    assert first.gate["promoted"]

    places = {name: tmp_path / name for name in ("one", "two", "dispatcher")}
    for name in ("one", "two"):
        places[name].mkdir()
    with (
        served(places["one"], **settings) as one,
        served(places["two"], **settings) as two,
        dispatching(places["dispatcher"], **settings),
        asked(one, two) as traffic,
    ):
        soon(lambda: all(someone.first_of(first.version) for someone in traffic))
        (worst,) = one.client.get("/v1/top-losses", params={"limit": 1}).json()["items"]
        decision = {"sample": worst["id"], "action": "exclude", "revision": worst["revision"]}
        assert one.client.post("/v1/decisions", json=decision).status_code == 201

        soon(lambda: models.get(home, "production").name != first.version, seconds=300)
        second = models.get(home, "production").name
        soon(lambda: all(someone.first_of(second) for someone in traffic), seconds=60)
        time.sleep(1)  # whatever comes after the swap is answered too
        run = records.listed(home, limit=1)[0]
        log = two.client.get(f"/v1/retrainings/{run['id']}/log").text
        report = one.client.get(f"/v1/retrainings/{run['id']}/report")
        thumbnail = two.client.get(f"/v1/samples/{worst['id']}/thumbnail")

    with home.db.read() as connection:
        newest = select(alias_moves.c.at).order_by(alias_moves.c.generation.desc()).limit(1)
        promoted_at = float(connection.execute(newest).scalar_one())
    home.db.close()
    took = [(someone.first_of(second) or 0) - promoted_at for someone in traffic]
    numbers = [len(someone.answers) for someone in traffic]
    print(f"new version after {took[0]:.1f} and {took[1]:.1f} s; {numbers} answers, none failed")
    assert [someone.failed for someone in traffic] == [[], []]
    assert 0 < max(took) < PROMISED_S
    for someone in traffic:  # each moves once, and never back
        versions = [version for _, version in someone.answers]
        assert versions == sorted(versions)
        assert set(versions) == {first.version, second}
    assert run["state"] == RunState.SUCCEEDED
    assert run["version"] == second
    assert "stage-1: epoch 4 of 4" in log
    assert (report.status_code, thumbnail.status_code) == (200, 200)
    for place in (home.settings.home, *(folder / "home" for folder in places.values())):
        kept = {name for _, _, names in os.walk(place) for name in names}
        assert not {name for name in kept if name.endswith((".db", ".png", ".txt", ".onnx"))}, place
