"""Versions over HTTP, and the moves of production."""

from tests.service.conftest import LABELS, House, is_problem
from toploss import servers
from toploss.servers import Standing


def test_the_card_is_of_the_version_that_answers(house: House) -> None:
    card = house.client.get("/v1/model").json()
    assert card["generation"] == 1
    assert card["labels"] == list(LABELS)
    assert card["engine"] == "onnx"
    assert card["snapshot"]["fingerprint"] == "f" * 64
    assert card["trained_at"].endswith("Z")


def test_without_a_model_there_is_no_card(empty: House) -> None:
    assert "no model yet" in is_problem(empty.client.get("/v1/model"), 503)
    assert empty.client.get("/v1/models").json() == {
        "items": [],
        "next_cursor": None,
        "production": None,
        "behind": [],
        "watch": None,
    }


def test_promote_and_roll_back(house: House) -> None:
    first = house.client.get("/v1/model").json()["version"]
    second = house.publish()
    moved = house.client.post(f"/v1/models/{second}/promote", json={"reason": "better"})
    assert moved.status_code == 200, moved.text
    assert (moved.json()["version"], moved.json()["generation"]) == (second, 2)
    house.wait(lambda: house.answering() == 2)
    listed = house.client.get("/v1/models").json()
    assert [(item["version"], item["production"]) for item in listed["items"]] == [
        (second, True),
        (first, False),
    ]
    assert listed["production"]["reason"] == "better"
    back = house.client.post("/v1/models/rollback", json={"reason": "worse after all"})
    assert (back.json()["version"], back.json()["generation"]) == (first, 3)
    house.wait(lambda: house.answering() == 3)
    assert house.client.get("/v1/dataset").json()["retraining"]["paused"]


def test_a_server_that_does_not_come_to_production_is_told(house: House) -> None:
    late = Standing(version="v", generation=0, wanted=1, waits_s=99, error="<full>")
    with house.home.db.write() as connection:
        servers.say(connection, "a", "host:1", late)

    (told,) = house.client.get("/v1/models").json()["behind"]
    assert (told["server"], told["waits_s"], told["error"]) == ("host:1", 99, "<full>")
    page = house.client.get("/models", headers={"accept": "text/html"}).text
    assert "server host:1 answers with v, and not with production for 99 s: &lt;full&gt;" in page


def test_to_override_the_gate_takes_a_reason(house: House) -> None:
    gate = {"verdict": "reject", "reason": "accuracy <0.5>", "passed": False}
    version = house.publish(more=lambda _: {"gate": gate})
    path = f"/v1/models/{version}/promote"
    for body in (None, {}, {"reason": None}, {"reason": "  "}):
        detail = is_problem(house.client.post(path, json=body), 409)
        assert "the gate refused version" in detail
        assert '{"reason": "…"}' in detail
    page = house.client.get(f"/models/{version}", headers={"accept": "text/html"}).text
    assert 'data-verb="Override the gate"' in page
    assert "accuracy &lt;0.5&gt;" in page
    moved = house.client.post(path, json={"reason": "it is small"})
    assert moved.status_code == 200, moved.text
    assert (moved.json()["kind"], moved.json()["reason"]) == ("override", "it is small")
    assert house.client.get("/v1/models").json()["production"]["kind"] == "override"
    page = house.client.get("/models", headers={"accept": "text/html"}).text
    assert "against the gate: it is small" in page


def test_moves_that_cannot_be(house: House) -> None:
    is_problem(house.client.post("/v1/models/nobody/promote"), 404)
    is_problem(house.client.post("/v1/models/rollback"), 409)
    is_problem(house.client.post("/v1/models/rollback", json={"because": "x"}), 400)


def test_the_list_is_paged(house: House) -> None:
    names = [house.publish() for _ in range(2)]
    first = house.client.get("/v1/models?limit=2").json()
    rest = house.client.get(f"/v1/models?limit=2&cursor={first['next_cursor']}").json()
    found = [item["version"] for item in first["items"] + rest["items"]]
    assert len(found) == 3
    assert set(names) < set(found)
    assert found == sorted(found, reverse=True)
