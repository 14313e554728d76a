"""The temperature, on logits whose right one is known; the reliability table, counted by hand."""

import numpy as np
import pytest

from training import calibration

CLASSES = 5


def made(size: int, too_sure: float, wrong: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `too_sure` times what they should be, and labels drawn from the true
    probabilities; a share of the labels is any class."""
    rng = np.random.default_rng(7)
    true = rng.normal(0, 3, (size, CLASSES)).astype(np.float32)
    shares = calibration.softmax(true, axis=1)
    truth = np.array([rng.choice(CLASSES, p=row / row.sum()) for row in shares])
    spoiled = rng.random(size) < wrong
    truth[spoiled] = rng.integers(0, CLASSES, int(spoiled.sum()))
    return true * np.float32(too_sure), truth


@pytest.mark.parametrize("too_sure", [0.6, 1.0, 2.0])
def test_it_finds_by_how_much_the_model_was_too_sure(too_sure: float) -> None:
    logits, truth = made(3000, too_sure)

    assert calibration.temperature(logits, truth) == pytest.approx(too_sure, rel=0.1)


def test_wrong_labels_do_not_make_it_doubt_a_good_model() -> None:
    logits, truth = made(3000, 1.0, wrong=0.06)

    assert calibration.temperature(logits, truth) == pytest.approx(1.0, rel=0.1)


def test_probabilities_do_as_well_as_logits() -> None:
    logits, truth = made(500, 2.0)
    shifted = np.log(calibration.softmax(logits, axis=1))

    found = calibration.temperature(shifted, truth)

    assert found == pytest.approx(calibration.temperature(logits, truth), rel=1e-3)


def test_from_nothing_it_learns_nothing() -> None:
    assert calibration.temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.intp)) == 1.0


@pytest.mark.parametrize("size", [1, 3, 10])
def test_a_few_samples_move_it_little(size: int) -> None:
    right = np.eye(CLASSES, dtype=np.float32)[np.arange(size) % CLASSES]
    truth = np.arange(size) % CLASSES

    assert 0.5 < calibration.temperature(right, truth) <= 1.0
    assert 1.0 <= calibration.temperature(right, (truth + 1) % CLASSES) < 2.0


def test_without_any_error_it_stays_within_bounds() -> None:
    logits = 8 * np.eye(CLASSES, dtype=np.float32).repeat(200, axis=0)

    found = calibration.temperature(logits, np.arange(CLASSES).repeat(200))

    assert calibration.WITHIN[0] <= found <= 1.0


def test_scaled_are_the_probabilities_of_divided_logits() -> None:
    logits, _ = made(50, 1.0)
    probabilities = calibration.softmax(logits, axis=1)

    after = calibration.scaled(probabilities, 2.0)

    assert after.dtype == np.float32
    assert after == pytest.approx(calibration.softmax(logits / 2, axis=1), abs=1e-5)


def test_a_probability_of_zero_stays_one() -> None:
    after = calibration.scaled(np.array([[1.0, 0.0]], np.float32), 1.5)

    assert after == pytest.approx(np.array([[1.0, 0.0]]), abs=1e-6)


def test_the_table_counts_what_came_true() -> None:
    confidence = np.array([0.95, 0.92, 0.55, 0.59, 1.0], np.float32)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    truth = np.array([0, 1, 0, 1, 0])  # right: yes, no, yes, no, yes

    low, high = calibration.reliability(probabilities, truth)

    assert (low.low, low.high, low.count, low.accuracy) == (0.5, 0.6, 2, 0.5)
    assert (high.low, high.high, high.count) == (0.9, 1.0, 3)
    assert high.confidence == pytest.approx((0.95 + 0.92 + 1.0) / 3)
    assert high.accuracy == pytest.approx(2 / 3)
    assert high.interval[0] < 2 / 3 < high.interval[1]
    error = (2 * abs(0.57 - 0.5) + 3 * abs(high.confidence - 2 / 3)) / 5
    assert calibration.expected_calibration_error([low, high]) == pytest.approx(error)
