"""The manifests as kustomize makes them, and what a test asks of them."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from toploss.runs import Lease
from toploss.settings import read_settings
from training import jobs

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
EXAMPLES = K8S / "components/secrets/example"
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod's template, and whose it is."""

    owner: str  # kind/name
    namespace: str
    labels: dict[str, str]
    spec: Json

    @property
    def containers(self) -> list[Json]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def environment(self, objects: list[Json]) -> dict[str, str]:
        """What its containers are told, ConfigMaps included."""
        told: dict[str, str] = {}
        for container in self.containers:
            for source in container.get("envFrom", []):
                told |= one(objects, "ConfigMap", source["configMapRef"]["name"], self.namespace)[
                    "data"
                ]
        for container in self.containers:
            told |= {entry["name"]: entry["value"] for entry in container.get("env", [])}
        return told


def render(folder: Path) -> list[Json]:
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return [made for made in yaml.safe_load_all(done.stdout) if made]


def with_everything(folder: Path) -> Path:
    """A copy, in which production has every component; its overlay's folder."""
    shutil.copytree(K8S, folder / "k8s")
    secrets = folder / "k8s/components/secrets"
    for example in (secrets / "example").iterdir():
        shutil.copy(example, secrets)
    overlay = folder / "k8s/overlays/production"
    file = overlay / "kustomization.yaml"
    text, count = re.subn(r"^  # (- \S+/components/\S+).*$", r"  \1", file.read_text(), flags=re.M)
    components = [each for each in (folder / "k8s/components").iterdir() if each.is_dir()]
    assert count == len(components) - 2  # postgres and s3 stand there already
    file.write_text(text)
    return overlay


def of_kind(objects: list[Json], kind: str) -> list[Json]:
    return [made for made in objects if made["kind"] == kind]


def one(objects: list[Json], kind: str, name: str, namespace: str | None = None) -> Json:
    found = [
        made
        for made in of_kind(objects, kind)
        if made["metadata"]["name"] == name
        and namespace in (None, made["metadata"].get("namespace"))
    ]
    assert len(found) == 1, f"{len(found)} {kind} {name} in {namespace}"
    return found[0]


def pods(objects: list[Json]) -> Iterator[Pod]:
    """Of every workload, a training's Job as the dispatcher makes it included."""
    for made in [*objects, *trainings(objects)]:
        spec = made.get("spec", {})
        if made["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield Pod(
                owner=f"{made['kind']}/{made['metadata']['name']}",
                namespace=made["metadata"]["namespace"],
                labels=spec["template"]["metadata"]["labels"],
                spec=spec["template"]["spec"],
            )


def pod(objects: list[Json], component: str) -> Pod:
    (found,) = [
        each for each in pods(objects) if each.labels["app.kubernetes.io/component"] == component
    ]
    return found


def trainings(objects: list[Json]) -> list[Json]:
    """The Job that the dispatcher's settings and template make of an attempt; none, where it
    trains by itself."""
    templates = [
        made for made in of_kind(objects, "ConfigMap") if "toploss-job" in made["metadata"]["name"]
    ]
    if not templates:
        return []
    (dispatcher,) = [
        container
        for made in of_kind(objects, "Deployment")
        for container in made["spec"]["template"]["spec"]["containers"]
        if container["args"] == ["dispatch"]
    ]
    env = {entry["name"]: entry["value"] for entry in dispatcher["env"]}
    file = _kept(templates[0]["data"]["job.yaml"])
    settings = read_settings(
        kubernetes_job=file,
        kubernetes_image=env["TOPLOSS_KUBERNETES_IMAGE"],
        device=env["TOPLOSS_DEVICE"],
    )
    lease = Lease(run="01m8a1kwdkwm5fgnwydd98jq06", fence=1)
    job = jobs.made(settings, lease)
    job["metadata"]["namespace"] = env["TOPLOSS_KUBERNETES_NAMESPACE"]
    file.unlink()
    return [job]


def _kept(text: str) -> Path:
    import tempfile

    with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
        file.write(text)
    return Path(file.name)


def selects(selector: Json, labels: dict[str, str]) -> bool:
    """Whether a label selector means them."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        there = labels.get(rule["key"]) in rule["values"]
        assert rule["operator"] in ("In", "NotIn")
        if there != (rule["operator"] == "In"):
            return False
    return True
