"""What one object names is there in another, or in the page that says how to make it."""

import re
import shlex
import subprocess
from pathlib import Path

from tests.k8s.rendered import EXAMPLES, K8S, ROOT, Json, of_kind, one, pod, pods
from toploss import __version__

PAGE = (ROOT / "docs/cluster.md").read_text()
BY_HAND = {  # Secrets, and their keys
    "toploss-admin": {"key"},
    "toploss": {"database-url", "aws-credentials"},
    "toploss-metrics": {"key"},
}


def test_config_maps_accounts_and_claims_are_there(objects: list[Json]) -> None:
    for each in pods(objects):
        one(objects, "ServiceAccount", each.spec["serviceAccountName"], each.namespace)
        one(objects, "Namespace", each.namespace)
        for container in each.containers:
            for source in container.get("envFrom", []):
                one(objects, "ConfigMap", source["configMapRef"]["name"], each.namespace)
        for volume in each.spec["volumes"]:
            if "configMap" in volume:
                one(objects, "ConfigMap", volume["configMap"]["name"], each.namespace)


def test_secrets_are_those_of_the_page(objects: list[Json]) -> None:
    named = {
        (each.namespace, volume["secret"]["secretName"])
        for each in pods(objects)
        for volume in each.spec["volumes"]
        if "secret" in volume
    }
    named |= {
        (made["metadata"]["namespace"], endpoint["authorization"]["credentials"]["name"])
        for made in of_kind(objects, "PodMonitor")
        for endpoint in made["spec"]["podMetricsEndpoints"]
    }
    for namespace, name in named:
        made = re.search(
            rf"kubectl -n {namespace} create secret generic {name} \\\n((?:  .*\n)+)", PAGE
        )
        assert made, (namespace, name)
        assert set(re.findall(r"--from-file=([a-z-]+)=", made[1])) == BY_HAND[name]


def test_secrets_can_be_made_as_the_page_says(production: list[Json], tmp_path: Path) -> None:
    for name in ("admin-key", "database-url", "aws-credentials", "metrics-key"):
        (tmp_path / name).write_text("…")
    lines = re.findall(r"^kubectl .*create (?:namespace|secret) (?:.*\\\n)*.*$", PAGE, re.MULTILINE)
    assert len(lines) == 8
    for line in lines:
        dry = [*shlex.split(line.replace("\\\n", "")), "--dry-run=client", "--output=name"]
        subprocess.run(dry, cwd=tmp_path, check=True, capture_output=True)


def test_files_of_secrets_are_their_keys(objects: list[Json]) -> None:
    for each in pods(objects):
        secrets = {
            volume["name"]: volume["secret"]
            for volume in each.spec["volumes"]
            if "secret" in volume
        }
        for container in each.containers:
            told = [entry["value"] for entry in container["env"]]
            for mount in container["volumeMounts"]:
                if mount["name"] in secrets:
                    secret = secrets[mount["name"]]
                    assert secret["defaultMode"] == 0o440
                    keys = BY_HAND[secret["secretName"]]
                    read = [value for value in told if value.startswith(mount["mountPath"] + "/")]
                    assert read
                    assert {value.rpartition("/")[2] for value in read} <= keys


def test_secrets_from_files_are_the_same(everything: list[Json]) -> None:
    made = {
        (secret["metadata"]["namespace"], secret["metadata"]["name"]): set(secret["data"])
        for secret in of_kind(everything, "Secret")
    }

    assert made == {
        ("toploss", "toploss-admin"): BY_HAND["toploss-admin"],
        ("toploss", "toploss"): BY_HAND["toploss"],
        ("toploss-training", "toploss"): BY_HAND["toploss"],
    }
    ignored = (K8S / "components/secrets/.gitignore").read_text().split()
    assert {f"/{file.name}" for file in EXAMPLES.iterdir()} == set(ignored)


def test_a_monitor_finds_the_service(everything: list[Json]) -> None:
    monitor = one(everything, "PodMonitor", "toploss")
    service = pod(everything, "service")
    (container,) = [each for each in service.containers if each["name"] == "service"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]

    assert monitor["metadata"]["namespace"] == service.namespace
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service.labels.items()
    assert endpoint["port"] in [port["name"] for port in container["ports"]]


def test_a_queue_s_names_are_each_other_s(everything: list[Json]) -> None:
    (local,) = of_kind(everything, "LocalQueue")
    cluster = one(everything, "ClusterQueue", local["spec"]["clusterQueue"])
    (group,) = cluster["spec"]["resourceGroups"]
    training = pod(everything, "training")
    asked = {
        name
        for container in training.containers
        for part in container["resources"].values()
        for name in part
    }

    assert local["metadata"]["namespace"] == training.namespace
    assert asked == set(group["coveredResources"])
    for flavor in group["flavors"]:
        one(everything, "ResourceFlavor", flavor["name"])
        assert [each["name"] for each in flavor["resources"]] == group["coveredResources"]


def test_each_release_has_its_own_migration(spread: list[Json]) -> None:
    """A Job cannot be changed: its name, and all that is in it, moves with the release alone."""
    migration = pod(spread, "migration")

    assert migration.owner == f"Job/toploss-migrate-{__version__.replace('.', '-')}"
    assert all("envFrom" not in container for container in migration.containers)
    assert not re.search(r"-[a-z0-9]{10}\b", str(migration.spec)), "a hash of settings"
    assert [each["args"] for each in migration.containers] == [["db", "upgrade"]]


def test_the_page_names_every_object(everything: list[Json], dev: list[Json]) -> None:
    for kind in {made["kind"] for made in [*everything, *dev]} - {"ResourceFlavor", "LocalQueue"}:
        assert kind in PAGE, kind
