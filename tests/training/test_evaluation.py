"""Metrics with known answers."""

import math

import numpy as np
import pytest
import torch

from toploss.network import Network
from toploss.preprocess import Preprocessing
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


def test_a_model_is_asked_in_full_precision_whatever_the_process_learns_in() -> None:
    """cuDNN's switch is there without a GPU, too."""
    allowed: list[bool] = []

    class Body(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            allowed.append(torch.backends.cudnn.allow_tf32)
            return images

    network = Network(Body(), features=3, classes=2)
    ask = evaluation.reference(network, Preprocessing(size=8), "cpu")
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        ask(np.zeros((1, 3, 8, 8), np.uint8))
        assert torch.backends.cudnn.allow_tf32

    assert allowed == [False]
