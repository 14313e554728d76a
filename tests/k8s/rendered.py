"""The manifests as kustomize makes them, and what a test asks of them."""

import copy
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from toploss.attempts import Lease
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


def with_components(folder: Path, *, but: str = "", only: str = "") -> Path:
    """A copy, in which production has every component, or those beside its own that are named;
    its overlay's folder."""
    shutil.copytree(K8S, folder / "k8s")
    secrets = folder / "k8s/components/secrets"
    for example in (secrets / "example").iterdir():
        shutil.copy(example, secrets)
    overlay = folder / "k8s/overlays/production"
    file = overlay / "kustomization.yaml"
    offered = re.findall(r"^  # - (\S+/components/(\S+)).*$", file.read_text(), re.MULTILINE)
    there = {each.name for each in (folder / "k8s/components").iterdir() if each.is_dir()}
    assert {name for _, name in offered} == there - {"postgres", "s3"}  # they are in it already
    text = file.read_text()
    for path, name in offered:
        if name == only or (not only and name != but):
            text = text.replace(f"  # - {path}", f"  - {path}")
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
    """Of every workload, a training's as the dispatcher makes it included."""
    for made in [*objects, *trainings(objects)]:
        spec = made.get("spec", {})
        if made["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if made["kind"] == "TrainJob":
            spec = _of_its_runtime(objects, made)
        if "template" in spec and made["kind"] != "TrainingRuntime":
            yield Pod(
                owner=f"{made['kind']}/{made['metadata']['name']}",
                namespace=made["metadata"]["namespace"],
                labels=spec["template"]["metadata"]["labels"],
                spec=spec["template"]["spec"],
            )


def _of_its_runtime(objects: list[Json], job: Json) -> Json:
    """The spec of the Job that Kubeflow and JobSet make of a TrainJob, as their references say."""
    reference, trainer = job["spec"]["runtimeRef"], job["spec"]["trainer"]
    runtime = one(objects, reference["kind"], reference["name"], job["metadata"]["namespace"])
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    spec: Json = copy.deepcopy(replicated["template"]["spec"])
    (container,) = spec["template"]["spec"]["containers"]
    assert container["image"] == trainer["image"]
    container |= {key: trainer[key] for key in ("command", "args")}
    container["resources"] = trainer["resourcesPerNode"]
    return spec


def pod(objects: list[Json], component: str) -> Pod:
    (found,) = [
        each for each in pods(objects) if each.labels["app.kubernetes.io/component"] == component
    ]
    return found


def trainings(objects: list[Json]) -> list[Json]:
    """The Job or TrainJob that the dispatcher's settings and template make of an attempt; none,
    where it trains by itself."""
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
