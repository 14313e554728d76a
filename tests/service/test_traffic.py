"""What is answered is counted, and a shift of it told: in the metrics, the log and on record."""

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select

from service.traffic import MOST_WAITING, Traffic
from tests.service.conftest import LABELS, House, picture, plain
from tests.service.drifting import answered
from toploss import alarms, drift, traffic
from toploss.answers import Answer, Guess
from toploss.schema import drift_alarms


def metric(name: str, kind: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"kind": kind})


def counted(house: House) -> traffic.Seen:
    house.desk.traffic.note()
    version = house.client.get("/v1/model").json()["version"]
    with house.home.db.read() as connection:
        return traffic.seen(connection, version, hours=1)


def test_every_answer_is_counted_and_nothing_else(drifting: House) -> None:
    ask = drifting.client.post
    assert ask("/predict", files={"image": plain("red")}).status_code == 200
    ask("/predict_batch", files=[("images", plain(c)) for c in ("lime", "lime", "blue")])
    ask("/predict", files={"image": b"no image"})
    ask("/explain", files={"image": plain("red")})

    seen = counted(drifting)

    assert dict(zip(LABELS, seen.of(0, 3), strict=True)) == {"blue": 1, "green": 2, "red": 1}
    names = drifting.desk.swap.now().reader.traits.names
    assert len(names) >= 4
    for kind in range(1, len(names) + 1):
        assert sum(seen.of(kind, 10)) == 4
    assert counted(drifting).answers == 4


def test_a_version_without_a_reference_is_counted_by_class(house: House) -> None:
    house.client.post("/predict", files={"image": picture()})

    assert counted(house).answers == 1
    assert house.client.get("/v1/drift").json()["state"] == "no reference"


def test_what_cannot_be_noted_is_kept(drifting: House, monkeypatch: pytest.MonkeyPatch) -> None:
    answered(drifting, "red", 3)
    counting, real = drifting.desk.traffic, traffic.add

    def away(*_: Any) -> None:
        raise OSError("the database is away")

    monkeypatch.setattr(traffic, "add", away)
    counting.note()
    answered(drifting, "blue", 2)
    counting.note()
    monkeypatch.setattr(traffic, "add", real)

    assert counted(drifting).answers == 5


def test_what_waits_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "add", lambda *_: 1 / 0)
    hours = iter(range(1000))
    monkeypatch.setattr(traffic, "hour", lambda _: next(hours))
    counting = Traffic(house.home)
    serving: Any = SimpleNamespace(version="v", labels=LABELS)
    for _ in range(MOST_WAITING + 20):
        guess = Guess(label="red", confidence=1.0)
        counting.count(serving, Answer(guesses=(guess,), novelty=None, uncertain=False))
        counting.note()

    assert len(counting._waiting) == MOST_WAITING


def test_an_alarm_is_told_once(drifting: House, caplog: pytest.LogCaptureFixture) -> None:
    drifting.desk.traffic.look()
    assert math.isnan(metric("toploss_drift", "classes") or 0)
    answered(drifting, "red", 300)
    drifting.desk.traffic.note()

    for _ in range(2):
        drifting.desk.traffic.look()

    for kind in ("classes", "features"):
        assert (metric("toploss_drift", kind) or 0) > 1
        assert metric("toploss_drift_alarm", kind) == 1
        assert caplog.text.count(f"action=drift outcome=alarm kind={kind} version=") == 1
    with drifting.home.db.read() as connection:
        assert len(connection.execute(select(drift_alarms)).all()) == 2
        assert alarms.standing(connection) is not None


def test_a_look_that_fails_is_told_once(
    drifting: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "look", lambda _: 1 / 0)

    for _ in range(2):
        drifting.desk.traffic.look()

    assert caplog.text.count("action=drift outcome=failed") == 1


def test_the_thread_notes_and_looks(drifting: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.traffic.NOTE_S", 0.05)
    monkeypatch.setattr("service.traffic.LOOK_S", 0.05)
    drifting.desk.traffic.start()
    answered(drifting, "red", 300)

    drifting.wait(lambda: drifting.client.get("/v1/drift").json()["alarms"])


def test_what_is_counted_last_is_noted_at_the_end(drifting: House) -> None:
    counting = Traffic(drifting.home)
    counting.start()
    guess = Guess(label="red", confidence=1.0)
    counting.count(
        drifting.desk.swap.now(), Answer(guesses=(guess,), novelty=None, uncertain=False)
    )
    counting.stop()

    assert counted(drifting).answers == 1


def test_counting_costs_next_to_nothing(drifting: House) -> None:
    """Some microseconds; a prediction takes a thousand times as long."""
    answered(drifting, "red", 100)
    best = math.inf
    for _ in range(5):
        began = time.perf_counter()
        answered(drifting, "red", 1000)
        best = min(best, (time.perf_counter() - began) / 1000)

    assert best < 50e-6
