"""The corpus of hostile requests: each has its answer, none is a bug's, and all goes on."""

import logging

import pytest

from tests.service.conftest import House, picture
from tests.service.hostile import corpus

DOCUMENTED = (503, 504)  # of the statuses from 500 on


# Starlette leaves the file of a part that never ended to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_hostile_request_is_answered_with_a_bug_s_status(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    wrong, number = [], 0
    with caplog.at_level(logging.ERROR):
        for sent in corpus():
            number += 1
            headers = {name: value.encode() for name, value in sent.headers.items()}
            answer = house.client.request(
                sent.method,
                sent.path,
                content=sent.body,
                headers=headers,  # type: ignore[arg-type]  # bytes are taken as well
            )
            if answer.status_code >= 500 and answer.status_code not in DOCUMENTED:
                wrong.append((sent.name, answer.status_code, answer.text[:200]))
            elif answer.status_code >= 400 and "problem+json" not in answer.headers["content-type"]:
                wrong.append((sent.name, answer.status_code, answer.headers["content-type"]))
    assert not wrong
    assert number >= 300
    assert not [record for record in caplog.records if "outcome=bug" in record.getMessage()]
    assert house.client.post("/predict", files={"image": picture()}).status_code == 200
