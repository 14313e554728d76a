"""The automatic policy over HTTP."""

from typing import Any

from tests.service.conftest import House, is_problem


def test_it_is_paused_and_resumed(house: House) -> None:
    before = house.client.get("/v1/policy").json()
    assert (before["paused"], before["pause"]) == (False, None)
    assert "changed samples" in before["why"]
    assert before["kind"] is None

    paused = house.client.post("/v1/policy/pause", json={"reason": "the holidays"}).json()

    assert (paused["due"], paused["why"]) == (False, "paused: the holidays")
    assert paused["pause"]["reason"] == "the holidays"
    assert paused["pause"]["actor"] == "local"
    assert paused["pause"]["at"].endswith("Z")
    assert house.client.get("/v1/policy").json() == paused
    assert "the holidays" in house.client.get("/runs").text
    assert house.client.post("/v1/policy/resume").json()["pause"] is None
    assert "the holidays" not in house.client.get("/runs").text


def test_a_roll_back_shows_as_a_pause(house: House) -> None:
    house.promote()
    house.client.post("/v1/models/rollback", json={"reason": "cats look odd"})
    told = house.client.get("/v1/policy").json()["pause"]["reason"]
    assert told.endswith("cats look odd")


def test_a_wrong_wish(house: House) -> None:
    wrong: list[Any] = [{}, {"reason": ""}, {"reason": 7}, {"reason": "x" * 501}, {"why": "x"}, []]
    for body in wrong:
        is_problem(house.client.post("/v1/policy/pause", json=body), 400)
    is_problem(house.client.post("/v1/policy/pause"), 400)
    is_problem(house.client.post("/v1/policy/resume", json={"reason": 7}), 400)
