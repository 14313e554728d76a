"""The described interface, and what a real server answers when schemathesis asks it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)

from tests.service.conftest import House, is_problem, plain
from tests.service.running import Server, served

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
DOCUMENTED = (503, 504)


@pytest.fixture
def server(
    tmp_path: Path, unserved: tuple[Path, list[str]], bentoml_home: Path
) -> Iterator[Server]:
    import shutil

    shutil.copytree(unserved[0], tmp_path / "home")
    with served(tmp_path) as running:
        yield running


@pytest.mark.parametrize("examples", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_every_operation_answers_as_described(server: Server, examples: int) -> None:
    address = str(server.client.base_url)
    described = server.client.get("/openapi.json").json()
    number = 0
    for found in schemathesis.openapi.from_dict(described).get_all_operations():
        _asked(address, found.ok(), examples)
        number += 1
    assert number >= 30
    # What was asked may have rolled production back or left none: it still answers.
    assert server.client.post("/predict", files={"image": plain("red")}).status_code in (200, 503)
    assert "outcome=bug" not in server.log.read_text()


def _asked(address: str, operation: Any, examples: int) -> None:
    @settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def story(case: Any) -> None:
        answer = case.call(base_url=address)
        if answer.status_code in DOCUMENTED:
            assert "problem+json" in answer.headers["content-type"][0]
        else:
            case.validate_response(answer, checks=CHECKS)

    story()


def test_a_method_that_is_not_answered_is_told_which_are(house: House) -> None:
    for path, methods in (("/v1/classes", "GET, POST"), ("/v1/samples", "GET, POST")):
        answer = house.client.request("OPTIONS", path)
        is_problem(answer, 405)
        assert answer.headers["allow"] == methods
