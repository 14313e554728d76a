"""The drift over HTTP: in numbers, in words and as a picture."""

from xml.etree import ElementTree

import pytest

from service import chart
from tests.service.conftest import House, is_problem, plain
from tests.service.drifting import answered
from toploss import drift
from toploss.drift import Kind

SVG = "{http://www.w3.org/2000/svg}"


def plot(house: House) -> ElementTree.Element:
    answer = house.client.get("/v1/drift/plot")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/svg+xml"
    policy = answer.headers["content-security-policy"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    return ElementTree.fromstring(answer.text)


def words(tree: ElementTree.Element) -> str:
    return " | ".join(filter(None, tree.itertext()))


def test_few_answers(drifting: House) -> None:
    drifting.client.post("/predict", files={"image": plain("red")})
    drifting.desk.traffic.note()

    found = drifting.client.get("/v1/drift").json()

    assert found["model"] == drifting.client.get("/v1/model").json()["version"]
    assert (found["state"], found["answers"], found["needed"]) == ("too few", 1, 200)
    assert (found["hours"], found["reference"], found["alarms"]) == (24, 90, [])
    assert found["since"].endswith(":00:00.000Z")
    assert found["classes"]["statistic"] is None
    assert found["classes"]["items"][0] == {"label": "red", "expected": 1 / 3, "seen": 1.0}
    assert "1 answers, of 200 that it takes" in words(plot(drifting))


def test_a_shift_in_numbers_and_as_a_picture(drifting: House) -> None:
    answered(drifting, "red", 300)
    drifting.desk.traffic.note()
    drifting.desk.traffic.look()

    found = drifting.client.get("/v1/drift?hours=1").json()

    assert (found["state"], found["hours"], found["answers"]) == ("alarm", 1, 300)
    for kind in ("classes", "features"):
        assert found[kind]["state"] == "alarm"
        assert found[kind]["statistic"] > found[kind]["threshold"] >= 0.25
        assert found[kind]["why"] in found["why"]
    assert {alarm["kind"] for alarm in found["alarms"]} == {"classes", "features"}
    assert found["alarms"][0]["at"].endswith("Z")
    assert sum(found["features"]["items"][0]["seen"]) == pytest.approx(1)

    tree = plot(drifting)
    assert tree.get("role") == "img"
    assert tree.find(f"{SVG}title") is not None
    assert found["classes"]["why"] in (tree.findtext(f"{SVG}desc") or "")
    assert "100.0% / 33.3%" in words(tree)
    assert len(tree.findall(f".//{SVG}line")) == 4


def test_it_stands_on_the_data_s_page(drifting: House) -> None:
    assert "too few" in drifting.client.get("/data").text
    assert "/v1/drift/plot" not in drifting.client.get("/data").text
    answered(drifting, "red", 300)
    drifting.desk.traffic.note()

    page = drifting.client.get("/data").text

    assert "alarm</span>" in page
    assert drifting.client.get("/v1/drift").json()["why"] in page
    assert '<img src="/v1/drift/plot"' in page


def test_a_class_may_have_any_name(drifting: House) -> None:
    answered(drifting, "red", 300)
    drifting.desk.traffic.note()
    found = drift.look(drifting.home)
    found.kinds[Kind.CLASSES].items[0]["label"] = "<script>&\"'" + "é" * 190

    tree = ElementTree.fromstring(chart.draw(found))

    assert "<script>&\"'éééééééé…" in words(tree)


def test_without_a_model(empty: House) -> None:
    for path in ("/v1/drift", "/v1/drift/plot"):
        assert "no version has been promoted" in is_problem(empty.client.get(path), 503)


@pytest.mark.parametrize("hours", ["0", "721", "99999999999999999999", "x", "%00"])
def test_hours_that_there_are_not(house: House, hours: str) -> None:
    is_problem(house.client.get(f"/v1/drift?hours={hours}"), 400)
