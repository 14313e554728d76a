"""Trainings as Jobs, against an API server that checks what it is sent and fails as told."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.conftest import coloured
from tests.training.apiserver import DROP, NAMESPACE, SCHEMA, ApiServer, Processes, serving
from toploss import attempts, records, runs, samples
from toploss.attempts import Lease
from toploss.errors import Broken
from toploss.home import Home
from toploss.splits import Split
from training import jobs
from training.cluster import Cluster
from training.dispatcher import Dispatcher
from training.kubernetes import KubernetesLauncher

IMAGE = "registry.example/toploss:1"


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.cluster.PAUSES_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr("training.kubernetes.ENDING_S", 5)


@pytest.fixture
def api() -> Iterator[tuple[ApiServer, Callable[[], Cluster]]]:
    with serving() as made:
        yield made


@pytest.fixture
def server(api: tuple[ApiServer, Callable[[], Cluster]]) -> ApiServer:
    return api[0]


@pytest.fixture
def cluster(api: tuple[ApiServer, Callable[[], Cluster]]) -> Cluster:
    return api[1]()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def home(request: pytest.FixtureRequest, open_home: Callable[..., Home]) -> Home:
    settings = {"kubernetes_image": IMAGE, "lease_s": 1.5, "attempts": 2}
    if request.param == "sqlite":
        return open_home(**settings)
    return open_home(**settings, database_url=request.getfixturevalue("new_postgres")())


@pytest.fixture
def dispatcher(home: Home, cluster: Cluster) -> Dispatcher:
    return Dispatcher(home, KubernetesLauncher(home, cluster))


def queued(home: Home) -> tuple[str, str]:
    """A run, and the name of its first attempt's Job."""
    run = str(runs.enqueue(home, reason="test", actor="test")["id"])
    return run, f"toploss-{run}-1"


def taken_up(home: Home, run: str, fence: int = 1) -> None:
    """What the trainer in the pod does first."""
    attempts.take_up(home, Lease(run=run, fence=fence), owner="pod:1:0")


def test_an_attempt_is_a_job_that_the_schema_and_pod_security_allow(
    home: Home, server: ApiServer, dispatcher: Dispatcher
) -> None:
    run, name = queued(home)

    dispatcher.step()
    dispatcher.step()

    (job,) = server.jobs.values()  # validated as it came, strictly
    assert job["metadata"]["name"] == name
    assert job["spec"]["activeDeadlineSeconds"] == 86_400
    assert job["spec"]["backoffLimit"] == 0
    first, second = job["spec"]["podFailurePolicy"]["rules"]
    assert (first["action"], first["onExitCodes"]["values"]) == ("FailJob", [42])
    assert second["action"] == "Ignore"
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["args"] == ["training.run", run, "--fence", "1"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod["automountServiceAccountToken"] is False
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}} in pod["volumes"]
    # Pod Security "restricted", rule by rule.
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all("hostPath" not in volume for volume in pod["volumes"])
    assert len([asked for asked in server.asked if asked[0] == "POST"]) == 1


@pytest.mark.parametrize(
    ("status", "headers"),
    [(DROP, {}), (429, {"Retry_After": "0"}), (500, {}), (503, {}), (410, {}), (401, {})],
)
def test_a_fault_of_the_api_ends_no_run(
    home: Home, server: ApiServer, dispatcher: Dispatcher, status: int, headers: dict[str, str]
) -> None:
    """At every request of an attempt's life, twice each; a dropped POST has made the Job."""
    run, name = queued(home)
    for on in ("POST", "GET .*jobs$", "GET .*jobs/", "GET .*pods$", "/log", "events"):
        server.fail(status, on=on, times=2, **headers)

    dispatcher.step()
    taken_up(home, run)
    server.pod(name, "Running", running={})
    dispatcher.step()
    server.logs[f"{name}-x1"] = "the pod's last words"
    server.pod(name, "Failed", terminated={"exitCode": 1})
    server.end(name, "BackoffLimitExceeded", "it has failed")
    dispatcher.step()

    assert server.faults == []
    assert [asked[0] for asked in server.asked].count("POST") >= 3
    shown = records.show(home, run)
    assert (shown["state"], shown["attempt"]) == ("leased", 2)  # one attempt is lost, by its own
    assert "BackoffLimitExceeded" in shown["error"]
    assert "the pod's last words" in records.read_log(home, run)


def test_while_the_api_is_away_the_run_waits_for_it(
    home: Home, server: ApiServer, dispatcher: Dispatcher
) -> None:
    run, name = queued(home)
    server.fail(503, on=".", times=40)
    until = time.monotonic() + 2 * home.settings.lease_s

    while time.monotonic() < until or name not in server.jobs:
        try:
            dispatcher.step()
        except Broken:
            time.sleep(0.1)
        assert time.monotonic() < until + 20

    assert records.show(home, run)["attempt"] == 1


def test_a_long_retry_after_is_kept_to(server: ApiServer, cluster: Cluster) -> None:
    server.fail(429, on="GET", Retry_After="30")

    for _ in range(3):
        with pytest.raises(Broken):
            cluster.job("x")

    assert len(server.asked) == 1


def test_a_job_that_was_made_before_its_dispatcher_died_is_found_again(
    home: Home, server: ApiServer, api: tuple[ApiServer, Callable[[], Cluster]]
) -> None:
    run, name = queued(home)
    first = Dispatcher(home, KubernetesLauncher(home, api[1]()))
    first.step()  # and it is heard of no more
    server.pod(name, "Running", running={})

    second = Dispatcher(home, KubernetesLauncher(home, api[1]()))
    until = time.monotonic() + 2 * home.settings.lease_s
    while time.monotonic() < until:
        second.step()  # speaks for the attempt that has not begun
        time.sleep(0.1)
    taken_up(home, run)
    server.pod(name, "Failed", terminated={"exitCode": 137, "reason": "OOMKilled"})
    server.end(name, "BackoffLimitExceeded", "it has failed")
    second.step()

    assert "OOMKilled" in records.show(home, run)["error"]
    assert [asked[0] for asked in server.asked].count("POST") == 2  # the next attempt's
    assert server.asked.count(("DELETE", name)) == 0


def test_of_two_dispatchers_both_watch_and_one_makes_jobs(
    home: Home, server: ApiServer, api: tuple[ApiServer, Callable[[], Cluster]]
) -> None:
    run, name = queued(home)
    both = [Dispatcher(home, KubernetesLauncher(home, api[1]())) for _ in range(2)]
    for dispatcher in both * 2:
        dispatcher.step()
    assert all(dispatcher.busy for dispatcher in both)

    both[0].close()  # a roll-out of dispatchers stops no training
    assert records.show(home, run)["state"] == "leased"
    assert name in server.jobs
    taken_up(home, run)
    runs.cancel(home, run)
    server.end(name, "BackoffLimitExceeded", "it has failed")
    both[1].step()

    assert records.show(home, run)["state"] == "cancelled"
    assert [asked[0] for asked in server.asked].count("POST") == 1


def test_between_claim_and_creation_the_dispatcher_dies(
    home: Home, server: ApiServer, dispatcher: Dispatcher
) -> None:
    run, _ = queued(home)
    runs.claim(home, owner="elsewhere:1:0")
    until = time.monotonic() + 20

    while not server.jobs:
        dispatcher.step()
        assert time.monotonic() < until
        time.sleep(0.1)

    assert list(server.jobs) == [f"toploss-{run}-2"]


def test_a_job_that_the_api_refuses_says_why_in_the_run(
    home: Home, server: ApiServer, dispatcher: Dispatcher
) -> None:
    run, _ = queued(home)
    server.denied.add("POST")

    for _ in range(4):
        dispatcher.step()

    shown = records.show(home, run)
    assert shown["state"] == "failed"
    assert "allow `create jobs` to the dispatcher (docs/kubernetes.md)" in shown["error"]


def test_without_the_right_to_read_logs_the_run_goes_on(
    home: Home, server: ApiServer, dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    run, name = queued(home)
    server.denied |= {"/log", "events", "GET .*jobs$"}
    dispatcher.step()
    taken_up(home, run)
    server.pod(name, "Failed", terminated={"exitCode": 1})
    server.end(name, "BackoffLimitExceeded", "it has failed")

    dispatcher.step()

    assert records.show(home, run)["attempt"] == 2
    assert "allow `get pods/log`" in caplog.text


def test_what_a_pod_prints_is_there_within_seconds_and_asked_for_once(
    home: Home, server: ApiServer, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.kubernetes.FOLLOW_S", 0)
    monkeypatch.setattr("training.podlog.OVERLAP_S", 0.5)
    run, name = queued(home)
    dispatcher.step()
    taken_up(home, run)
    pod = f"{name}-x1"
    server.pod(name, "Running", running={})
    server.logs[pod] = "".join(f"epoch {number}\n" for number in range(300))
    dispatcher.step()
    assert records.read_log(home, run).endswith("epoch 298\nepoch 299")
    time.sleep(0.6)

    server.logs[pod] += "epoch 300\n"
    dispatcher.step()
    server.logs[pod] += "epoch 300\n"  # the same words once more
    dispatcher.step()
    kept = home.blobs.get(records.log_path(run, 1))
    written: list[str] = []
    monkeypatch.setattr(records, "put_log", lambda *_: written.append("again"))
    dispatcher.step()

    assert kept.decode().endswith("epoch 299\nepoch 300\nepoch 300")
    assert kept.count(b"epoch 0\n") == 1
    assert max(server.sent[1:]) <= 2  # nothing but the last moments
    assert written == []
    assert not any("events" in asked[1] for asked in server.asked)  # those come more seldom


def _unschedulable(server: ApiServer, name: str) -> None:
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "message": message}
    server.pod(name)["status"]["conditions"] = [condition]


def _no_image(server: ApiServer, name: str) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{IMAGE}"'}
    server.pod(name, waiting=waiting)


def _no_pod(server: ApiServer, name: str) -> None:
    server.pods.clear()
    server.warn(name, "pods is forbidden: exceeded quota: gpus")


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (_unschedulable, "cannot be scheduled: 0/3 nodes are available: 3 Insufficient"),
        (_no_image, "does not start: ImagePullBackOff: Back-off pulling image"),
        (_no_pod, "exceeded quota: gpus"),
    ],
    ids=["unschedulable", "no image", "no pod"],
)
def test_a_pod_that_does_not_begin_is_given_time_and_then_told_of(
    home: Home,
    server: ApiServer,
    cluster: Cluster,
    trouble: Callable[[ApiServer, str], None],
    words: str,
) -> None:
    patient = Home(home.settings.model_copy(update={"kubernetes_start_s": 2}), home.db, home.blobs)
    dispatcher = Dispatcher(patient, KubernetesLauncher(patient, cluster))
    run, name = queued(home)
    dispatcher.step()
    trouble(server, name)
    began = time.monotonic()

    while records.show(home, run)["attempt"] == 1:
        dispatcher.step()
        time.sleep(0.05)
        assert time.monotonic() - began < 20

    assert time.monotonic() - began >= 2  # longer than a lease: the dispatcher spoke for it
    assert words in records.show(home, run)["error"]
    assert list(server.jobs) == [f"toploss-{run}-2"]
    if trouble is _no_pod:
        assert words in records.read_log(home, run)


@pytest.mark.parametrize(
    ("happens", "words"),
    [
        (lambda server, name: server.jobs.pop(name), "somebody has deleted it"),
        (
            lambda server, name: (
                server.pods.clear(),
                server.end(name, "BackoffLimitExceeded", "it has failed"),
            ),
            "its pod has vanished",
        ),
        (
            lambda server, name: (
                server.pod(name, "Failed")["status"].update(
                    reason="Evicted", message="The node was low on resource: memory."
                ),
                server.end(name, "BackoffLimitExceeded", "it has failed"),
            ),
            "Evicted: The node was low on resource: memory.",
        ),
        (
            lambda server, name: server.end(name, "DeadlineExceeded", "was active too long"),
            "past its time limit (TOPLOSS_RUN_LIMIT_S)",
        ),
    ],
    ids=["job deleted", "pod vanished", "evicted", "too long"],
)
def test_how_an_attempt_was_lost_is_told(
    home: Home,
    server: ApiServer,
    dispatcher: Dispatcher,
    happens: Callable[[ApiServer, str], object],
    words: str,
) -> None:
    run, name = queued(home)
    dispatcher.step()
    taken_up(home, run)
    happens(server, name)

    dispatcher.step()

    shown = records.show(home, run)
    assert (shown["attempt"], shown["state"]) == (2, "leased")
    assert words in shown["error"]


def test_a_cancelled_run_s_job_is_removed_and_waited_for(
    home: Home, server: ApiServer, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.dispatcher.PATIENCE_S", 0)
    run, _ = queued(home)
    dispatcher.step()
    runs.cancel(home, run)

    for _ in range(3):
        dispatcher.step()
        time.sleep(0.01)

    assert (server.jobs, server.pods) == ({}, {})
    assert records.show(home, run)["state"] == "cancelled"


def test_jobs_of_attempts_that_are_over_are_removed_and_strangers_left(
    home: Home, server: ApiServer, dispatcher: Dispatcher, cluster: Cluster
) -> None:
    run, _ = queued(home)
    stranger = Lease(run="0" * 26, fence=1)  # of another database, under our name
    for lease in (Lease(run=run, fence=0), stranger):
        assert cluster.create(jobs.made(home.settings, lease))

    dispatcher.step()

    assert set(server.jobs) == {jobs.name(stranger), f"toploss-{run}-1"}


def test_the_page_s_role_allows_what_is_asked_for_and_no_more(
    home: Home, server: ApiServer, dispatcher: Dispatcher, cluster: Cluster
) -> None:
    page = (jobs.TEMPLATE.parents[1] / "docs/kubernetes.md").read_text()
    role = yaml.safe_load(page.partition("```yaml")[2].partition("```")[0])
    kubernetes_validate.validate(role, SCHEMA, strict=True)
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    _, name = queued(home)
    dispatcher.step()
    dispatcher.step()
    cluster.output(f"{name}-x1", "training")
    cluster.events(name)
    cluster.delete(name)

    assert {_right(*asked) for asked in server.asked} == allowed


def _right(method: str, path: str) -> tuple[str, str, str]:
    """What a request needs: group, resource and verb."""
    group = "batch" if path.startswith("/apis/batch/") else ""
    resource, *name = path.partition(f"/namespaces/{NAMESPACE}/")[2].split("/")
    verb = {"POST": "create", "DELETE": "delete", "GET": "get" if name else "list"}[method]
    return group, "/".join([resource, *name[1:]]), verb


@pytest.mark.slow
def test_a_job_really_trains(
    learned_home: Callable[..., Home],
    server: ApiServer,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    """The pod is a process; from the queue over the Job to a version that its gate has judged."""
    home = learned_home(kubernetes_image=IMAGE, device="cpu")
    samples.add(home, coloured("red", 601), "red", name="x.png", actor="x", split=Split.TRAIN)
    run, name = queued(home)
    env = os.environ | {"TOPLOSS_HOME": str(home.settings.home), "TOPLOSS_THREADS": "1"}
    processes = Processes(server, tmp_path, sys.executable, env)
    dispatcher = Dispatcher(home, KubernetesLauncher(home, cluster))
    until = time.monotonic() + 180
    try:
        dispatcher.step()
        while dispatcher.busy:
            assert time.monotonic() < until, records.read_log(home, run)
            time.sleep(0.2)
            dispatcher.step()
    finally:
        processes.close()

    shown = records.show(home, run)
    assert shown["state"] == "succeeded", records.read_log(home, run)
    assert shown["version"]
    assert list(processes.started) == [name]
    limits = server.jobs[name]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert "nvidia.com/gpu" not in limits  # TOPLOSS_DEVICE=cpu
