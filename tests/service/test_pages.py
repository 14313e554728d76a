"""The pages as they are answered: to browsers, to other clients, to each role."""

from html import unescape

import pytest

from service.pages import LOOK_MS
from tests.service.conftest import House, is_problem
from toploss import keys, models, records
from toploss.keys import Role

BROWSER = {"accept": "text/html,application/xhtml+xml"}
PAGES = ("/review", "/data", "/data/counts", "/models", "/runs")


@pytest.mark.parametrize("path", PAGES)
def test_pages_run_nothing_but_ours(house: House, path: str) -> None:
    answer = house.client.get(path, headers=BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert " style=" not in answer.text
    assert "<script>" not in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/runs/nobody", 404),
        ("/models/nobody", 404),
        ("/runs?cursor=x", 400),
        ("/data?page=0", 400),
    ],
)
def test_a_browser_is_told_on_a_page_and_others_by_a_problem(
    house: House, path: str, status: int
) -> None:
    detail = is_problem(house.client.get(path), status)
    answer = house.client.get(path, headers=BROWSER)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert detail in unescape(answer.text).replace("<code>", "`").replace("</code>", "`")


def test_what_people_write_is_shown_as_text(house: House) -> None:
    house.client.post("/v1/retrainings", json={"reason": "<img src=x onerror=alert(1)>"})
    page = house.client.get("/runs", headers=BROWSER).text
    assert "&lt;img src=x" in page
    assert "<img src=x" not in page


def test_a_run_that_has_ended_is_not_looked_at_again(house: House) -> None:
    done = models.get(house.home, "production").run
    assert "data-poll" not in house.client.get(f"/runs/{done}").text
    run = house.client.post("/v1/retrainings").json()["id"]
    assert f'data-poll="{LOOK_MS}"' in house.client.get(f"/runs/{run}").text
    assert f'data-poll="{LOOK_MS}"' in house.client.get("/runs").text


def test_the_log_s_end_is_shown(house: House) -> None:
    run = models.get(house.home, "production").run
    log = "".join(f"line {number}\n" for number in range(5000))
    house.home.blobs.put(records.log_path(run, 1), log.encode())
    page = house.client.get(f"/runs/{run}").text
    assert "line 4999\n" in page
    assert "line 3000\n" not in page
    assert records.log_tail(house.home, run, 20) == "line 4999\n"


def test_roles(house: House) -> None:
    secrets = {role: keys.create(house.home, f"{role}-key", role) for role in Role}
    house.desk.doorkeeper.look()
    for path in PAGES:
        for role, secret in secrets.items():
            answer = house.client.get(path, headers={"authorization": f"Bearer {secret}"})
            assert answer.status_code == (403 if role is Role.PREDICT else 200)
    version = house.publish()
    for role, buttons in ((Role.REVIEW, False), (Role.ADMIN, True)):
        headers = {"authorization": f"Bearer {secrets[role]}"}
        for path in ("/models", f"/models/{version}", "/runs"):
            page = house.client.get(path, headers=headers).text
            assert ("data-act" in page) is buttons
