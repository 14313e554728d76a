"""Log lines: whose request they belong to, and no image in them."""

import io
import json
import logging
import sys

import pytest
from prometheus_client import REGISTRY
from starlette.datastructures import Headers

from service import logs
from tests.service.conftest import House, is_problem, picture


@pytest.mark.parametrize("given", ["shop-42", "a" * 64, "1.2:3_4"])
def test_a_sensible_id_of_the_caller_s_is_kept(house: House, given: str) -> None:
    for path in ("/v1/model", "/nothing"):
        answer = house.client.get(path, headers={"x-request-id": given})
        assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "a" * 65, "é".encode(), b"a\tb", "<script>", 'a"b'])
def test_another_one_gets_one_of_ours(house: House, given: str | bytes) -> None:
    answers = [
        house.client.post("/predict", files={"image": picture()}, headers={"x-request-id": given})  # type: ignore[dict-item]  # bytes too
        for _ in range(2)
    ]
    names = {answer.headers["x-request-id"] for answer in answers}
    assert len(names) == 2
    assert all(logs.SENSIBLE.fullmatch(name) for name in names)


def line(form: str, *, request: str, message: str, error: bool = False) -> str:
    """What our handler writes for a message within a request."""
    out = io.StringIO()
    handler = logs._as(form, logging.StreamHandler(out))
    logs.begin(Headers({"x-request-id": request}))
    try:
        info = None
        if error:
            try:
                raise ValueError("no such thing")
            except ValueError:
                info = sys.exc_info()
        handler.emit(logging.LogRecord("toploss.swap", logging.INFO, "x.py", 1, message, (), info))
    finally:
        logs._request.set("")
    return out.getvalue()


def test_a_line_of_text_names_its_request() -> None:
    written = line("text", request="shop-42", message="action=swap outcome=done")
    assert written.endswith("[INFO] toploss.swap action=swap outcome=done request=shop-42\n")


def test_a_line_of_json_has_the_message_s_fields() -> None:
    written = json.loads(
        line(
            "json",
            request="shop-42",
            message="action=swap outcome=failed version=01abc; it stays\n\u2028é",
            error=True,
        )
    )
    assert (written["action"], written["outcome"], written["version"]) == (
        *("swap", "failed", "01abc"),
    )
    assert (written["level"], written["request"]) == ("info", "shop-42")
    assert "ValueError: no such thing" in written["exception"]
    assert written["time"].endswith("+00:00")


def test_a_line_of_json_is_one_line() -> None:
    written = line("json", request="a", message="one\ntwo\r\nthree", error=True)
    assert written.count("\n") == 1


def test_what_is_refused_is_counted_by_its_reason(house: House) -> None:
    def counted(reason: str) -> float:
        return REGISTRY.get_sample_value("toploss_refused_total", {"reason": reason}) or 0.0

    before = {reason: counted(reason) for reason in ("host", "origin", "bytes")}
    is_problem(house.client.get("/v1/model", headers={"host": "evil.example"}), 403)
    is_problem(
        house.client.post("/v1/classes", json={}, headers={"origin": "https://evil.example"}), 403
    )
    is_problem(house.client.post("/v1/classes", content=b"x" * 2_000_000), 413)
    assert {reason: counted(reason) - was for reason, was in before.items()} == {
        "host": 1,
        "origin": 1,
        "bytes": 1,
    }
