"""The admission policy, by Google's own CEL: what it lets into the trainings' namespace."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.k8s.rendered import Json, of_kind, one, pod

cel = pytest.importorskip(
    "cel_expr_python.cel", reason="no wheel of cel-expr-python for this platform"
)

FORGED: dict[str, Callable[[Json, Json], Any]] = {
    # The change, on a pod's spec and its container, and what is said of it.
    "image": lambda spec, it: it.update(image="registry.example/miner:1"),
    "another tag": lambda spec, it: it.update(image=it["image"] + "2"),
    "no image": lambda spec, it: it.pop("image"),
    "a second container": lambda spec, it: spec["containers"].append({**it, "image": "miner"}),
    "an init container": lambda spec, it: spec.update(initContainers=[{**it, "image": "miner"}]),
    "a shell before": lambda spec, it: spec.update(initContainers=[{**it, "command": ["sh"]}]),
    "account": lambda spec, it: spec.update(serviceAccountName="admin"),
    "default account": lambda spec, it: spec.pop("serviceAccountName"),
    "token": lambda spec, it: spec.update(automountServiceAccountToken=True),
    "token by default": lambda spec, it: spec.pop("automountServiceAccountToken"),
    "token by projection": lambda spec, it: spec["volumes"].append(
        {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
    ),
    "the host's disk": lambda spec, it: spec["volumes"].append(
        {"name": "h", "hostPath": {"path": "/"}}
    ),
    "another secret": lambda spec, it: spec["volumes"].append(
        {"name": "s", "secret": {"secretName": "other"}}
    ),
    "shell": lambda spec, it: it.update(command=["sh", "-c"]),
    "the image's own command": lambda spec, it: it.pop("command"),
    "another module": lambda spec, it: it.update(args=["http.server"]),
    "no module": lambda spec, it: it.update(args=[]),
    "hook": lambda spec, it: it.update(lifecycle={"postStart": {"exec": {"command": ["sh"]}}}),
    "probe": lambda spec, it: it.update(livenessProbe={"exec": {"command": ["sh"]}}),
}


def training(objects: list[Json]) -> Json:
    """The Job of an attempt, whoever makes it."""
    spec = copy.deepcopy(pod(objects, "training").spec)
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": spec}}}


def refusals(objects: list[Json], job: Json) -> list[str]:
    """What the policy has against a Job, by its messages. Raises where an expression is none."""
    policy = one(objects, "ValidatingAdmissionPolicy", "toploss-training")["spec"]
    (binding,) = of_kind(objects, "ValidatingAdmissionPolicyBinding")
    reference = binding["spec"]["paramRef"]
    params = one(objects, "ConfigMap", reference["name"], reference["namespace"])
    known: Json = {"object": job, "params": params, "variables": {}}
    environment = cel.NewEnv(variables=dict.fromkeys(known, cel.Type.DYN))

    def told(expression: str) -> Any:
        found = environment.compile(expression).eval(environment.Activation(known))
        assert found.type() != cel.Type.ERROR, (expression, found.value())
        return found.plain_value()

    for variable in policy["variables"]:
        known["variables"][variable["name"]] = told(variable["expression"])
    return [
        rule["message"] if "message" in rule else told(rule["messageExpression"])
        for rule in policy["validations"]
        if not told(rule["expression"])
    ]


def test_a_training_is_let_in(spread: list[Json]) -> None:
    job = training(spread)
    assert refusals(spread, job) == []

    together = copy.deepcopy(job)
    (container,) = together["spec"]["template"]["spec"]["containers"]
    container["args"] = ["training.together", "4", *container["args"][1:]]
    assert refusals(spread, together) == []


@pytest.mark.parametrize("forged", FORGED)
def test_nothing_else_is(production: list[Json], forged: str) -> None:
    job = training(production)
    spec = job["spec"]["template"]["spec"]

    FORGED[forged](spec, spec["containers"][0])

    assert len(refusals(production, job)) == 1


def test_it_says_what_the_image_has_to_be(production: list[Json]) -> None:
    job = training(production)
    job["spec"]["template"]["spec"]["containers"][0]["image"] = "miner"
    (dispatcher,) = pod(production, "dispatcher").containers

    (told,) = refusals(production, job)

    assert told == f"every container has to have the image {dispatcher['image']}"


def test_it_holds_in_the_trainings_namespace_and_fails_closed(spread: list[Json]) -> None:
    policy = one(spread, "ValidatingAdmissionPolicy", "toploss-training")["spec"]
    (binding,) = of_kind(spread, "ValidatingAdmissionPolicyBinding")
    told = pod(spread, "dispatcher").environment(spread)["TOPLOSS_KUBERNETES_NAMESPACE"]

    assert policy["failurePolicy"] == "Fail"
    assert binding["spec"]["policyName"] == "toploss-training"
    assert binding["spec"]["validationActions"] == ["Deny"]
    assert binding["spec"]["paramRef"]["parameterNotFoundAction"] == "Deny"
    selector = binding["spec"]["matchResources"]["namespaceSelector"]
    assert selector == {"matchLabels": {"kubernetes.io/metadata.name": told}}
