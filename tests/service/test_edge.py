"""The door: who may come in, how much they may bring, how errors leave."""

import logging
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service import problems
from service.edge import Edge
from tests.service.conftest import House, is_problem, picture
from toploss import errors

ALL_ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.ToplossError)
]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:3000", "localhost:1", "[::1]:3000", "LOCALHOST"]
)
def test_loopback_names_come_in(empty: House, host: str) -> None:
    assert empty.client.get("/v1/dataset", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "10.0.0.1",
        "[::2]",
        "[::1",
    ],
)
def test_other_names_do_not(empty: House, host: str) -> None:
    for path in ("/v1/dataset", "/review", "/readyz"):
        assert "Host" in is_problem(empty.client.get(path, headers={"host": host}), 403)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:3000", 201),
        (None, 201),
        ("http://127.0.0.1:3001", 403),
        ("http://localhost:3000", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("http://[", 403),
    ],
)
def test_only_our_own_pages_may_change_anything(
    empty: House, origin: str | None, status: int
) -> None:
    headers = {} if origin is None else {"origin": origin}
    answer = empty.client.post("/v1/classes", json={"name": "cat"}, headers=headers)
    assert answer.status_code == status
    if status == 403:
        is_problem(answer, 403)
        assert empty.client.get("/v1/classes").json()["items"] == []
    assert empty.client.get("/v1/classes", headers=headers).status_code == 200


@pytest.mark.parametrize("accept", ["text/html,*/*", "application/json"])
def test_the_door_leads_to_the_review(empty: House, accept: str) -> None:
    there = empty.client.get("/", headers={"accept": accept}, follow_redirects=False)
    assert (there.status_code, there.headers["location"]) == (307, "/review")


def test_unknown_paths_and_methods_are_problems(empty: House) -> None:
    assert "/docs.json" in is_problem(empty.client.get("/nothing/here"), 404)
    answer = empty.client.delete("/v1/dataset")
    is_problem(answer, 405)
    assert answer.headers["allow"] == "GET"
    assert empty.client.head("/nothing").content == b""


def test_what_other_apps_say_in_plain_text_leaves_as_a_problem(house: House) -> None:
    """As BentoML's own routes do: 404, 405, not ready."""

    async def plain(scope, receive, send):  # type: ignore[no-untyped-def]
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b"Serv", "more_body": True})
        await send({"type": "http.response.body", "body": b"ice"})

    api = house.client.app._api  # type: ignore[attr-defined]
    client = TestClient(Edge(plain, api=api), base_url="http://localhost")
    assert "not ready" in is_problem(client.get("/readyz"), 503)
    is_problem(client.get("/else"), 503)


def test_a_bug_is_a_problem_without_its_secrets(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    api = house.client.app._api  # type: ignore[attr-defined]

    def bug() -> None:
        raise RuntimeError("the secret is 42")

    api.add_api_route("/bug", bug)
    with caplog.at_level(logging.ERROR):
        answer = house.client.get("/bug")
    assert "42" not in is_problem(answer, 500)
    assert "the secret is 42" in caplog.text


def test_a_small_route_takes_no_large_body(empty: House) -> None:
    answer = empty.client.post("/v1/classes", json={"name": "x" * 2_000_000})
    is_problem(answer, 413)


JSON_TYPE = {"content-type": "application/json"}
UNREAD = [
    ({"content": b'{"name": "x"}', "headers": {"content-type": "text/plain"}}, 415, "text/plain"),
    ({"content": b'{"name": "x"}'}, 415, "application/json"),
    ({"data": {"name": "x"}}, 415, "application/json"),
    ({"content": b"x", "headers": JSON_TYPE | {"content-encoding": "gzip"}}, 415, "'gzip'"),
    ({"content": b'{"name": "\xff"}', "headers": JSON_TYPE}, 400, "UTF-8"),
    ({"content": b"[" * 50_000, "headers": JSON_TYPE}, 400, "nested too deep"),
    ({"content": b"null", "headers": JSON_TYPE}, 400, "is null"),
]


@pytest.mark.parametrize(("sent", "status", "told"), UNREAD)
def test_a_body_that_is_not_read_is_told_how_to_be_sent(
    empty: House, sent: dict[str, Any], status: int, told: str
) -> None:
    assert told in is_problem(empty.client.post("/v1/classes", **sent), status)
    assert empty.client.get("/v1/classes").json()["items"] == []


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_form_without_its_boundary_is_told(empty: House, kind: str) -> None:
    answer = empty.client.post("/v1/samples", content=b"x", headers={"content-type": kind})
    assert "the form cannot be read" in is_problem(answer, 400)


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_every_domain_error_has_a_status(kind: type[errors.ToplossError]) -> None:
    error = kind("what, value, remedy")
    body = problems.body_of(error)
    assert body["detail"] == "what, value, remedy"
    assert body["title"][0].isupper()
    assert (body["status"] >= 500) == (
        kind
        in {
            *(errors.NoModel, errors.Overloaded, errors.TimedOut),
            *(errors.Broken, errors.WrongSchema),
            *(errors.BadSettings, errors.Fenced, errors.Cancelled, errors.ToplossError),
        }
    )


def test_every_route_is_declared_with_its_problems() -> None:
    from service import api

    made: FastAPI = api.build()
    paths = made.openapi()["paths"]
    assert len(paths) >= 20
    for path, methods in paths.items():
        for operation in methods.values():
            assert operation.get("summary"), path
            assert problems.MEDIA_TYPE in operation["responses"]["default"]["content"]
            assert "422" not in operation["responses"]
    body = paths["/predict"]["post"]["requestBody"]["content"]
    assert body.keys() == {"multipart/form-data", "image/*"}


def test_metrics_carry_no_path_as_it_came(house: House) -> None:
    from prometheus_client import generate_latest

    house.client.post("/predict", files={"image": picture()})
    house.client.get(f"/v1/samples/{house.ids[0]}")
    house.client.get("/nowhere/at/all")
    house.client.request("BREW", "/v1/dataset")
    text = generate_latest().decode()
    assert house.ids[0] not in text
    assert "nowhere" not in text
    assert "BREW" not in text
    assert 'route="/v1/samples/{sample_id}"' in text
    assert 'toploss_predictions_total{outcome="answered"}' in text
