"""Reviewing over HTTP: the list, decisions, their undoing, and the page's promises."""

import csv
import io
import re
from typing import Any

import pytest

from service.pages import WEB
from tests.service.conftest import House, is_problem
from toploss.orders import Order


def items(house: House, query: str = "") -> list[dict[str, Any]]:
    return list(house.client.get(f"/v1/top-losses{query}").json()["items"])


def decide(house: House, item: dict[str, Any], action: str = "confirm", **more: Any) -> Any:
    headers = more.pop("headers", {})
    body = {"sample": item["id"], "revision": item["revision"], "action": action, **more}
    return house.client.post("/v1/decisions", json=body, headers=headers)


def test_the_list_is_worst_first_and_paged(house: House) -> None:
    whole = house.client.get("/v1/top-losses").json()
    assert whole["total"] == 8
    assert whole["model"] == house.client.get("/v1/model").json()["version"]
    losses = [item["loss"] for item in whole["items"]]
    assert losses == sorted(losses, reverse=True)
    assert [item["rank"] for item in whole["items"]] == list(range(1, 9))
    assert whole["items"][0].keys() == {
        *("id", "rank", "label", "predicted", "confidence", "loss", "score", "fold", "held_out"),
        *("split", "state", "decision", "revision", "image", "thumbnail"),
        *("name", "source", "returned"),
    }
    for path in ("image", "thumbnail"):
        assert house.client.get(whole["items"][0][path]).status_code == 200
    paged: list[Any] = []
    cursor = ""
    while True:
        page = house.client.get(f"/v1/top-losses?limit=3{cursor}").json()
        paged += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert paged == whole["items"]


def test_the_filters(house: House) -> None:
    assert {item["label"] for item in items(house, "?label=red")} == {"red"}
    assert len(items(house, "?label=red")) == 4
    assert items(house, "?predicted=blue") == []
    assert items(house, "?split=test") == []
    assert items(house, "?state=decided") == []
    decide(house, items(house)[0])
    assert len(items(house, "?state=decided")) == 1
    assert len(items(house, "?state=all")) == 8


@pytest.mark.parametrize("order", list(Order))
def test_pages_in_every_order_join(house: House, order: Order) -> None:
    whole = items(house, f"?order={order}")
    assert len(whole) == 8
    scores = [item["score"] for item in whole]
    assert scores == sorted(scores, reverse=True)
    page = house.client.get(f"/v1/top-losses?order={order}&limit=5").json()
    rest = items(house, f"?order={order}&limit=5&cursor={page['next_cursor']}")
    assert page["items"] + rest == whole


def test_a_cursor_belongs_to_its_order(house: House) -> None:
    cursor = house.client.get("/v1/top-losses?limit=5").json()["next_cursor"]
    answer = house.client.get(f"/v1/top-losses?order=margin&cursor={cursor}")
    assert "by loss, not by margin" in is_problem(answer, 400)
    told = {"order": "margin", "cursor": cursor}
    assert "by loss, not by margin" in is_problem(house.client.post("/v1/claims", json=told), 400)


def test_the_holdout_has_no_such_list_and_it_is_told_why(house: House) -> None:
    page = house.client.get("/v1/top-losses?split=test").json()
    assert page["items"] == []
    assert "/v1/blind?queue=holdout" in page["note"]
    assert house.client.get("/v1/top-losses?split=train").json()["note"] is None


def test_pairs_and_text(house: House) -> None:
    pairs = house.client.get("/v1/top-losses/pairs").json()["items"]
    assert pairs == [
        {"label": "blue", "predicted": "green", "samples": 4},
        {"label": "red", "predicted": "green", "samples": 4},
    ]
    assert [item["name"] for item in items(house, "?text=7")] == ["7.png"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("order=size", 400),
        ("text=", 400),
        ("text=%00", 400),
        ("label=catt", 422),
        ("predicted=catt", 422),
        ("split=all", 400),
        ("state=done", 400),
        ("limit=0", 400),
        ("limit=501", 400),
        ("limit=x", 400),
    ],
)
def test_a_wrong_question(house: House, query: str, status: int) -> None:
    is_problem(house.client.get(f"/v1/top-losses?{query}"), status)


def test_without_a_model_the_list_is_empty_and_says_so(empty: House) -> None:
    answer = empty.client.get("/v1/top-losses").json()
    assert answer == {"items": [], "next_cursor": None, "total": 0, "model": None, "note": None}


@pytest.mark.parametrize("action", ["confirm", "exclude", "skip", "relabel"])
def test_a_decision_answers_with_the_next_of_the_list(house: House, action: str) -> None:
    first, second = items(house)[:2]
    more = {"label": "green"} if action == "relabel" else {}
    answer = decide(house, first, action, **more)
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert (body["sample"], body["revision"]) == (first["id"], 2)
    assert body["next"] == {**second, "rank": 1}
    shown = house.client.get(f"/v1/samples/{first['id']}").json()
    assert shown["decision"] == action
    assert shown["label"] == ("green" if action == "relabel" else first["label"])
    assert shown["state"] == ("excluded" if action == "exclude" else "active")


def test_next_is_of_the_list_given_and_null_at_its_end(house: House) -> None:
    reds = items(house, "?label=red")
    for place, item in enumerate(reds):
        body = decide(house, item, list={"label": "red"}).json()
        wanted = reds[place + 1]["id"] if place + 1 < len(reds) else None
        assert (body["next"] and body["next"]["id"]) == wanted


def test_a_relabel_counts_toward_the_next_run_and_undo_takes_it_back(house: House) -> None:
    item = items(house)[0]
    with house.home.db.write() as connection:
        connection.exec_driver_sql("UPDATE samples SET settled_class_id = class_id, changed = 0")
    decided = decide(house, item, "relabel", label="green").json()
    assert house.client.get("/v1/dataset").json()["changed"] == 1
    undone = house.client.delete(f"/v1/decisions/{decided['id']}")
    assert undone.status_code == 200
    assert undone.json()["revision"] == 3
    assert undone.json().keys() == {"id", "sample", "revision"}
    assert house.client.get("/v1/dataset").json()["changed"] == 0
    assert items(house)[0] == {**item, "revision": 3}
    assert house.client.delete(f"/v1/decisions/{decided['id']}").json() == undone.json()


def test_a_stale_revision_gets_the_present_state(house: House) -> None:
    item = items(house)[0]
    decide(house, item, "relabel", label="green")
    answer = decide(house, item, "exclude")
    assert "revision 2" in is_problem(answer, 409)
    present = answer.json()["present"]
    assert (present["label"], present["revision"], present["decision"]) == ("green", 2, "relabel")


def test_a_decision_under_a_later_one_is_not_undone(house: House) -> None:
    item = items(house)[0]
    first = decide(house, item).json()
    decide(house, {**item, "revision": 2}, "exclude")
    answer = house.client.delete(f"/v1/decisions/{first['id']}")
    is_problem(answer, 409)
    assert answer.json()["present"]["decision"] == "exclude"
    is_problem(house.client.delete("/v1/decisions/nobody"), 404)


def test_the_same_key_gives_the_same_answer_once(house: House) -> None:
    item = items(house)[0]
    key = {"Idempotency-Key": "abc"}
    first = decide(house, item, headers=key)
    again = decide(house, item, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert len(house.client.get("/v1/decisions").json()["items"]) == 1
    is_problem(decide(house, item, "exclude", headers=key), 409)
    is_problem(decide(house, item, headers={"Idempotency-Key": "k" * 201}), 400)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"action": "burn"}, 400),
        ({"action": "relabel"}, 400),
        ({"action": "relabel", "label": "catt"}, 422),
        ({"label": "red"}, 400),
        ({"revision": "one"}, 400),
        ({"revision": None}, 400),
        ({"revision": 10**30}, 400),
        ({"sample": "0" * 64}, 404),
        ({"list": {"order": "size"}}, 400),
        ({"list": {"text": ""}}, 400),
        ({"list": {"colour": "red"}}, 400),
        ({"more": 1}, 400),
    ],
)
def test_a_wrong_decision(house: House, change: dict[str, Any], status: int) -> None:
    item = items(house)[0]
    body = {"sample": item["id"], "revision": 1, "action": "confirm"} | change
    is_problem(house.client.post("/v1/decisions", json=body), status)
    assert house.client.get("/v1/decisions").json()["items"] == []


def decide_several(house: House, *decisions: dict[str, Any], **headers: str) -> Any:
    return house.client.post(
        "/v1/decisions/bulk", json={"decisions": list(decisions)}, headers=headers
    )


def test_several_at_once_of_which_some_are_refused(house: House) -> None:
    a, b, c, d = ({"sample": item["id"], "revision": 1} for item in items(house)[:4])
    answer = decide_several(
        house,
        {**a, "action": "confirm"},
        {**b, "action": "relabel", "label": "catt"},
        {**c, "action": "exclude", "revision": 7},
        {"sample": "0" * 64, "revision": 1, "action": "skip"},
        {**d, "action": "relabel", "label": "green"},
        {**d, "action": "burn"},
        {**a, "action": "exclude"},  # decided above
    )

    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert [one.get("status", 201) for one in told] == [201, 422, 409, 404, 201, 400, 409]
    assert told[2]["present"]["revision"] == 1
    assert told[0].keys() == {"id", "sample", "revision"}
    recorded = house.client.get("/v1/decisions").json()["items"]
    assert [(one["id"], one["action"]) for one in recorded] == [
        (told[4]["id"], "relabel"),
        (told[0]["id"], "confirm"),
    ]


def test_several_again_with_the_same_key_are_recorded_once(house: House) -> None:
    sent = [{"sample": item["id"], "revision": 1, "action": "confirm"} for item in items(house)[:3]]
    first, again = (decide_several(house, *sent, **{"Idempotency-Key": "abc"}) for _ in range(2))
    assert first.json() == again.json()
    assert len(house.client.get("/v1/decisions").json()["items"]) == 3


def test_how_many_at_once(house: House) -> None:
    one = {"sample": "0" * 64, "revision": 1, "action": "confirm"}
    is_problem(decide_several(house), 400)
    is_problem(decide_several(house, *[one] * 501), 400)
    assert [told["status"] for told in decide_several(house, *[one] * 500).json()] == [404] * 500


def test_an_unknown_label_of_the_list_is_refused_before_anything_is_recorded(house: House) -> None:
    is_problem(decide(house, items(house)[0], list={"label": "catt"}), 422)
    assert house.client.get("/v1/decisions").json()["items"] == []


def test_the_next_samples_are_claimed(house: House) -> None:
    answer = house.client.post("/v1/claims", json={"number": 3, "label": "red"}).json()
    assert answer["seconds"] == 300
    assert answer["items"] == items(house, "?label=red")[:3]
    for wrong, status in (({"number": 0}, 400), ({"number": 51}, 400), ({"label": "catt"}, 422)):
        is_problem(house.client.post("/v1/claims", json=wrong), status)


def test_the_trail_tells_what_there_was_to_decide_by(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toploss.trail.AT_ONCE", 1)
    item = items(house, "?order=margin")[2]
    decide(
        house,
        item,
        "relabel",
        label="green",
        rank=item["rank"],
        seconds=2.5,
        list={"order": "margin"},
    )
    plain = items(house)[0]
    decide(house, plain)

    (second, first) = csv.DictReader(io.StringIO(house.client.get("/v1/decisions?format=csv").text))

    assert (first["before"], first["label"]) == (item["label"], "green")
    assert (first["order"], first["rank"], first["seconds"]) == ("margin", "3", "2.5")
    assert float(first["score"]) == item["score"]
    assert float(first["loss"]) == item["loss"]
    assert first["version"] == house.client.get("/v1/model").json()["version"]
    assert (second["order"], second["rank"], second["seconds"]) == ("loss", "", "")


def test_the_page_has_everything_from_here_and_runs_nothing_inline(house: House) -> None:
    page = house.client.get("/review")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    html = page.text
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src=)", html)
    assert "://" not in html
    for path in re.findall(r'(?:src|href)="(/web/[^"]+)"', html):
        asset = house.client.get(path)
        assert asset.status_code == 200, path
        assert asset.headers["cache-control"] == "no-cache"
        assert asset.headers["x-content-type-options"] == "nosniff"


def test_the_script_finds_every_element_it_asks_for() -> None:
    html, script = (WEB / "review.html").read_text(), (WEB / "review.js").read_text()
    wanted = set(re.findall(r'\$\("([\w-]+)"\)', script))
    assert wanted <= set(re.findall(r'id="([\w-]+)"', html))


@pytest.mark.parametrize(
    "path", ["/web/nothing.js", "/web/../app.py", "/web/%2e%2e/app.py", "/web/"]
)
def test_nothing_else_is_handed_out(house: House, path: str) -> None:
    is_problem(house.client.get(path), 404)
