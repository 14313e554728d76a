"""Metrics with known answers."""

import math

import numpy as np
import pytest

from training import evaluation

P = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
TRUTH = np.array([0, 1, 1])


def test_accuracy_and_mean_loss() -> None:
    found = evaluation.metrics(P, TRUTH)

    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["loss"] == pytest.approx(-(math.log(0.9) + math.log(0.8) + math.log(0.4)) / 3)


def test_a_probability_of_zero_is_a_large_loss_and_not_infinite() -> None:
    found = evaluation.metrics(np.array([[1.0, 0.0]], np.float32), np.array([1]))

    assert 80 < found["loss"] < 100


def test_confusion_counts_truth_by_prediction() -> None:
    assert evaluation.confusion(P, TRUTH) == [[1, 0], [1, 1]]
