"""How long a training still takes."""

import pytest

from training.forecast import Forecast

PACE = {"samples": 100, "stages": {"decode": 10.0, "stage-1": 40.0, "stage-2": 80.0, "folds": 20.0}}


def test_the_first_one_of_a_kind_tells_its_stage_alone() -> None:
    forecast = Forecast.after(None, samples=100)
    forecast.enter("stage-1", now=0)
    assert (forecast.stage_left(5), forecast.left(5)) == (None, None)

    forecast.share = 0.25

    assert forecast.stage_left(10) == pytest.approx(30)
    assert forecast.left(10) is None


def test_what_follows_is_known_from_the_one_before_by_the_number_of_samples() -> None:
    forecast = Forecast.after(PACE, samples=200)
    forecast.enter("stage-1", now=100)

    assert forecast.stage_left(110) == pytest.approx(70)  # of 80
    assert forecast.left(110) == pytest.approx(70 + 160 + 40)

    forecast.share = 0.5  # it is slower than that

    assert forecast.left(160) == pytest.approx(60 + 160 + 40)


def test_a_stage_that_takes_longer_than_before_is_over_at_any_moment() -> None:
    forecast = Forecast.after(PACE, samples=100)
    forecast.enter("folds", now=0)

    assert forecast.left(1000) == 0


def test_of_a_stage_that_the_one_before_did_not_have_nothing_is_said() -> None:
    forecast = Forecast.after(PACE, samples=100)
    forecast.enter("lr-find", now=0)

    assert (forecast.stage_left(1), forecast.left(1)) == (None, None)


def test_what_it_took_is_kept_by_stage_for_the_next_one() -> None:
    forecast = Forecast.after(None, samples=7)
    for now, stage in enumerate(["decode", "stage-1", "decode", "publish"]):
        forecast.enter(stage, now=now * 10)

    told = forecast.told(35)

    assert told["stages"] == {"decode": 20, "stage-1": 10}
    assert Forecast.after(told, samples=14).before == {"decode": 40, "stage-1": 20}
