"""Learning curves of data whose difficulty is known."""

import numpy as np
import pytest

from training import curve
from training.curve import Curve, Places, Reals


def clouds(images: int, apart: float, seed: int) -> tuple[Reals, Places]:
    """Three overlapping clouds in 40 dimensions."""
    chance = np.random.default_rng(seed)
    truth = np.arange(images) % 3
    middles = np.random.default_rng(0).normal(size=(3, 40)) * apart
    return (middles[truth] + chance.normal(size=(images, 40))).astype(np.float32), truth


def measured(images: int, apart: float) -> Curve | None:
    return curve.measure(*clouds(images, apart, 1), *clouds(600, apart, 2), seed=3)


def test_the_error_falls_and_goes_on_where_the_curve_says() -> None:
    found, larger = measured(160, 0.35), measured(320, 0.35)

    assert found is not None
    assert larger is not None
    assert found.sizes == (20, 40, 80, 160)
    assert sorted(found.errors, reverse=True) == list(found.errors)
    assert found.interval[0] <= larger.errors[-1] <= found.interval[1]
    assert found.fall[0] > 0


def test_where_nothing_is_wrong_any_more_there_is_nothing_to_gain() -> None:
    found = measured(160, 3.0)

    assert found is not None
    assert found.errors[-1] == 0
    assert found.fall == pytest.approx((0, 0), abs=1e-6)


def test_equal_data_give_an_equal_curve() -> None:
    assert measured(80, 0.5) == measured(80, 0.5)


def test_every_beginning_of_an_order_holds_the_classes_in_their_proportions() -> None:
    truth = np.repeat([0, 1], [90, 30])

    order = curve._stratified(truth, np.random.default_rng(4))

    assert sorted(order) == list(range(120))
    assert all(abs(int(truth[order[:size]].sum()) - size / 4) <= 1 for size in (12, 20, 60, 100))


@pytest.mark.parametrize("images", [6, 15])
def test_too_few_images_have_no_curve(images: int) -> None:
    assert measured(images, 1.0) is None


def test_too_many_images_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "MOST", 100)

    assert measured(160, 1.0) is None
