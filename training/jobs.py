"""What is made in a cluster for one attempt: the operator's template, and what is the attempt's."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from toploss.attempts import Lease
from toploss.errors import BadSettings
from toploss.settings import Settings
from training.together import CLUSTER, module

TEMPLATE = Path(__file__).with_name("job.yaml")
GPU = "nvidia.com/gpu"
RUN, ATTEMPT = "toploss/run", "toploss/attempt"  # labels
LONGEST = 63  # characters of a name that is a label too

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A kind of object that trains: where the API has it, and how its pods are known."""

    api: str
    kind: str
    resource: str
    container: str  # of its pods: the one that trains
    pods: Callable[[Lease], dict[str, str]]  # labels that its pods bear
    expires: bool  # the cluster removes it by itself, a while after its end

    @property
    def path(self) -> tuple[str, str]:
        """Before and after the namespace."""
        return f"/apis/{self.api}/namespaces/", f"/{self.resource}"


def name(lease: Lease) -> str:
    """The same for the same attempt, so that it cannot be made twice."""
    made = f"toploss-{lease.run.lower()}-{lease.fence}"
    assert len(made) <= LONGEST, made
    return made


def labels(lease: Lease) -> dict[str, str]:
    """By which an attempt's Job and pods are found."""
    return {RUN: lease.run, ATTEMPT: str(lease.fence)}


# One pod, on one machine.
JOB = Form(
    api="batch/v1",
    kind="Job",
    resource="jobs",
    container="training",
    pods=labels,
    expires=True,
)
# Several machines, by Kubeflow Trainer 2.3; its pods are a JobSet's, of the same name.
TRAIN_JOB = Form(
    api="trainer.kubeflow.org/v1alpha1",
    kind="TrainJob",
    resource="trainjobs",
    container="node",
    pods=lambda lease: {"jobset.sigs.k8s.io/jobset-name": name(lease)},
    expires=False,
)


def ours(settings: Settings) -> dict[str, str]:
    """On everything that is made for this classifier."""
    return {
        "app.kubernetes.io/managed-by": "toploss",
        "app.kubernetes.io/instance": settings.name,
    }


def lease(job: Json) -> Lease:
    """Of which attempt a Job is. Raises KeyError, ValueError: it bears no such labels."""
    borne = job["metadata"]["labels"]
    return Lease(run=borne[RUN], fence=int(borne[ATTEMPT]))


def made(settings: Settings, lease: Lease) -> Json:
    """The body of what trains.

    Raises:
        BadSettings: the template cannot be read, or is none of the forms.
    """
    form, job, trainer = template(settings)
    spec = job["spec"]
    job.setdefault("metadata", {})["name"] = name(lease)
    things = [job, spec["template"]] if form is JOB else [job]
    for thing in things:
        borne = thing.setdefault("metadata", {}).setdefault("labels", {})
        borne |= ours(settings) | labels(lease)
    if form is JOB:
        trainer["args"] = module(settings, lease)
        _count_gpus(trainer.get("resources", {}), settings)
    else:
        trainer["args"] = ["training.together", CLUSTER, lease.run, "--fence", str(lease.fence)]
        trainer["numProcPerNode"] = settings.train_processes
        _count_gpus(trainer.get("resourcesPerNode", {}), settings)
    if settings.run_limit_s:
        spec["activeDeadlineSeconds"] = int(settings.run_limit_s)
    return job


def form(settings: Settings) -> Form:
    """Raises BadSettings."""
    return template(settings)[0]


def template(settings: Settings) -> tuple[Form, Json, Json]:
    """The template as it is to be used, and that of it which trains: a Job's container, or a
    TrainJob's trainer. Raises BadSettings."""
    path = settings.kubernetes_job or TEMPLATE
    try:
        job = yaml.safe_load(path.read_text(encoding="utf-8"))
        kind = job["apiVersion"], job["kind"]
        if kind == (JOB.api, JOB.kind):
            form, containers = JOB, job["spec"]["template"]["spec"]["containers"]
            (trainer,) = [each for each in containers if each["name"] == form.container]
        elif kind == (TRAIN_JOB.api, TRAIN_JOB.kind):
            form, trainer = TRAIN_JOB, job["spec"].setdefault("trainer", {})
        else:
            raise ValueError(f"it is a {' '.join(map(str, kind))}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as exc:
        raise BadSettings(
            f"TOPLOSS_KUBERNETES_JOB={str(path)!r} is no {JOB.api} Job with one container "
            f"{JOB.container!r}, and no {TRAIN_JOB.api} TrainJob ({exc}); begin with a copy of "
            f"{TEMPLATE}"
        ) from exc
    if settings.kubernetes_image:
        trainer["image"] = settings.kubernetes_image
    if not trainer.get("image"):
        raise BadSettings(
            "TOPLOSS_KUBERNETES_IMAGE is not set, and the Job's template names no image; name one "
            "that has Toploss installed"
        )
    return form, job, trainer


def _count_gpus(resources: Json, settings: Settings) -> None:
    """One per process, where the template asks for any."""
    for kind in ("requests", "limits"):
        asked = resources.get(kind) or {}
        if GPU in asked:
            asked[GPU] = str(settings.train_processes)
            if settings.device == "cpu":
                del asked[GPU]
