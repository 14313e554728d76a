"""What the status of a Job and of its pods means for an attempt, in our words."""

from dataclasses import dataclass
from typing import Any

from toploss.states import BAD_DATA

LOST = -1  # it ended, and nobody knows with which exit code

Json = dict[str, Any]

ON_ITS_WAY = ("ContainerCreating", "PodInitializing")
# Kubelet's reasons that no waiting changes.
HOPELESS = ("InvalidImageName", "ErrImageNeverPull")


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How an attempt looks from outside."""

    code: int | None = None  # its exit code, or LOST; None: it has not ended
    running: bool = False  # its container works: from here on it speaks for itself
    trouble: str = ""  # why it does not begin, or how it ended
    hopeless: bool = False  # it never will


def seen(job: Json | None, pods: list[Json], container: str) -> Sight:
    """What there is to see.

    Args:
        job: None: there is none of that name any more.
        pods: the Job's, oldest first.
        container: the one that trains.
    """
    if job is None:
        return Sight(code=LOST, trouble="its Job is gone: somebody has deleted it")
    ending = _condition(job, "Failed") or _condition(job, "Complete")
    pod = pods[-1] if pods else None
    if ending is not None:
        return _ended(ending, _telling(pods, container) or pod, container)
    if job["spec"].get("suspend"):
        return Sight(trouble="its Job is suspended")
    if pod is None:
        return Sight(trouble="its Job has no pod")
    if _phase(pod) == "Running" and _container(pod, container).get("running") is not None:
        return Sight(running=True)
    return _waiting(pod, container)


def _telling(pods: list[Json], container: str) -> Json | None:
    """Of several that trained together, the one with bad data: those beside it only lost it."""
    for pod in pods:
        if (_container(pod, container).get("terminated") or {}).get("exitCode") == BAD_DATA:
            return pod
    return None


def _ended(ending: Json, pod: Json | None, container: str) -> Sight:
    if ending["type"] == "Complete":
        return Sight(code=0)
    why = [f"{ending.get('reason', 'Failed')}: {ending.get('message', 'no message')}"]
    if ending.get("reason") == "DeadlineExceeded":
        why = ["it ran past its time limit (TOPLOSS_RUN_LIMIT_S)"]
    if pod is None:
        return Sight(code=LOST, trouble=f"its pod has vanished ({why[0]})")
    died = _container(pod, container).get("terminated") or {}
    if died.get("reason") == "OOMKilled":
        why.insert(0, "out of memory (OOMKilled): raise the limit in the Job's template")
    if pod["status"].get("reason"):  # Evicted, NodeLost, …
        why.insert(0, f"{pod['status']['reason']}: {pod['status'].get('message', '')}".strip(": "))
    disrupted = _condition(pod, "DisruptionTarget")
    if disrupted is not None:
        why.insert(0, f"{disrupted.get('reason')}: {disrupted.get('message')}")
    code = died.get("exitCode")
    return Sight(code=LOST if code is None else code, trouble="; ".join(why))


def _waiting(pod: Json, container: str) -> Sight:
    name = pod["metadata"]["name"]
    unplaced = _condition(pod, "PodScheduled", status="False")
    if unplaced is not None:
        told = unplaced.get("message") or unplaced.get("reason")
        return Sight(trouble=f"pod {name} cannot be scheduled: {told}")
    waiting = _container(pod, container).get("waiting") or {}
    reason = waiting.get("reason")
    if reason and reason not in ON_ITS_WAY:
        told = f"pod {name} does not start: {reason}: {waiting.get('message', '')}".rstrip(": ")
        return Sight(trouble=told, hopeless=reason in HOPELESS)
    return Sight()  # being pulled, created, ended or replaced


def _container(pod: Json, container: str) -> Json:
    """The training's state: one of `waiting`, `running`, `terminated`, or nothing yet."""
    for status in pod["status"].get("containerStatuses") or []:
        if status["name"] == container:
            return dict(status.get("state") or {})
    return {}


def _phase(pod: Json) -> str:
    return str(pod["status"].get("phase"))


def _condition(thing: Json, kind: str, *, status: str = "True") -> Json | None:
    for condition in (thing.get("status") or {}).get("conditions") or []:
        if condition["type"] == kind and condition["status"] == status:
            return dict(condition)
    return None
