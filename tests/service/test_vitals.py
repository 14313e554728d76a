"""What is told of the whole: through the service's own metrics."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.vitals import Vitals
from tests.service.conftest import House
from toploss import attempts, policy, runs, vitals
from toploss.errors import Broken
from toploss.home import Home


def told(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(f"toploss_{name}", labels)
    assert value is not None
    return value


def test_it_tells_what_stands(house: House) -> None:
    runs.enqueue(house.home, reason="test", actor="test")
    policy.pause(house.home, reason="test", actor="test")

    house.desk.vitals.look()

    assert told("production_generation") == 1
    assert told("samples") == 12
    assert told("review_samples", state="pending") == 8
    assert told("run_queued_timestamp_seconds") > told("sample_added_timestamp_seconds") > 0
    assert told("run_active_timestamp_seconds") == 0
    assert told("run_ended_timestamp_seconds", state="succeeded") > 0
    assert (told("retraining_paused"), told("retraining_due")) == (1, 0)
    assert told("dispatcher_seen_timestamp_seconds") == 0
    for place in ("home", "storage", "models"):
        assert 0 < told("disk_free_bytes", place=place) < told("disk_size_bytes", place=place)


def test_a_run_that_goes_on_tells_its_losses_and_how_long_it_takes(house: House) -> None:
    house.desk.vitals.look()
    assert math.isnan(told("run_left_seconds"))
    assert math.isnan(told("run_loss", of="valid"))
    runs.enqueue(house.home, reason="test", actor="test")
    lease = runs.claim(house.home, owner="test")
    assert lease is not None
    attempts.take_up(house.home, lease, owner="test")
    pace = {"samples": 1, "stages": {}, "stage_left_s": 9.0, "left_s": 900.0}
    epoch = {"train_loss": 0.5, "valid_loss": 0.25}
    attempts.note(house.home, lease, pace=pace, history=[epoch])

    house.desk.vitals.look()

    assert 800 < told("run_left_seconds") <= 900
    assert (told("run_loss", of="train"), told("run_loss", of="valid")) == (0.5, 0.25)


def test_a_storage_that_nothing_was_put_into_yet_keeps_nothing_from_being_told(
    open_home: Callable[..., Home], tmp_path: Path
) -> None:
    empty = open_home(storage_url=str(tmp_path / "made" / "later"))
    before = REGISTRY.get_sample_value("toploss_looked_timestamp_seconds") or 0

    Vitals(empty).look()

    assert told("looked_timestamp_seconds") > before
    assert told("disk_size_bytes", place="storage") == shutil.disk_usage(tmp_path).total


def test_while_the_database_is_away_the_numbers_stay_and_their_age_shows(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.desk.vitals.look()
    looked = told("looked_timestamp_seconds")

    def away(*_: Any) -> None:
        raise Broken("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(vitals, "look", away)
        house.desk.vitals.look()
        assert told("looked_timestamp_seconds") == looked
        assert told("samples") == 12

    house.desk.vitals.look()
    assert told("looked_timestamp_seconds") > looked


def test_a_server_is_ready_once_it_answers(house: House) -> None:
    house.wait(lambda: house.desk.swap.ready)
    house.wait(lambda: told("ready") == 1)


def test_what_may_happen_is_counted_from_nought() -> None:
    """Of a series that begins with 1, Prometheus misses the first."""
    for outcome in ("overloaded", "timed_out", "no_model", "failed"):
        assert told("predictions_total", outcome=outcome) >= 0
    assert told("refused_total", reason="rate") >= 0
    assert told("prediction_stage_seconds_count", stage="whole") >= 0
