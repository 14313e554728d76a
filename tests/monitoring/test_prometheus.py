"""A real Prometheus, with our configuration, rules and key, looks at two replicas under load."""

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.monitoring.told import RULES, asked, expressions
from tests.service.conftest import LABELS, plain, publish, settings_for
from tests.service.drifting import watched
from tests.service.running import ROOT, Server, environment, free_port, served, soon
from toploss import keys, models
from toploss.home import Home

pytestmark = pytest.mark.slow

# What the load below has to move, and by how much at least.
MOVES = {
    'sum(toploss_requests_total{route="/metrics"})': 10,
    'sum(toploss_requests_total{route="/readyz"})': 2,
    'sum(toploss_requests_total{route="/predict",status="200"})': 20,
    'sum(toploss_predictions_total{outcome="answered"})': 20,
    'sum(toploss_predictions_total{outcome="refused"})': 1,
    'sum(toploss_predictions_total{outcome="overloaded"})': 1,
    'sum(toploss_refused_total{reason="no_key"})': 1,
    'sum(toploss_refused_total{reason="room"})': 1,
    "sum(toploss_prediction_stage_seconds_count)": 100,
    "sum(toploss_batch_images_count)": 10,
    "sum(toploss_confidence_count)": 20,
    "sum(toploss_predicted_total)": 20,
    "sum(toploss_uncertain_total)": 1,
    "sum(toploss_novelty_count)": 1,
    "sum(toploss_cache_total)": 20,
    'sum(toploss_captures_total{reason="random"})': 1,
    'sum(toploss_swaps_total{result="done"})': 2,
    "min(toploss_generation)": 1,
    "min(toploss_production_generation)": 1,
    "max(max_over_time(toploss_model_published_timestamp_seconds[10m]))": 0.01,
    'min(toploss_review_samples{state="decided"})': 1,
    "min(toploss_samples)": 1,
    "min(toploss_sample_added_timestamp_seconds)": 0.01,
    "min(toploss_data_changed_timestamp_seconds)": 0.01,
    "min(toploss_changed_samples)": 1,
    "min(toploss_retraining_paused)": 1,
    'min(toploss_run_ended_timestamp_seconds{state="failed"})': 1,
    "min(toploss_dispatcher_seen_timestamp_seconds)": 1,
    "min(toploss_looked_timestamp_seconds)": 1,
    "min(toploss_captures_waiting)": 1,
    'sum(toploss_rollbacks{cause="asked"})': 2,
}


@dataclass(kw_only=True)
class Prometheus:
    client: httpx.Client
    before: dict[str, float] = field(default_factory=dict)

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = self.client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        assert not answer.get("warnings"), (expression, answer)
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def value(self, expression: str) -> float:
        """0, where there is nothing yet."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else 0.0


@contextmanager
def looking(binary: str, folder: Path, ports: list[int], key: str) -> Iterator[Prometheus]:
    """Our own files, with these targets and this key, and every second."""
    folder.mkdir()
    (folder / "key").write_text(key)
    config = (ROOT / "monitoring/prometheus.yml").read_text()
    config = config.replace("15s", "1s").replace("/run/secrets/prometheus_key", "key")
    targets = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    config = re.sub(r"targets: \[.*\]", f"targets: [{targets}]", config)
    (folder / "prometheus.yml").write_text(config)
    shutil.copy(RULES, folder)
    port, log = free_port(), folder / "log.txt"
    command = [
        binary,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:

        def ready() -> bool:
            try:
                return client.get("/-/ready").status_code == 200
            except httpx.TransportError:
                return False

        try:
            soon(ready, process=process, log=log)
            yield Prometheus(client=client)
        finally:
            process.terminate()
            process.wait(20)


def crowd(server: Server) -> None:
    """So many at once, each with an image of its own, until several were refused."""
    refused: list[int] = []

    def ask(lane: int) -> None:
        for number in range(100):
            if len(refused) >= 20:
                return
            image = plain("red", side=1200 + 8 * number + lane)
            answer = server.client.post("/predict", files={"image": image})
            if answer.status_code == 503:
                refused.append(number)

    threads = [threading.Thread(target=ask, args=(lane,)) for lane in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def load(server: Server) -> None:
    for number in range(30):
        image = plain(LABELS[number % 3] if number else "grey", side=20 + number)
        answer = server.client.post("/predict", files={"image": image})
        assert answer.status_code == 200, answer.text
    server.client.post("/predict", files={"image": b"no image"})
    server.client.get("/v1/classes", headers={"authorization": "Bearer wrong"})
    crowd(server)


def review(server: Server) -> None:
    (item,) = server.client.get("/v1/top-losses?limit=1").json()["items"]
    decision = {"sample": item["id"], "action": "confirm", "revision": item["revision"]}
    assert server.client.post("/v1/decisions", json=decision).status_code == 201
    sent = server.client.post(
        "/v1/samples", data={"label": "red"}, files={"image": plain("maroon", side=33)}
    )
    assert sent.status_code == 201, sent.text


@pytest.fixture(scope="module")
def watching(
    prometheus: str,
    unserved: tuple[Path, list[str]],
    export: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    """After the load; the numbers before it are kept."""
    folder = tmp_path_factory.mktemp("watched")
    for place in ("a", "b"):
        (folder / place).mkdir()
    shutil.copytree(unserved[0], folder / "a/home")
    home = Home.open(settings_for(folder / "a/home"))
    admin, key = keys.create(home, "ann", "admin"), keys.create(home, "prometheus", "predict")
    settings = {
        "TOPLOSS_HOME": str(folder / "a/home"),
        "TOPLOSS_QUEUE_SIZE": "1",
        "TOPLOSS_CACHE_BYTES": "1000000",
        "TOPLOSS_CAPTURE_RATE": "1",
    }
    with served(folder / "a", **settings) as first, served(folder / "b", **settings) as second:
        servers = first, second
        for server in servers:
            server.client.headers["authorization"] = f"Bearer {admin}"
        ports = [int(server.client.base_url.port or 0) for server in servers]
        with looking(prometheus, folder / "prometheus", ports, key) as made:
            soon(lambda: made.value("count(toploss_samples)") == 2)
            time.sleep(2)
            made.before = {expression: made.value(expression) for expression in MOVES}
            review(first)
            version = publish(home, export, folder, more=watched)
            models.promote(home, version, reason="test", actor="test")
            soon(lambda: made.value("min(toploss_generation)") == 2)
            for server in servers:
                server.client.get("/readyz")
                load(server)
            assert first.client.post("/v1/retrainings").status_code == 202
            dispatched(folder / "a", home)
            models.rollback(home, reason="test", actor="test")
            home.db.close()
            soon(lambda: bool(made.query("toploss_drift_alarm")), seconds=120)
            time.sleep(20)  # what is read from the database is looked at every 15 seconds
            yield made


def dispatched(folder: Path, home: Home) -> None:
    """A real dispatcher takes the run, whose data are too few, until it has failed."""
    command = [str(Path(sys.executable).parent / "toploss"), "dispatch"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(folder))
    try:
        soon(lambda: ended(home), seconds=180)
    finally:
        process.terminate()
        process.wait(30)


def ended(home: Home) -> bool:
    from toploss import records

    return records.listed(home, limit=1)[0]["ended_at"] is not None


def test_both_replicas_are_read_with_the_key(watching: Prometheus) -> None:
    assert watching.value("sum(up)") == 2
    assert watching.value("sum(toploss_ready)") == 2


@pytest.mark.parametrize("expression", MOVES)
def test_it_moves(watching: Prometheus, expression: str) -> None:
    assert watching.value(expression) - watching.before[expression] >= MOVES[expression]


def test_all_that_is_asked_for_is_there(watching: Prometheus) -> None:
    """With the very labels that are asked for by name, on both replicas."""
    for whose, expression in expressions():
        for name, matchers in asked(expression):
            exact = {one: told for one, told in matchers.items() if re.match("=(?!~)", told)}
            selector = ",".join(f'{one}="{told[1:]}"' for one, told in exact.items())
            if name == "toploss_requests_total":  # its series come with what happens
                selector = ""
            found = watching.query(f"count by (instance) ({name}{{{selector}}})")
            assert len(found) == 2, (whose, name, selector)


def test_every_expression_is_evaluated(watching: Prometheus) -> None:
    for whose, expression in expressions():
        found = watching.query(expression)
        labels = [tuple(sorted(one["metric"].items())) for one in found]
        assert len(set(labels)) == len(labels), whose


def test_every_panel_shows_something(watching: Prometheus) -> None:
    """But what waits for something that has not happened."""
    alerts = {rule["name"] for group in rules(watching) for rule in group["rules"]}
    empty = {
        whose
        for whose, expression in expressions()
        if whose not in alerts and not watching.query(expression)
    }
    assert not empty


def test_the_rules_are_evaluated_and_the_failed_run_is_told(watching: Prometheus) -> None:
    found = [rule for group in rules(watching) for rule in group["rules"]]
    assert len(found) >= 12
    for rule in found:
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule["name"]
    firing = {rule["name"] for rule in found if rule["state"] == "firing"}
    assert "ToplossRunFailed" in firing
    assert not firing & {"ToplossNoReadyReplica", "ToplossRolledBack", "ToplossGateRefuses"}


def rules(watching: Prometheus) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = watching.client.get("/api/v1/rules").json()["data"]["groups"]
    return groups
