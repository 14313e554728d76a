"""Calls from outside: signed, once each, and from nobody else."""

import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from service.auth import HOOK
from tests.service.conftest import House, is_problem, serve
from toploss import keys, records, runs, signing

SECRET = "a-secret-of-the-build-server"


@pytest.fixture(params=["sqlite", "postgresql"])
def hooked(
    request: pytest.FixtureRequest, tmp_path: Path, export: Path, bentoml_home: Path
) -> Iterator[House]:
    """A house with a key and a secret, on each of the databases."""
    more = {}
    if request.param == "postgresql":
        more["database_url"] = request.getfixturevalue("new_postgres")()
    for house in serve(tmp_path, export, hook_secret=SECRET, **more):
        house.secrets = {"admin": keys.create(house.home, "ann", "admin")}
        house.desk.doorkeeper.look()
        yield house


def call(house: House, id: str, body: Any = None, *, secret: str = SECRET, at: float = 0) -> Any:
    data = json.dumps(body or {}).encode()
    headers = signing.headers(secret, id, data, at=time.time() + at)
    return house.client.post(HOOK, content=data, headers=headers)


def reasons(house: House) -> list[dict[str, Any]]:
    return [asked for run in records.listed(house.home) for asked in run["reasons"]]


def test_a_signed_call_asks_for_a_run_once(hooked: House) -> None:
    first = call(hooked, "build-1", {"reason": "nightly", "more": [1]})
    assert first.status_code == 202, first.text
    assert first.json()["state"] == "queued"
    with ThreadPoolExecutor(8) as pool:
        again = list(
            pool.map(
                lambda _: call(hooked, "build-1", {"reason": "nightly", "more": [1]}), range(8)
            )
        )
    assert all(answer.json() == first.json() for answer in again)
    (asked,) = reasons(hooked)
    assert (asked["kind"], asked["reason"], asked["actor"]) == ("webhook", "nightly", "webhook")

    is_problem(call(hooked, "build-1", {"reason": "another"}), 409)
    call(hooked, "build-2")
    assert [asked["reason"] for asked in reasons(hooked)] == ["nightly", "called from outside"]


def test_who_did_not_sign_is_told_nothing(hooked: House) -> None:
    key = {"authorization": f"Bearer {hooked.secrets['admin']}"}
    wrong = [
        hooked.client.post(HOOK),
        hooked.client.post(HOOK, headers=key),
        call(hooked, "build-1", secret="a-secret-of-somebody-else"),
        hooked.client.post(HOOK, content=b"{}", headers={"x-hub-signature-256": "sha256=0"}),
    ]
    assert len({is_problem(answer, 401) for answer in wrong}) == 1
    assert "300 s" in is_problem(call(hooked, "build-1", at=-310), 401)
    is_problem(call(hooked, "build-1", at=310), 401)
    assert call(hooked, "build-1", at=-290).status_code == 202
    assert len(reasons(hooked)) == 1
    is_problem(hooked.client.post(HOOK, content=b"x" * (2**20 + 1)), 413)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "called from outside"),
        (b"\xff\x00", "called from outside"),
        (b"[" * 100_000, "called from outside"),
        (b'{"reason": 7}', "called from outside"),
        (b'{"reason": "a\\u0000b"}', "a b"),
        (b'{"reason": "\\ud800"}', "called from outside"),
        (json.dumps({"reason": "x" * 9000}).encode(), "x" * 500),
        (b'{"ref": "refs/heads/main", "after": "1"}', "a push to refs/heads/main"),
    ],
    ids=range(8),
)
def test_any_body_will_do_and_github_s_signature(hooked: House, body: bytes, reason: str) -> None:
    mac = hmac.new(SECRET.encode(), body, sha256).hexdigest()
    headers = {"x-hub-signature-256": f"sha256={mac}", "x-github-event": "push"}
    for _ in range(2):  # the same body is the same call: nothing else of it is signed
        answer = hooked.client.post(HOOK, content=body, headers=headers)
        assert answer.status_code == 202, answer.text
    assert [asked["reason"] for asked in reasons(hooked)] == [reason]


def test_github_s_ping_asks_for_nothing(hooked: House) -> None:
    mac = hmac.new(SECRET.encode(), b"{}", sha256).hexdigest()
    headers = {"x-hub-signature-256": f"sha256={mac}", "x-github-event": "ping"}
    answer = hooked.client.post(HOOK, content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()) == (202, {"id": None, "state": None})
    assert not reasons(hooked)


def test_a_hundred_triggers_within_a_second_are_one_run_and_one_that_waits(hooked: House) -> None:
    """Half of them signed, half with a key, from twenty threads; in the middle a run is taken."""
    key = {"authorization": f"Bearer {hooked.secrets['admin']}"}

    def ask(number: int) -> Any:
        if number == 50:
            runs.claim(hooked.home, owner="elsewhere:1:1.0")
        reason = {"reason": f"reason {number}"}
        if number % 2:
            return call(hooked, f"build-{number}", reason)
        return hooked.client.post("/v1/retrainings", json=reason, headers=key)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(100)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 2
    found = records.listed(hooked.home)
    assert sorted(run["state"] for run in found) == ["leased", "queued"]
    told = [asked["reason"] for run in found for asked in run["reasons"]]
    assert sorted(told) == sorted(f"reason {number}" for number in range(100))
    shown = hooked.client.get("/runs", headers=key).text
    assert " more</span>" in shown


def test_without_a_secret_nothing_is_taken(empty: House) -> None:
    assert "TOPLOSS_HOOK_SECRET" in is_problem(call(empty, "build-1"), 403)
    empty.client.headers["host"] = "evil.example"
    assert "Host" in is_problem(call(empty, "build-1"), 403)


def test_a_secret_in_a_file_may_change_hands(
    tmp_path: Path, export: Path, bentoml_home: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    for house in serve(tmp_path, export, hook_secret_file=file):
        assert call(house, "1").status_code == 202
        new = "the-secret-that-comes-after"
        file.write_text(f"{new} {SECRET}\n")
        assert [call(house, id, secret=s).status_code for id, s in (("2", SECRET), ("3", new))] == [
            202,
            202,
        ]
        file.write_text(new)
        is_problem(call(house, "4"), 401)
        file.write_text("short")
        assert "at least 20" in is_problem(call(house, "5", secret=new), 503)
        file.unlink()
        is_problem(call(house, "6", secret=new), 503)
