"""`bentoml serve service:Toploss`, as a user starts it: real processes, real sockets."""

import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import address
from service.mode import Whole
from tests.monitoring.told import rows
from tests.service.conftest import LABELS, is_problem, plain, publish, settings_for
from tests.service.running import ROOT, Server, command, environment, free_port, served, soon
from toploss import keys, models
from toploss.home import Home
from toploss.schema import REVISION, upgrades


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

    for document in ("/docs.json", "/openapi.json"):
        listed = server.client.get(document).json()["paths"]
        assert set(api.build().openapi()["paths"]) <= set(listed)
        assert {"/livez", "/readyz", "/metrics"} <= set(listed)


def test_metrics_are_merged_and_bounded(server: Server) -> None:
    server.client.get("/v1/samples/" + "a" * 64)
    text = server.client.get("/metrics").text
    assert "toploss_generation 1.0" in text
    assert 'route="/v1/samples/{sample_id}"' in text
    assert "a" * 64 not in text


def test_every_metric_is_told(server: Server) -> None:
    """And none that the table in docs/monitoring.md lacks."""
    wanted = {row.split("`")[1] for row in rows()}
    server.client.post("/predict", files={"image": plain("red")})

    def told() -> bool:
        found = re.findall(r"^# TYPE (toploss_\w+)", server.client.get("/metrics").text, re.M)
        assert set(found) <= wanted
        # The first look at a drift comes after a minute.
        return wanted - set(found) <= {"toploss_drift", "toploss_drift_alarm"}

    soon(told)


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


def test_after_a_roll_back_it_serves_on_the_next_release_s_schema_and_says_so(
    tmp_path: Path,
) -> None:
    home = Home.open(settings_for(tmp_path / "home"))
    with home.db.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        row = {"min_compatible": REVISION, "at": 0.0, "events_told": 0}
        connection.execute(upgrades.insert().values(revision="9999", **row))
    home.db.close()
    with served(tmp_path) as server:
        answer = server.client.get("/readyz")
        assert answer.headers["x-toploss-schema"] == "9999, newer than this release"
        assert server.client.post("/v1/classes", json={"name": "red"}).status_code == 201
        assert "which may use it beside the newer one" in server.log.read_text()


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
    home = Home.open(settings_for(tmp_path / "home"))
    secret = keys.create(home, "ann", "predict")
    home.db.close()
    with served(tmp_path) as server:
        own = ("/", "/docs.json", "/metrics", "/static_content/swagger-ui.css", "/schema.json")
        for path in ("/v1/classes", *own):
            is_problem(server.client.get(path), 401)
        for path in ("/livez", "/readyz"):
            assert server.client.get(path).status_code == 200
        headers = {"authorization": f"Bearer {secret}"}
        assert server.client.get("/metrics", headers=headers).status_code == 200


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
        address.refuse_in_supervisor("127.0.0.1", Whole().ring)
    else:
        with pytest.raises(SystemExit):
            address.refuse_in_supervisor("127.0.0.1", Whole().ring)
    home.db.close()
