"""Charts: their axes, and what is drawn of any course of a training."""

import pytest

from toploss import curves
from toploss.charts import Axis


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(name="", low=0.0, high=1.0), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Axis(name="", low=0.5, high=3.5, whole=True), [1, 2, 3]),
        (Axis(name="", low=0.3, high=6, log=True), [0.5, 1, 2, 5]),
        (Axis(name="", low=1e-6, high=2, log=True), [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1]),
    ],
)
def test_ticks_are_round_numbers_within_the_axis(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks() == pytest.approx(ticks)


def test_what_is_no_number_is_left_out() -> None:
    names = ("train_loss", "valid_loss", "plain_loss", "accuracy", "plain_accuracy")
    history = [{"stage": "stage-1", "epoch": 1, **dict.fromkeys(names, float("nan"))}]
    for draw in (curves.losses, curves.accuracies):
        drawing = draw(history)
        assert drawing.startswith("<svg")
        assert "nan" not in drawing
