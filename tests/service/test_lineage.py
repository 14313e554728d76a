"""Lineage over HTTP and on pages."""

import csv
import io

import pytest

from service import paging
from tests.service.conftest import House, frozen, is_problem
from toploss import decisions, erasure, keys, models
from toploss.keys import Role


@pytest.fixture
def version(house: House) -> str:
    name = models.get(house.home, "production").name
    frozen(house.home, name)
    return name


def test_from_a_version_to_all_it_came_from(house: House, version: str) -> None:
    found = house.client.get("/v1/versions/production/lineage").json()

    assert found["version"] == version
    assert found["run"]["state"] == "succeeded"
    assert found["run"]["created_at"].endswith("Z")
    assert found["snapshot"]["frozen_at"].endswith("Z")
    assert found["moves"][0]["reason"] == "test"
    assert found["began_with"] == []
    assert found["change"] is None
    assert found["settings"]["arch"]
    assert house.client.get(found["samples"]).status_code == 200


def test_every_sample_of_its_snapshot(house: House, version: str) -> None:
    path, found, cursor = f"/v1/versions/{version}/samples", [], ""
    while cursor is not None:
        page = house.client.get(f"{path}?limit=5" + (cursor and f"&cursor={cursor}")).json()
        found += page["items"]
        cursor = page["next_cursor"]

    assert [row["id"] for row in found] == sorted(house.ids)
    assert {row["split"] for row in found} == {"train", "valid", "test"}
    whole = house.client.get(f"{path}?format=csv")
    assert whole.headers["content-type"].startswith("text/csv")
    assert list(csv.DictReader(io.StringIO(whole.text))) == found


def test_from_a_sample_to_the_versions(house: House, version: str) -> None:
    train, valid = house.ids[9], house.ids[0]
    decisions.decide(house.home, train, "exclude", revision=1, actor="ann")
    later = house.publish()
    frozen(house.home, later)

    (only,) = house.client.get(f"/v1/samples/{train}/versions").json()["items"]
    assert (only["version"], only["part"], only["split"]) == (version, "learned", "train")
    assert only["published_at"].endswith("Z")
    page = house.client.get(f"/v1/samples/{valid}/versions?limit=1").json()
    assert [(one["version"], one["part"]) for one in page["items"]] == [(later, "held-out")]
    path = f"/v1/samples/{valid}/versions?cursor={page['next_cursor']}"
    assert [one["version"] for one in house.client.get(path).json()["items"]] == [version]
    change = house.client.get(f"/v1/versions/{later}/lineage").json()["change"]
    assert (change["version"], change["added"], change["removed"]) == (version, 0, 1)


def test_what_cannot_be(house: House, version: str) -> None:
    unknown = house.publish()
    for path, status in (
        ("/v1/versions/nobody/lineage", 404),
        ("/v1/versions/nobody/samples?format=csv", 404),
        (f"/v1/versions/{unknown}/samples", 404),
        (f"/v1/samples/{'0' * 64}/versions", 404),
        (f"/v1/versions/{version}/samples?cursor={paging.encode('nobody')}", 400),
        (f"/v1/versions/{version}/samples?cursor={paging.encode(7)}", 400),
        (f"/v1/samples/{house.ids[0]}/versions?cursor=x", 400),
        (f"/samples/{'0' * 64}", 404),
        ("/models/nobody/lineage", 404),
    ):
        is_problem(house.client.get(path), status)


def test_the_pages_say_it_too(house: House, version: str) -> None:
    sample = house.ids[9]
    page = house.client.get(f"/samples/{sample}").text
    assert f'href="/models/{version}"' in page
    assert "learned from" in page
    assert f"/v1/samples/{sample}/thumbnail" in page
    part = house.client.get(f"/models/{version}/lineage").text
    assert "generation 1: test" in part

    erasure.erase(house.home, sample, reason="<b>asked for</b>", actor="ann")
    page = house.client.get(f"/samples/{sample}").text
    assert "&lt;b&gt;asked for&lt;/b&gt;" in page
    assert "thumbnail" not in page
    assert "learned from" in page
    assert "1 erased since" in house.client.get(f"/models/{version}/lineage").text


def test_who_may_look(house: House, version: str) -> None:
    secrets = {role: keys.create(house.home, f"{role}-key", role) for role in Role}
    house.desk.doorkeeper.look()
    sample = house.ids[0]
    for path in (
        *(f"/v1/versions/{version}/lineage", f"/v1/versions/{version}/samples"),
        *(f"/v1/samples/{sample}/versions", f"/samples/{sample}", f"/models/{version}/lineage"),
    ):
        for role, secret in secrets.items():
            answer = house.client.get(path, headers={"authorization": f"Bearer {secret}"})
            assert answer.status_code == (403 if role is Role.PREDICT else 200), path
