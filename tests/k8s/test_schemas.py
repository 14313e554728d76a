"""Every object against the real schemas of three releases of Kubernetes, unknown fields refused."""

import functools

import kubernetes_validate
import pytest
from jsonschema import validate
from kubernetes_validate import utils
from packaging.version import Version

from tests.k8s.crds import SCHEMAS
from tests.k8s.rendered import Json, of_kind, trainings
from tests.training.apiserver import check
from training.jobs import TRAIN_JOB

RELEASES = sorted({utils.major_minor(each) for each in utils.all_versions()}, key=Version)[-3:]


@pytest.mark.parametrize("release", RELEASES)
def test_the_schema_allows_every_object(
    dev: list[Json],
    production: list[Json],
    everything: list[Json],
    machines: list[Json],
    release: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
    overlays = (dev, production, everything, machines)
    every = [made for objects in overlays for made in [*objects, *trainings(objects)]]
    for made in {str(made): made for made in every}.values():  # most are in several
        if made["kind"] in SCHEMAS:
            validate(made, SCHEMAS[made["kind"]])
        elif made["apiVersion"] == TRAIN_JOB.api:
            check(made)  # by Kubeflow's own models
        else:
            kubernetes_validate.validate(made, release, strict=True)


@pytest.mark.parametrize("release", RELEASES)
def test_the_schema_refuses_what_it_does_not_know(production: list[Json], release: str) -> None:
    (autoscaler,) = of_kind(production, "HorizontalPodAutoscaler")
    spec = {**autoscaler["spec"], "minReplica": 2}

    with pytest.raises(kubernetes_validate.ValidationError, match="minReplica"):
        kubernetes_validate.validate({**autoscaler, "spec": spec}, release, strict=True)


def test_no_two_objects_are_one(objects: list[Json]) -> None:
    names = [
        (made["kind"], made["metadata"].get("namespace"), made["metadata"]["name"])
        for made in objects
    ]

    assert len(names) == len(set(names))


def test_everything_is_in_a_namespace_of_ours(objects: list[Json]) -> None:
    wide = {"Namespace", "ResourceFlavor", "ClusterQueue"}
    wide |= {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
    ours = {made["metadata"]["name"] for made in objects if made["kind"] == "Namespace"}

    assert ours <= {"toploss", "toploss-training"}
    for made in objects:
        assert (made["metadata"].get("namespace") in ours) != (made["kind"] in wide), made
        assert made["metadata"]["labels"]["app.kubernetes.io/name"] == "toploss", made["metadata"]
