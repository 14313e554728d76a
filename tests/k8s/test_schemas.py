"""Every object against the real schemas of three releases of Kubernetes, unknown fields refused."""

import kubernetes_validate
import pytest
from jsonschema import validate
from kubernetes_validate.utils import all_versions

from tests.k8s.crds import SCHEMAS
from tests.k8s.rendered import Json, trainings

RELEASES = all_versions()[-3:]


@pytest.mark.parametrize("release", RELEASES)
def test_the_schema_allows_every_object(objects: list[Json], release: str) -> None:
    for made in [*objects, *trainings(objects)]:
        if made["kind"] in SCHEMAS:
            validate(made, SCHEMAS[made["kind"]])
        else:
            kubernetes_validate.validate(made, release, strict=True)


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
