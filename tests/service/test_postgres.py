"""What the service answers on PostgreSQL, where it differs from SQLite: texts that it cannot keep,
and waiting."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import text

from tests.service.conftest import House, is_problem, picture, serve
from toploss import classes, database
from toploss.database import LABELS

NUL = "a\0b"


@pytest.fixture
def crowd(
    tmp_path: Path,
    export: Path,
    bentoml_home: Path,
    new_postgres: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[House]:
    """Two classes and a sample, served from PostgreSQL with little patience."""
    monkeypatch.setattr(database, "PATIENCE_S", 0.2)
    for made in serve(tmp_path, export, database_url=new_postgres()):
        for label in ("red", "blue"):
            classes.add(made.home, label, actor="test")
        files = {"image": ("a.png", picture(1))}
        answer = made.client.post("/v1/samples", files=files, data={"label": "red"})
        made.ids.append(answer.json()["id"])
        yield made


def test_a_nul_in_any_field_is_the_callers_fault(crowd: House) -> None:
    described = crowd.client.get("/openapi.json").json()
    asked = 0
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            for request in _requests(described, path, operation):
                answer = crowd.client.request(method, **request)
                about = f"{method} {request}: {answer.status_code} {answer.text[:300]}"
                assert answer.status_code < 500 or "no model" in answer.text.lower(), about
                asked += 1
    assert asked > 100


def _requests(described: dict[str, Any], path: str, operation: Any) -> Iterator[dict[str, Any]]:
    """One for every text that the operation takes, and one with all of them."""
    given = operation.get("parameters", [])
    plain = {one["name"]: "1" for one in given if one["in"] == "path"}
    for one in given:
        if one["in"] == "query":
            yield {"url": _filled(path, plain), "params": {one["name"]: NUL}}
    yield {"url": _filled(path, dict.fromkeys(plain, NUL))}
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        body = _example(described, content["schema"])
        if kind == "application/json":
            yield {"url": _filled(path, plain), "json": body}
            for name in body if isinstance(body, dict) else ():
                yield {"url": _filled(path, plain), "json": {name: body[name]}}
        elif kind.startswith(("multipart/", "application/x-www")) and isinstance(body, dict):
            data = {name: NUL for name in body if name not in ("image", "images")}
            files = {"image": (NUL, picture(2))} if kind.startswith("multipart/") else None
            yield {"url": _filled(path, plain), "data": data, "files": files}


def _filled(path: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    return path


def _example(described: dict[str, Any], schema: dict[str, Any]) -> Any:
    """A value of the schema, its texts with a NUL; the first of an enumeration."""
    if "$ref" in schema:
        return _example(
            described, described["components"]["schemas"][schema["$ref"].split("/")[-1]]
        )
    if "anyOf" in schema:
        return _example(described, schema["anyOf"][0])
    if "enum" in schema:
        return schema["enum"][0]
    if "properties" in schema:
        return {name: _example(described, one) for name, one in schema["properties"].items()}
    if schema.get("type") == "array":
        return [_example(described, schema["items"])]
    return {"integer": 1, "number": 1.0, "boolean": True}.get(schema.get("type", ""), NUL)


def test_who_waits_too_long_for_the_labels_is_told_to_come_again(crowd: House) -> None:
    decision = {"sample": crowd.ids[0], "action": "confirm", "revision": 1}
    with crowd.home.db.write() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LABELS})

        answer = crowd.client.post("/v1/decisions", json=decision)

    assert "lock timeout" in is_problem(answer, 503)
    assert answer.headers["retry-after"]
    assert crowd.client.post("/v1/decisions", json=decision).status_code == 201
