"""What every pod promises: no rights, no root, limits. And that the service is never one short."""

import re

import pytest
import yaml

from service import metrics
from tests.k8s.rendered import ROOT, Json, of_kind, one, pod, pods, trainings
from toploss import __version__
from toploss.settings import Settings, read_settings
from training import jobs

# Pod Security Standards, "restricted".
VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"),
    *("projected", "secret"),
}
OTHERS = {  # variables of the libraries below us
    *("BENTOML_HOST", "BENTOML_HOME", "AWS_SHARED_CREDENTIALS_FILE", "AWS_DEFAULT_REGION"),
    *("HOME", "TMPDIR"),
}


def test_pod_security_restricted_is_enforced(objects: list[Json]) -> None:
    for namespace in of_kind(objects, "Namespace"):
        for mode in ("enforce", "warn", "audit"):
            labels = namespace["metadata"]["labels"]
            assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_every_pod_is_restricted(objects: list[Json]) -> None:
    for each in pods(objects):
        spec, context = each.spec, each.spec["securityContext"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec), each.owner
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 10001
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"sysctls", "seLinuxOptions", "windowsOptions"} & set(context)
        for volume in spec.get("volumes", []):
            assert len(volume) == 2, (each.owner, volume)
            assert set(volume) - {"name"} <= VOLUMES, (each.owner, volume)
        for container in each.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, each.owner
            assert all("hostPort" not in port for port in container.get("ports", []))


def test_every_container_asks_for_what_it_needs_and_has_limits(objects: list[Json]) -> None:
    for each in pods(objects):
        for container in each.containers:
            asked, most = (container["resources"][part] for part in ("requests", "limits"))
            assert {"cpu", "memory", "ephemeral-storage"} <= set(asked), each.owner
            assert {"cpu", "memory"} <= set(most), each.owner
            for volume in each.spec["volumes"]:
                assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}), each.owner


def test_all_that_is_written_is_mounted(objects: list[Json]) -> None:
    for each in pods(objects):
        volumes = {volume["name"] for volume in each.spec["volumes"]}
        for container in each.containers:
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            assert {"/data", "/tmp"} <= set(mounts), each.owner
            assert {mount["name"] for mount in mounts.values()} <= volumes
            env = {entry["name"]: entry["value"] for entry in container["env"]}
            assert env["TOPLOSS_HOME"] == "/data"
            for name, value in env.items():
                if value.startswith("/") and name != "TOPLOSS_HOME":
                    under = [path for path in mounts if f"{value}/".startswith(f"{path}/")]
                    assert under, (each.owner, name, value)


def test_only_the_dispatcher_has_a_token(objects: list[Json]) -> None:
    accounts = of_kind(objects, "ServiceAccount")
    assert all(account["automountServiceAccountToken"] is False for account in accounts)
    for each in pods(objects):
        spread = each.labels["app.kubernetes.io/component"] == "dispatcher"
        assert each.spec["automountServiceAccountToken"] is spread, each.owner
        assert all("projected" not in volume for volume in each.spec["volumes"])
        account = one(objects, "ServiceAccount", each.spec["serviceAccountName"], each.namespace)
        assert (account["metadata"]["name"] == "toploss-dispatcher") is spread


def test_the_dispatcher_may_do_what_it_asks_for_and_no_more(spread: list[Json]) -> None:
    (job,) = trainings(spread)
    form = jobs.JOB if job["kind"] == jobs.JOB.kind else jobs.TRAIN_JOB
    code = (ROOT / "training/cluster.py").read_text()
    asked = re.findall(
        r'"(create|get|list|watch|patch|update|delete) ([a-z/]+)"',
        code.replace("{self.form.resource}", form.resource),
    )
    (role,) = of_kind(spread, "Role")
    assert role["rules"][0]["apiGroups"] == [form.api.partition("/")[0]]
    allowed = [
        (verb, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
    ]
    assert len(asked) >= 7
    assert sorted(set(asked)) == sorted(allowed)
    assert not of_kind(spread, "ClusterRole")
    assert not of_kind(spread, "ClusterRoleBinding")
    (binding,) = of_kind(spread, "RoleBinding")
    dispatcher = pod(spread, "dispatcher")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [
        {
            "kind": "ServiceAccount",
            "name": dispatcher.spec["serviceAccountName"],
            "namespace": dispatcher.namespace,
        }
    ]
    told = dispatcher.environment(spread)["TOPLOSS_KUBERNETES_NAMESPACE"]
    assert binding["metadata"]["namespace"] == role["metadata"]["namespace"] == told
    assert dispatcher.namespace != told


def test_images_are_of_one_release(objects: list[Json]) -> None:
    for each in pods(objects):
        for container in each.containers:
            assert container["image"].endswith(f":{__version__}"), each.owner
            assert container["imagePullPolicy"] == "IfNotPresent"


def test_trainings_have_the_dispatchers_image(spread: list[Json]) -> None:
    (container,) = pod(spread, "dispatcher").containers
    (training,) = pod(spread, "training").containers
    policy = one(spread, "ConfigMap", "toploss-training-policy")

    assert container["image"] == training["image"] == policy["data"]["image"]


def test_the_service_is_never_one_short(spread: list[Json]) -> None:
    deployment = one(spread, "Deployment", "toploss")
    autoscaler = one(spread, "HorizontalPodAutoscaler", "toploss")["spec"]
    budget = one(spread, "PodDisruptionBudget", "toploss")["spec"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]

    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "replicas" not in deployment["spec"]  # the autoscaler's
    assert autoscaler["minReplicas"] >= 2
    assert autoscaler["scaleTargetRef"]["name"] == "toploss"
    assert budget["maxUnavailable"] < autoscaler["minReplicas"]
    assert budget["selector"]["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (metric,) = autoscaler["metrics"]
    assert metric["pods"]["metric"]["name"] == metrics.INSIDE._name
    assert (
        int(metric["pods"]["target"]["averageValue"]) < Settings.model_fields["queue_size"].default
    )


def test_replicas_are_spread(spread: list[Json]) -> None:
    constraints = pod(spread, "service").spec["topologySpreadConstraints"]

    assert {each["topologyKey"] for each in constraints} == {
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    }
    for each in constraints:
        assert each["labelSelector"]["matchLabels"].items() <= pod(spread, "service").labels.items()


def test_the_service_is_looked_at_and_drains(objects: list[Json]) -> None:
    service = pod(objects, "service")
    (container,) = [each for each in service.containers if each["name"] == "service"]
    paths = {
        probe: container[f"{probe}Probe"]["httpGet"]
        for probe in ("startup", "readiness", "liveness")
    }
    assert paths["startup"] == paths["readiness"] == {"path": "/readyz", "port": "http"}
    assert paths["liveness"] == {"path": "/livez", "port": "http"}
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    longest = Settings.model_fields["timeout_s"].default
    assert service.spec["terminationGracePeriodSeconds"] >= pause + longest + 10
    # As long as it takes until nobody is sent here any more.
    readiness = container["readinessProbe"]
    assert pause >= readiness["periodSeconds"]
    (shm,) = [volume for volume in service.spec["volumes"] if volume["name"] == "shm"]
    assert shm["emptyDir"]["medium"] == "Memory"
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]


def test_one_worker_listens_where_the_service_sends(objects: list[Json]) -> None:
    (container,) = [
        each for each in pod(objects, "service").containers if each["name"] == "service"
    ]
    (port,) = container["ports"]
    service = one(objects, "Service", "toploss")["spec"]

    assert container["args"] == ["serve"]
    app = (ROOT / "service/app.py").read_text()
    assert "workers=1," in app
    assert f'"port": {port["containerPort"]}' in app
    assert [each["targetPort"] for each in service["ports"]] == [port["name"]]
    assert service["selector"].items() <= pod(objects, "service").labels.items()


def test_what_pods_are_told_are_settings(
    objects: list[Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in pods(objects):
        told = each.environment(objects)
        ours = {name for name in told if name.startswith("TOPLOSS_")}
        assert {name.removeprefix("TOPLOSS_").lower() for name in ours} <= set(
            Settings.model_fields
        )
        assert set(told) - ours <= OTHERS, each.owner
        with monkeypatch.context() as patch:
            for name in ours:
                patch.setenv(name, told[name])
            read_settings()  # refuses what they cannot be


def test_secrets_come_by_reference(objects: list[Json]) -> None:
    """As files; never as a variable or in a ConfigMap."""
    for each in pods(objects):
        for container in each.containers:
            assert all("valueFrom" not in entry for entry in container["env"]), each.owner
            assert all("secretRef" not in source for source in container.get("envFrom", []))
        told = " ".join(each.environment(objects).values())
        assert not re.search(r"://[^/\s]*:[^/\s]*@", told)


def test_there_is_no_secret_but_the_examples(production: list[Json], dev: list[Json]) -> None:
    assert not of_kind([*production, *dev], "Secret")


def test_the_templates_are_ours_but_for_what_they_say() -> None:
    """An account, a limit of cores, and secrets as files."""

    def read(path: str) -> Json:
        made: Json = yaml.safe_load((ROOT / path).read_text())
        return made

    ours, here = read("training/job.yaml"), read("k8s/base/trainings/job.yaml")
    assert here["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"].pop("cpu")
    _same_pod(ours["spec"]["template"]["spec"], here["spec"]["template"]["spec"])
    assert here == ours

    folder = "k8s/components/multi-node"
    ours, here = read("training/trainjob.yaml"), read(f"{folder}/trainjob.yaml")
    assert here["spec"]["trainer"]["resourcesPerNode"]["limits"].pop("cpu")
    assert here == ours

    ours, here = read("training/runtime.yaml"), read(f"{folder}/runtime.yaml")
    assert here["metadata"].pop("namespace") == "toploss-training"
    assert here["metadata"]["labels"].pop("app.kubernetes.io/name") == "toploss"
    both = [
        made["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
        for made in (ours, here)
    ]
    _same_pod(both[0]["spec"], both[1]["spec"])
    assert here == ours


def _same_pod(ours: Json, here: Json) -> None:
    """Takes from both what may differ."""
    (mine,), (container,) = ours["containers"], here["containers"]
    assert here.pop("serviceAccountName") == "toploss-training"
    assert mine["envFrom"].pop() == {"secretRef": {"name": "toploss"}}
    for lines in (container["volumeMounts"], here["volumes"]):
        assert lines.pop()["name"] == "secrets"
    files = {"TOPLOSS_DATABASE_URL_FILE", "AWS_SHARED_CREDENTIALS_FILE"}
    assert {entry["name"] for entry in container["env"][:2]} == files
    del container["env"][:2]


def test_trainings_take_gpus_where_they_are_asked_to(
    production: list[Json], everything: list[Json]
) -> None:
    def asked(objects: list[Json]) -> str | None:
        (container,) = pod(objects, "training").containers
        gpus: str | None = container["resources"]["limits"].get("nvidia.com/gpu")
        return gpus

    assert (asked(production), asked(everything)) == (None, "1")
    for objects, device in ((production, "cpu"), (everything, "cuda")):
        assert pod(objects, "training").environment(objects)["TOPLOSS_DEVICE"] == device
    assert trainings(production)[0]["spec"]["backoffLimit"] == 0


def test_one_pod_shares_a_disk_and_its_processes(dev: list[Json]) -> None:
    (only,) = pods(dev)
    deployment = one(dev, "Deployment", "toploss")["spec"]
    (data,) = [volume for volume in only.spec["volumes"] if volume["name"] == "data"]

    assert [each["args"] for each in only.containers] == [
        ["db", "upgrade", "--force"],
        ["serve"],
        ["dispatch"],
    ]
    assert deployment["replicas"] == 1
    assert deployment["strategy"] == {"type": "Recreate"}
    assert only.spec["shareProcessNamespace"] is True
    one(dev, "PersistentVolumeClaim", data["persistentVolumeClaim"]["claimName"], only.namespace)
    assert only.environment(dev).get("TOPLOSS_EXECUTOR", "local") == "local"
