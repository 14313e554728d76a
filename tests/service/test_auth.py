"""Who comes in: every route is closed without a key, and opens to the roles that it is for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.websockets import WebSocketDisconnect

from service import api as apis
from service import auth
from service.auth import COOKIE, HOOK, Doorkeeper, RateLimit, needed
from tests.service.conftest import House, is_problem, picture, serve, settings_for
from toploss import keys
from toploss.home import Home
from toploss.keys import Role


@pytest.fixture
def locked(house: House) -> House:
    """The house with a key of each role, by its name; `house.secrets` has them."""
    house.secrets = {role: keys.create(house.home, f"{role}-key", role) for role in Role}
    house.desk.doorkeeper.look()
    return house


def bearer(house: House, role: str) -> dict[str, str]:
    return {"authorization": f"Bearer {house.secrets[role]}"}


def routes() -> Iterator[tuple[str, str]]:
    for path, methods in apis.build().openapi()["paths"].items():
        for method in methods:
            yield method.upper(), path.replace("{", "").replace("}", "")


OPEN = {("GET", "/login"), ("POST", "/login")}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *routes(),
        ("GET", "/"),
        ("GET", "/docs.json"),
        ("GET", "/openapi.json"),
        ("GET", "/metrics"),
        ("GET", "/static_content/swagger-ui.css"),
        ("GET", "/nothing/here"),
        ("POST", "/livez/"),
        ("GET", "//livez"),
        ("OPTIONS", "/predict"),
        ("PROPFIND", "/v1/samples"),
    ],
)
def test_without_a_key_no_route_answers(locked: House, method: str, path: str) -> None:
    answer = locked.client.request(method, path, follow_redirects=False)
    if path == HOOK:  # signed, where there is a secret
        is_problem(answer, 403)
        return
    if (method, path) in OPEN:
        assert answer.status_code in (200, 400)
        return
    assert "Authorization" in is_problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_web_socket_is_closed(locked: House) -> None:
    with pytest.raises(WebSocketDisconnect), locked.client.websocket_connect("/predict"):
        pass


def test_the_probes_and_the_page_s_looks_are_open(locked: House) -> None:
    for path in ("/web/base.css", "/web/icon.svg"):
        assert locked.client.get(path).status_code == 200
    is_problem(locked.client.get("/livez"), 404)  # BentoML's, which is not in this house


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer wrong", "Basic YWRtaW46YWRtaW4=", "bearer tl_", "Bearer é"],
)
def test_a_wrong_key_does_not_open(locked: House, header: str) -> None:
    answer = locked.client.get("/v1/model", headers={"authorization": header.encode()})  # type: ignore[dict-item]  # bytes too
    is_problem(answer, 401)


@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_do_what_it_is_for_and_no_more(locked: House, role: Role) -> None:
    get, post = locked.client.get, locked.client.post
    own = bearer(locked, role)
    done = {
        Role.PREDICT: post("/predict", files={"image": picture()}, headers=own),
        Role.REVIEW: get("/v1/top-losses", headers=own),
        Role.ADMIN: post("/v1/classes", json={"name": "new"}, headers=own),
    }
    for least, answer in done.items():
        if role.covers(least):
            assert answer.status_code in (200, 201), answer.text
        else:
            assert f"role {role}" in is_problem(answer, 403)


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("POST", "/predict", "predict"),
        ("GET", "/v1/model", "predict"),
        ("GET", "/v1/models", "review"),
        ("POST", "/v1/models/rollback", "admin"),
        ("POST", "/v1/models/v/promote", "admin"),
        ("POST", "/v1/samples", "review"),
        ("DELETE", "/v1/samples/s", "admin"),
        ("GET", "/v1/samples/s/image", "review"),
        ("POST", "/v1/decisions", "review"),
        ("DELETE", "/v1/decisions/d", "review"),
        ("POST", "/v1/feedback", "predict"),
        ("GET", "/v1/captures", "review"),
        ("POST", "/v1/captures/c/label", "review"),
        ("DELETE", "/v1/captures/c", "admin"),
        ("GET", "/v1/classes", "review"),
        ("GET", "/v1/policy", "review"),
        ("POST", "/v1/policy/pause", "admin"),
        ("GET", "/v1/drift", "review"),
        ("GET", "/v1/drift/plot", "review"),
        ("POST", "/v1/classes", "admin"),
        ("GET", "/v1/retrainings/r/log", "review"),
        ("POST", "/v1/retrainings", "admin"),
        ("GET", "/review", "review"),
        ("GET", "/metrics", "predict"),
        ("GET", "/v1/samples-of-others", "admin"),
        ("GET", "/whatever/comes", "admin"),
        ("PUT", "/v1/model", "admin"),
    ],
)
def test_the_least_role_of_a_route(method: str, path: str, role: str) -> None:
    assert needed(method, path) == role


def test_a_decision_is_the_key_holder_s(locked: House) -> None:
    item = locked.client.get("/v1/top-losses", headers=bearer(locked, "review")).json()["items"][0]
    wish = {"sample": item["id"], "action": "confirm", "revision": item["revision"]}

    assert (
        locked.client.post("/v1/decisions", json=wish, headers=bearer(locked, "review")).status_code
        == 201
    )

    trail = locked.client.get("/v1/decisions", headers=bearer(locked, "review")).json()["items"]
    assert trail[0]["actor"] == "review-key"


def test_a_revoked_key_is_refused_and_the_last_one_leaves_the_door_shut(locked: House) -> None:
    for role in Role:
        keys.revoke(locked.home, f"{role}-key")
    locked.desk.doorkeeper.look()

    for role in Role:
        is_problem(locked.client.get("/v1/model", headers=bearer(locked, role)), 401)
    is_problem(locked.client.get("/v1/model"), 401)


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the house is served: it looks more often than it has to."""
    assert auth.LOOK_S < 10
    monkeypatch.setattr(auth, "LOOK_S", 0.1)


def test_it_looks_at_the_keys_by_itself(looking: None, house: House) -> None:
    assert house.client.get("/v1/model").status_code == 200
    secret = keys.create(house.home, "ann", "predict")

    house.wait(lambda: house.client.get("/v1/model").status_code == 401, seconds=10)

    headers = {"authorization": f"Bearer {secret}"}
    assert house.client.get("/v1/model", headers=headers).status_code == 200
    keys.revoke(house.home, "ann")
    house.wait(lambda: house.client.get("/v1/model", headers=headers).status_code == 401)


def test_keys_that_cannot_be_read_stay_in_force(locked: House, tmp_path: Path) -> None:
    keeper = locked.desk.doorkeeper
    (locked.home.settings.home / "toploss.db").rename(tmp_path / "away.db")

    keeper.look()

    assert locked.client.get("/v1/top-losses").status_code == 401
    assert keeper.ring.holder(locked.secrets["admin"])


def test_the_key_of_a_file_goes_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("a-secret-of-more-than-twenty-characters")
    home = Home.open(settings_for(tmp_path / "home", admin_key_file=file))
    keeper = Doorkeeper(home)
    try:
        session = keeper.sign_in(file.read_text())
        there = Headers({"cookie": f"{COOKIE}={session}"})
        caller = keeper.caller(there)
        assert caller is not None
        assert caller.key.role is Role.ADMIN

        file.write_text("another-secret-of-more-than-twenty-characters")
        keeper.look()
        assert keeper.caller(there) is None, "its sessions end with it"
        assert keeper.sign_in(file.read_text())

        file.write_text("short")  # half-written: the one before stays
        keeper.look()
        assert keeper.ring.holder("another-secret-of-more-than-twenty-characters")

        file.unlink()
        keeper.look()
        assert not keeper.ring.keys
        assert not keeper.unlocked
    finally:
        keeper.stop()
        home.db.close()


def test_other_hosts_are_answered_with_a_key(locked: House) -> None:
    headers = {"host": "toploss.example", **bearer(locked, "predict")}
    assert locked.client.get("/v1/model", headers=headers).status_code == 200


# --- sessions


BROWSER = {"accept": "text/html"}


@pytest.fixture
def signed_in(locked: House) -> tuple[House, dict[str, str]]:
    """Signed in as a reviewer, and the header that a change brings along."""
    form = {"key": locked.secrets["review"]}
    answer = locked.client.post("/login?next=/review", data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/review")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    page = locked.client.get("/review", headers=BROWSER).text
    token = page.partition('name="csrf-token" content="')[2].partition('"')[0]
    return locked, {"x-csrf-token": token}


def test_a_browser_is_led_to_sign_in_and_back(locked: House) -> None:
    answer = locked.client.get("/review?label=red", headers=BROWSER, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2Freview%3Flabel%3Dred"
    page = locked.client.get(answer.headers["location"], headers=BROWSER)
    assert page.status_code == 200
    assert "/login?next=/review%3Flabel%3Dred" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "away", ["https://evil.example", "//evil.example", "/\\evil.example", "review", "/a\nb", ""]
)
def test_signing_in_leads_nowhere_else(locked: House, away: str) -> None:
    form = {"key": locked.secrets["review"]}
    answer = locked.client.post("/login", params={"next": away}, data=form, follow_redirects=False)
    assert answer.headers["location"] == "/review"


def test_a_wrong_key_shows_the_page_again(locked: House) -> None:
    answer = locked.client.post("/login", data={"key": "wrong"}, headers=BROWSER)
    assert answer.status_code == 401
    assert COOKIE not in locked.client.cookies


def test_a_key_of_programs_opens_no_page(locked: House) -> None:
    answer = locked.client.post("/login", data={"key": locked.secrets["predict"]}, headers=BROWSER)
    assert answer.status_code == 403
    assert "Key predict-key is for predictions alone." in answer.text
    assert COOKIE not in locked.client.cookies


def test_a_session_changes_things_with_its_token_alone(
    signed_in: tuple[House, dict[str, str]],
) -> None:
    house, token = signed_in
    item = house.client.get("/v1/top-losses").json()["items"][0]
    wish = {"sample": item["id"], "action": "confirm", "revision": item["revision"]}

    for wrong in ({}, {"x-csrf-token": ""}, {"x-csrf-token": "0" * 64}):
        answer = house.client.post("/v1/decisions", json=wish, headers=wrong)
        assert "X-CSRF-Token" in is_problem(answer, 403)
    other = {**token, "origin": "https://evil.example"}
    assert "Origin" in is_problem(house.client.post("/v1/decisions", json=wish, headers=other), 403)
    assert house.client.post("/v1/decisions", json=wish, headers=token).status_code == 201
    is_problem(house.client.post("/v1/retrainings", json={}, headers=token), 403)


def test_a_session_ends_with_its_key_by_signing_out_and_by_forgery(
    signed_in: tuple[House, dict[str, str]],
) -> None:
    house, _ = signed_in
    session = house.client.cookies[COOKIE]
    assert house.client.get("/v1/top-losses").status_code == 200
    body, _, signature = session.partition(".")
    for forged in (
        body,
        f"{body}.",
        f"{body}.{signature[:-1]}{'1' if signature[-1] == '0' else '0'}",
        f"{body}x.{signature}",
        "é",
        ";",
    ):
        answer = house.client.get(
            "/v1/top-losses",
            headers={"cookie": f"{COOKIE}={forged}".encode()},  # type: ignore[dict-item]  # bytes too
        )
        # the client's own cookie is replaced by the header
        assert answer.status_code == 401, forged
    keys.revoke(house.home, "review-key")
    house.desk.doorkeeper.look()
    is_problem(house.client.get("/v1/top-losses"), 401)


def test_signing_out_takes_the_cookie_away(signed_in: tuple[House, dict[str, str]]) -> None:
    house, _ = signed_in
    house.client.post("/logout", follow_redirects=False)
    is_problem(house.client.get("/v1/top-losses"), 401)


def test_signing_in_from_another_site_is_refused(locked: House) -> None:
    form = {"key": locked.secrets["review"]}
    answer = locked.client.post("/login", data=form, headers={"origin": "https://evil.example"})
    is_problem(answer, 403)


# --- rates, and settings


def test_a_bucket_of_tokens() -> None:
    limit = RateLimit(per_s=2)
    assert [limit.wait_s("ann") for _ in range(3)] == [0, 0, 1]
    assert limit.wait_s("bob") == 0
    assert [RateLimit(per_s=0).wait_s("ann") for _ in range(100)] == [0] * 100
    assert [RateLimit(per_s=0.1).wait_s("ann")] == [0]


def test_a_key_that_asks_too_often_is_told_when_to_come_back(
    tmp_path: Path, export: Path, bentoml_home: Path
) -> None:
    for house in serve(tmp_path, export, rate_limit=1, metrics_open=True):
        secret = keys.create(house.home, "ann", "predict")
        house.desk.doorkeeper.look()
        headers = {"authorization": f"Bearer {secret}"}
        house.client.get("/v1/model", headers=headers)
        answer = house.client.get("/v1/model", headers=headers)
        assert "TOPLOSS_RATE_LIMIT" in is_problem(answer, 429)
        assert int(answer.headers["retry-after"]) >= 1
        is_problem(house.client.get("/metrics"), 404)  # open; BentoML answers it elsewhere
