"""The Kubernetes Job of one attempt: the operator's template, and what is this attempt's."""

from pathlib import Path
from typing import Any

import yaml

from toploss.errors import BadSettings
from toploss.runs import Lease
from toploss.settings import Settings

TEMPLATE = Path(__file__).with_name("job.yaml")
CONTAINER = "training"
GPU = "nvidia.com/gpu"
RUN, ATTEMPT = "toploss/run", "toploss/attempt"  # labels
LONGEST = 63  # characters of a name that is a label too


def name(lease: Lease) -> str:
    """The same for the same attempt, so that it cannot be made twice."""
    made = f"toploss-{lease.run.lower()}-{lease.fence}"
    assert len(made) <= LONGEST, made
    return made


def labels(lease: Lease) -> dict[str, str]:
    return {RUN: lease.run, ATTEMPT: str(lease.fence)}


def ours(settings: Settings) -> dict[str, str]:
    """On every Job of this classifier."""
    return {
        "app.kubernetes.io/managed-by": "toploss",
        "app.kubernetes.io/instance": settings.name,
    }


def lease(job: dict[str, Any]) -> Lease:
    """Of which attempt a Job is. Raises KeyError, ValueError: it bears no such labels."""
    borne = job["metadata"]["labels"]
    return Lease(run=borne[RUN], fence=int(borne[ATTEMPT]))


def made(settings: Settings, lease: Lease, module: list[str]) -> dict[str, Any]:
    """The Job's body.

    Args:
        module: what Python runs: a module and its arguments.

    Raises:
        BadSettings: the template cannot be read, or is no Job with a container `training`.
    """
    job, container = template(settings)
    spec = job["spec"]
    pod = spec["template"]
    job.setdefault("metadata", {})["name"] = name(lease)
    for thing in (job, pod):
        borne = thing.setdefault("metadata", {}).setdefault("labels", {})
        borne |= ours(settings) | labels(lease)
    container["args"] = module
    if settings.run_limit_s:
        spec["activeDeadlineSeconds"] = int(settings.run_limit_s)
    _count_gpus(container.get("resources", {}), settings)
    return job


def template(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """The template as it is to be used, and its training's container. Raises BadSettings."""
    path = settings.kubernetes_job or TEMPLATE
    try:
        job = yaml.safe_load(path.read_text(encoding="utf-8"))
        containers = job["spec"]["template"]["spec"]["containers"]
        (container,) = [each for each in containers if each["name"] == CONTAINER]
        if (job["apiVersion"], job["kind"]) != ("batch/v1", "Job"):
            raise ValueError(f"it is a {job['apiVersion']} {job['kind']}")
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError) as exc:
        raise BadSettings(
            f"TOPLOSS_KUBERNETES_JOB={str(path)!r} is no batch/v1 Job with one container "
            f"{CONTAINER!r} ({exc}); begin with a copy of {TEMPLATE}"
        ) from exc
    if settings.kubernetes_image:
        container["image"] = settings.kubernetes_image
    if not container.get("image"):
        raise BadSettings(
            "TOPLOSS_KUBERNETES_IMAGE is not set, and the Job's template names no image; name one "
            "that has Toploss installed"
        )
    return job, container


def _count_gpus(resources: dict[str, Any], settings: Settings) -> None:
    """One per process, where the template asks for any."""
    for kind in ("requests", "limits"):
        asked = resources.get(kind) or {}
        if GPU in asked:
            asked[GPU] = str(settings.train_processes)
            if settings.device == "cpu":
                del asked[GPU]
