"""Trainings over several machines: TrainJobs of Kubeflow, and the processes that they start."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import yaml

from tests.conftest import coloured
from tests.training.apiserver import ApiServer, check, serving
from toploss import attempts, records, runs, samples
from toploss.attempts import Lease
from toploss.home import Home
from toploss.settings import read_settings
from toploss.splits import Split
from training import jobs
from training.dispatcher import Dispatcher
from training.kubernetes import KubernetesLauncher
from training.run import BAD_DATA

TEMPLATE = jobs.TEMPLATE.with_name("trainjob.yaml")
RUNTIME = jobs.TEMPLATE.with_name("runtime.yaml")
LEASE = Lease(run="a" * 26, fence=2)
SETTINGS = {"kubernetes_image": "registry.example/toploss:1", "kubernetes_job": TEMPLATE}


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.kubernetes.ENDING_S", 5)


@pytest.fixture
def house(open_home: Callable[..., Home]) -> Iterator[tuple[Home, ApiServer, Dispatcher]]:
    home = open_home(**SETTINGS)
    with serving(jobs.TRAIN_JOB) as (server, connect):
        yield home, server, Dispatcher(home, KubernetesLauncher(home, connect()))


def begun(home: Home, server: ApiServer, dispatcher: Dispatcher) -> tuple[str, str]:
    """A run whose two pods work; and the name of its TrainJob."""
    run = str(runs.enqueue(home, reason="test", actor="test")["id"])
    dispatcher.step()
    name = f"toploss-{run}-1"
    for number in (1, 2):
        server.pod(name, "Running", number, running={})
    attempts.take_up(home, Lease(run=run, fence=1), owner="pod:1:0")
    dispatcher.step()
    return run, name


def test_an_attempt_is_a_train_job_that_kubeflow_s_own_models_know() -> None:
    settings = read_settings(**SETTINGS, train_processes=4, device="cuda", run_limit_s=60)

    made = jobs.made(settings, LEASE)

    check(made)
    trainer = made["spec"]["trainer"]
    assert trainer["image"] == "registry.example/toploss:1"
    assert trainer["command"] + trainer["args"] == [
        *("python", "-m", "training.together", "cluster"),
        *(LEASE.run, "--fence", "2"),
    ]
    assert trainer["numProcPerNode"] == 4
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "4"
    assert made["spec"]["activeDeadlineSeconds"] == 60
    assert jobs.lease(made) == LEASE
    with pytest.raises(ValueError, match="unknown fields"):
        check({**made, "spec": {**made["spec"], "podSpecOverrides": []}})


def test_its_runtime_has_the_pods_of_a_job() -> None:
    """Kubeflow's own models know it; what it says of pods is what a Job's template says."""
    runtime = yaml.safe_load(RUNTIME.read_text())
    job = yaml.safe_load(jobs.TEMPLATE.read_text())["spec"]["template"]["spec"]
    train_job = yaml.safe_load(TEMPLATE.read_text())["spec"]

    check(runtime)
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    (container,), (wanted,) = pod.pop("containers"), job.pop("containers")
    job.pop("nodeSelector")
    assert pod == job
    assert (container.pop("name"), wanted.pop("name")) == (jobs.TRAIN_JOB.container, "training")
    assert container.pop("image")
    assert train_job["trainer"]["command"] == wanted.pop("command")
    assert train_job["trainer"]["resourcesPerNode"] == wanted.pop("resources")
    assert container == wanted
    assert train_job["runtimeRef"]["name"] == runtime["metadata"]["name"]


def test_one_of_its_machines_has_bad_data(house: tuple[Home, ApiServer, Dispatcher]) -> None:
    """The others only lose it: the run is not tried again."""
    home, server, dispatcher = house
    run, name = begun(*house)
    server.logs[f"{name}-x1"] = "a class has too few images"
    server.pod(name, "Failed", 1, terminated={"exitCode": BAD_DATA})
    server.pod(name, "Failed", 2, terminated={"exitCode": 1})
    server.end(name, "JobSetFailed", "jobset failed")

    dispatcher.step()

    shown = records.show(home, run)
    assert (shown["state"], shown["cause"]) == ("failed", "bad_data")
    assert "too few images" in records.read_log(home, run)


def test_one_that_has_ended_is_removed_before_the_next_one(
    house: tuple[Home, ApiServer, Dispatcher],
) -> None:
    _, server, dispatcher = house
    run, name = begun(*house)
    for number in (1, 2):
        server.pod(name, "Failed", number, terminated={"exitCode": 1})
    server.end(name, "JobSetFailed", "jobset failed")

    dispatcher.step()  # the run goes back into the queue, and its next attempt begins

    assert set(server.jobs) == {f"toploss-{run}-2"}


@pytest.mark.slow
def test_two_machines_train_one_network(learned_home: Callable[..., Home]) -> None:
    """As Kubeflow's pods would, told by its variables of torchrun; the first one alone writes."""
    home = learned_home(device="cpu")
    samples.add(home, coloured("red", 601), "red", name="x.png", actor="x", split=Split.TRAIN)
    run = str(runs.enqueue(home, reason="test", actor="test")["id"])
    lease = runs.claim(home, owner="test")
    assert lease is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    machines = [machine(home, lease, number, port) for number in (0, 1)]
    until = time.monotonic() + 240
    try:
        said = [one.communicate(timeout=until - time.monotonic())[0] for one in machines]
    finally:
        for one in machines:
            one.kill()

    assert [one.returncode for one in machines] == [0, 0], b"\n".join(said).decode()[-4000:]
    shown = records.show(home, run)
    assert (shown["state"], shown["attempt"]) == ("succeeded", 1)
    assert shown["metrics"]["test"]["accuracy"] >= 0.9


def machine(home: Home, lease: Lease, number: int, port: int) -> subprocess.Popen[bytes]:
    told = {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "1",
        "PET_NODE_RANK": str(number),
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
        "TOPLOSS_HOME": str(home.settings.home),
        "TOPLOSS_DEVICE": "cpu",
        "TOPLOSS_THREADS": "1",
    }
    command = ["training.together", "cluster", lease.run, "--fence", str(lease.fence)]
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        env=os.environ | told,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
