"""The blind queues over HTTP: what they show, and what they keep to themselves."""

from typing import Any

import pytest

from tests.service.conftest import House, is_problem, picture, serve
from toploss import keys, samples
from toploss.keys import Role
from toploss.splits import Split


@pytest.fixture
def asking(tmp_path, export, bentoml_home, unserved):
    """The house with everything asked about, and two reviewers with keys of their own."""
    import shutil

    shutil.copytree(unserved[0], tmp_path / "home")
    everything = {"second_opinion": 1, "review_again": 1, "review_again_after": 1}
    for house in serve(tmp_path, export, holdout_slice=1, **everything):
        house.ids.extend(unserved[1])
        house.secrets = {
            name: keys.create(house.home, name, Role.REVIEW) for name in ("ann", "bob")
        }
        house.desk.doorkeeper.look()
        yield house


def ask(house: House, who: str, path: str, status: int = 200) -> Any:
    answer = house.client.get(path, headers=bearer(house, who))
    assert answer.status_code == status, answer.text
    return answer.json()


def say(house: House, who: str, path: str, key: str | None = None, **body: Any) -> Any:
    headers = bearer(house, who) | ({"Idempotency-Key": key} if key else {})
    return house.client.post(path, json=body, headers=headers)


def bearer(house: House, who: str) -> dict[str, str]:
    return {"authorization": f"Bearer {house.secrets[who]}"}


ITEM = {"id", "revision", "image", "thumbnail", "width", "height"}


def test_a_second_opinion_and_what_comes_of_it(asking: House) -> None:
    for sample in asking.ids[:3]:
        decided = say(asking, "ann", "/v1/decisions", sample=sample, action="confirm", revision=1)
        assert decided.status_code == 201

    assert ask(asking, "ann", "/v1/blind?queue=second")["total"] == 0
    page = ask(asking, "bob", "/v1/blind?queue=second&limit=2")
    assert page["total"] == 3
    assert [item["id"] for item in page["items"]] == asking.ids[:2]
    assert page["items"][0].keys() == ITEM
    assert asking.client.get(page["items"][0]["image"], headers=bearer(asking, "bob")).is_success
    rest = ask(asking, "bob", f"/v1/blind?queue=second&cursor={page['next_cursor']}")
    assert [item["id"] for item in rest["items"]] == asking.ids[2:3]
    assert rest["next_cursor"] is None

    body = {"queue": "second", "sample": asking.ids[0], "revision": 2, "seconds": 1.5}
    answer = say(asking, "bob", "/v1/blind", "k", action="label", label="green", **body)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert told.keys() == {"id", "sample", "revision", "next"}
    assert (told["sample"], told["revision"]) == (asking.ids[0], 2)
    assert told["next"] == page["items"][1]
    again = say(asking, "bob", "/v1/blind", "k", action="label", label="green", **body)
    assert again.json() == told

    found = ask(asking, "ann", "/v1/disagreements")
    assert found["total"] == 1
    (item,) = found["items"]
    assert item.keys() == ({*ITEM, "label", "split", "first", "second"} - {"width", "height"})
    assert (item["label"], item["split"], item["revision"]) == ("blue", "valid", 2)
    assert item["first"].keys() == {"by", "action", "label", "at"}
    assert item["first"]["by"] == "ann"
    assert item["second"] == {
        **{"by": "bob", "action": "label", "label": "green"},
        "at": item["second"]["at"],
    }
    assert item["second"]["at"].endswith("Z")
    agreed = ask(asking, "ann", "/v1/agreement")
    assert agreed["second"]["by"] == [{"first": "ann", "second": "bob", "pairs": 1, "kappa": 0.0}]
    assert agreed["again"] == {"pairs": 0, "agree": 0, "kappa": None, "interval": None}

    settle = {"sample": asking.ids[0], "action": "relabel", "label": "green", "revision": 2}
    assert say(asking, "ann", "/v1/decisions", **settle).status_code == 201
    assert ask(asking, "ann", "/v1/disagreements")["total"] == 0


def test_one_s_own_decisions_come_back(asking: House) -> None:
    for sample in asking.ids[:2]:
        say(asking, "ann", "/v1/decisions", sample=sample, action="confirm", revision=1)

    assert ask(asking, "bob", "/v1/blind?queue=again")["total"] == 0
    (item,) = ask(asking, "ann", "/v1/blind?queue=again")["items"]
    body = {"queue": "again", "sample": item["id"], "revision": 2}
    answer = say(asking, "ann", "/v1/blind", action="exclude", **body)
    assert (answer.status_code, answer.json()["next"]) == (201, None)
    assert ask(asking, "ann", "/v1/agreement")["again"]["pairs"] == 1


def test_the_holdout_is_corrected_blind(asking: House) -> None:
    samples.add(asking.home, picture(50), "red", name="50.png", actor="test", split=Split.TEST)
    page = ask(asking, "ann", "/v1/blind?queue=holdout")
    assert (page["total"], {item["id"] for item in page["items"]} >= {asking.ids[11]}) == (2, True)
    assert page["items"][0].keys() == ITEM
    one, other = page["items"]

    body = {"queue": "holdout", "sample": one["id"], "action": "label", "revision": 1}
    first = say(asking, "ann", "/v1/blind", "k", label="green", **body)
    assert first.status_code == 201, first.text
    assert first.json()["next"] == other
    assert say(asking, "ann", "/v1/blind", "k", label="green", **body).json() == first.json()

    stale = say(asking, "bob", "/v1/blind", label="red", **body)
    is_problem(stale, 409)
    assert stale.json()["present"] == {"id": one["id"], "revision": 2}
    shown = ask(asking, "ann", f"/v1/samples/{one['id']}")
    assert (shown["label"], shown["decision"]) == ("green", "relabel")
    holdout = ask(asking, "ann", "/v1/holdout")
    assert {name: holdout[name] for name in ("samples", "reviewed", "corrected", "left")} == {
        **{"samples": 2, "reviewed": 1, "corrected": 1, "left": 1}
    }
    assert holdout["random_slice"]["wrong"] == 1
    (version,) = holdout["versions"]
    assert version.keys() == {"version", "production", "at_training", "today", "interval"}
    assert version["production"] is True
    trail = ask(asking, "ann", "/v1/decisions")["items"][0]
    assert (trail["actor"], trail["evidence"]) == ("ann", {"blind": "holdout"})


WRONG: list[tuple[dict[str, Any], int]] = [
    ({"label": "catt"}, 422),
    ({"label": None}, 400),
    ({"action": "exclude"}, 400),
    ({"action": "confirm", "label": None}, 400),
    ({"queue": "all"}, 400),
    ({"sample": "x"}, 404),
    ({"sample": "\x00"}, 404),
    ({"revision": 2**31}, 400),
    ({"revision": 0}, 409),
    ({"seconds": -1}, 400),
    ({"more": 1}, 400),
]


@pytest.mark.parametrize("queue", ["holdout", "second"])
def test_what_is_wrong_is_told_and_recorded_nowhere(asking: House, queue: str) -> None:
    say(asking, "ann", "/v1/decisions", sample=asking.ids[0], action="confirm", revision=1)
    sample, revision = (asking.ids[11], 1) if queue == "holdout" else (asking.ids[0], 2)
    right = {"queue": queue, "sample": sample, "revision": revision, "action": "label"}

    for change, status in WRONG:
        body = {**right, "label": "red", **change}
        is_problem(say(asking, "bob", "/v1/blind", **body), status)

    for name in ("holdout", "second"):
        assert ask(asking, "bob", f"/v1/blind?queue={name}")["total"] == 1


def test_a_wrong_question(house: House) -> None:
    for path in (
        "/v1/blind",
        "/v1/blind?queue=all",
        "/v1/blind?queue=second&limit=0",
        "/v1/blind?queue=second&cursor=x",
        "/v1/blind?queue=again&cursor=WzFd",
        "/v1/disagreements?cursor=WyJhIl0",
    ):
        is_problem(house.client.get(path), 400)


def test_without_keys_everybody_is_the_same_and_nobody_else_is_asked(house: House) -> None:
    for path in ("/v1/blind?queue=second", "/v1/blind?queue=again", "/v1/disagreements"):
        assert house.client.get(path).json() == {"items": [], "next_cursor": None, "total": 0}


def test_an_empty_house(empty: House) -> None:
    assert empty.client.get("/v1/blind?queue=holdout").json()["total"] == 0
    holdout = empty.client.get("/v1/holdout").json()
    assert (holdout["samples"], holdout["versions"]) == (0, [])
    assert empty.client.get("/v1/agreement").json()["second"]["kappa"] is None
