"""Retraining over HTTP: asking, watching, stopping."""

from typing import Any

from tests.service.conftest import House, is_problem, picture
from toploss import artifact, models, records


def fill(house: House) -> None:
    """Enough images for a training: two of each class, and some in every split."""
    for seed in range(100, 140):
        house.client.post(
            "/v1/samples",
            files={"image": picture(seed)},
            data={"label": ["blue", "red", "green"][seed % 3]},
        )


def test_asking_only_enqueues(empty: House) -> None:
    assert empty.client.post("/v1/retrainings").status_code == 202
    (run,) = empty.client.get("/v1/retrainings").json()["items"]
    assert run["state"] == "queued"


def test_one_waits_and_takes_more_reasons(house: House) -> None:
    fill(house)
    first = house.client.post("/v1/retrainings", json={"reason": "new light"})
    assert first.status_code == 202, first.text
    assert first.json()["state"] == "queued"
    again = house.client.post("/v1/retrainings")
    assert again.json() == first.json()
    shown = house.client.get(f"/v1/retrainings/{first.json()['id']}").json()
    assert [asked["reason"] for asked in shown["reasons"]] == ["new light", "asked for over HTTP"]
    assert shown["reasons"][0]["actor"] == "local"
    assert shown["reasons"][0]["kind"] == "http"
    assert shown["created_at"].endswith("Z")


def test_it_is_cancelled_once(house: House) -> None:
    fill(house)
    run = house.client.post("/v1/retrainings").json()["id"]
    assert house.client.post(f"/v1/retrainings/{run}/cancel").json()["state"] == "cancelled"
    done = house.client.get("/v1/retrainings").json()["items"][-1]["id"]
    is_problem(house.client.post(f"/v1/retrainings/{done}/cancel"), 409)
    is_problem(house.client.post("/v1/retrainings/nobody/cancel"), 404)


def test_the_list_is_paged(house: House) -> None:
    fill(house)
    for _ in range(2):
        run = house.client.post("/v1/retrainings").json()["id"]
        house.client.post(f"/v1/retrainings/{run}/cancel")
    first = house.client.get("/v1/retrainings?limit=2").json()
    rest = house.client.get(f"/v1/retrainings?limit=2&cursor={first['next_cursor']}").json()
    found = [item["id"] for item in first["items"] + rest["items"]]
    assert len(found) == 3
    assert found == sorted(found, reverse=True)


def test_log_and_report(house: House) -> None:
    version = models.get(house.home, "production")
    log, report = f"/v1/retrainings/{version.run}/log", f"/v1/retrainings/{version.run}/report"
    assert house.client.get(log).text == ""
    is_problem(house.client.get(report), 404)
    house.home.blobs.put(records.log_path(version.run, 1), "epoch 1 ✓\n".encode())
    house.home.blobs.put(f"{version.path}/{artifact.REPORT}", b"<h1>It went well</h1>")
    answer = house.client.get(log)
    assert answer.text == "epoch 1 ✓\n"
    assert answer.headers["content-type"].startswith("text/plain")
    page = house.client.get(report)
    assert page.text == "<h1>It went well</h1>"
    assert "sandbox" in page.headers["content-security-policy"]
    for part in ("", "/log", "/report"):
        is_problem(house.client.get(f"/v1/retrainings/nobody{part}"), 404)


def test_a_wrong_wish(house: House) -> None:
    wrong: list[Any] = [
        {"reason": 7},
        {"reason": ""},
        {"force": "x"},
        {"reason": "x" * 501},
        {"why": "x"},
        [],
    ]
    for body in wrong:
        is_problem(house.client.post("/v1/retrainings", json=body), 400)
