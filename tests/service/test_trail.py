"""The trail over HTTP: in pages and whole, and what was decided elsewhere."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import House, is_problem, serve
from toploss import keys, trail


def take_in(house: House, data: str | bytes, media_type: str = "text/csv", query: str = "") -> Any:
    return house.client.post(
        f"/v1/decisions/import{query}", content=data, headers={"content-type": media_type}
    )


def decide(house: House, sample: str, action: str = "confirm", **more: Any) -> dict[str, Any]:
    body = {"sample": sample, "action": action, "revision": 1, **more}
    answer = house.client.post("/v1/decisions", json=body)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_the_trail_is_paged_and_exported(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "AT_ONCE", 3)
    for sample in house.ids[:3]:
        last = decide(house, sample)
    house.client.delete(f"/v1/decisions/{last['id']}")
    first = house.client.get("/v1/decisions?limit=3").json()
    rest = house.client.get(f"/v1/decisions?limit=3&cursor={first['next_cursor']}").json()
    events = first["items"] + rest["items"]
    assert [event["action"] for event in events] == ["undo", "confirm", "confirm", "confirm"]
    assert events[0]["undoes"] == last["id"]
    assert events[1]["actor"] == "local"

    as_csv = house.client.get("/v1/decisions?format=csv")
    assert as_csv.headers["content-type"].startswith("text/csv")
    assert "decisions.csv" in as_csv.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(as_csv.text)))
    assert [row["id"] for row in rows] == [event["id"] for event in events]

    lines = house.client.get("/v1/decisions?format=jsonl")
    assert lines.headers["content-type"].startswith("application/jsonl")
    assert [json.loads(line) for line in lines.text.splitlines()] == events


def test_decisions_made_elsewhere(house: House) -> None:
    one, other = house.ids[0], house.ids[1]
    data = f"sample,label,action\n{one},green,\n{other},,exclude\nnone,green,\n"

    dry = take_in(house, data, query="?dry_run=true").json()
    assert (dry["recorded"], dry["dry_run"]) == (2, True)
    answer = take_in(house, data, "text/csv; charset=utf-8").json()

    assert answer == {
        **{"format": "csv", "dry_run": False, "recorded": 2, "known": 0, "superseded": 0},
        **{"undecided": 0, "conflicts": [], "conflicts_total": 0, "refused_total": 1},
        "refused": answer["refused"],
    }
    assert answer["refused"][0]["row"] == 4
    assert house.client.get(f"/v1/samples/{one}").json()["label"] == "green"
    newest = house.client.get("/v1/decisions").json()["items"][0]
    assert newest["actor"] == "local"
    assert newest["evidence"]["imported"]["from"] == "csv"
    assert "loss_after" not in newest["evidence"] or "order" not in newest["evidence"]
    assert take_in(house, data).json()["known"] == 2
    whole = house.client.get("/v1/decisions?format=csv").text
    assert take_in(house, whole).json()["known"] == 2


def test_what_cannot_be_read_is_a_problem(house: House) -> None:
    is_problem(take_in(house, "x", "text/html"), 415)
    is_problem(house.client.post("/v1/decisions/import", content=b""), 415)
    is_problem(take_in(house, b""), 400)
    is_problem(take_in(house, b"\x00\xff" * 99), 400)
    is_problem(take_in(house, b"[" * 99_999, "application/json"), 400)
    is_problem(take_in(house, "image,label\n", query="?format=excel"), 400)
    told = is_problem(take_in(house, "image,is_label_issue,predicted_label\n1.png,True,red\n"), 400)
    assert "corrected_label" in told
    for cell in (
        "\x00",
        "\ud800".encode("utf-8", "surrogatepass"),
        b"\xff",
        "%00.png",
        "=cmd|' '!A0",
    ):
        raw = cell.encode() if isinstance(cell, str) else cell
        answer = take_in(house, b"image,label,at\n" + raw + b",red," + raw + b"\n")
        assert (answer.status_code, answer.json()["refused_total"]) == (200, 1)
    assert house.client.get("/v1/decisions").json()["items"] == []


@pytest.fixture
def narrow(tmp_path: Path, export: Path, bentoml_home: Path) -> Iterator[House]:
    yield from serve(tmp_path, export, max_archive=100_000)


def test_a_file_may_be_as_large_as_an_archive(narrow: House) -> None:
    assert take_in(narrow, b"image,label\n" + b"a" * 90_000).status_code == 200
    assert "TOPLOSS_MAX_ARCHIVE" in is_problem(take_in(narrow, b"image,label\n" * 30_000), 413)


def test_who_may_import(house: House) -> None:
    secret = {role: keys.create(house.home, role, role) for role in ("predict", "review")}
    house.desk.doorkeeper.look()
    for role, status in (("predict", 403), ("review", 200)):
        headers = {"authorization": f"Bearer {secret[role]}", "content-type": "text/csv"}
        data = f"sample,label\n{house.ids[0]},green\n"
        answer = house.client.post("/v1/decisions/import", content=data, headers=headers)
        assert answer.status_code == status
    assert trail.listed(house.home)[0]["actor"] == "review"
