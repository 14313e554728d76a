"""The share of wrong labels where it is known."""

import numpy as np
import pytest

from training import noise
from training.noise import Places, Reals

CLASSES = 5


def answers(images: int, sharpness: float, wrong: float) -> tuple[Reals, Places]:
    """Of a model that is exactly as sure as it should be, with a share of labels made wrong."""
    chance = np.random.default_rng(7)
    logits = chance.normal(size=(images, CLASSES)) * sharpness
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([chance.choice(CLASSES, p=row) for row in shares])
    other = (truth + chance.integers(1, CLASSES, images)) % CLASSES
    given = np.where(chance.random(images) < wrong, other, truth)
    return shares.astype(np.float32), given


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("sharpness", [3.0, 6.0])
def test_the_share_lies_in_the_interval(sharpness: float, wrong: float) -> None:
    found = noise.estimate(*answers(1500, sharpness, wrong))

    assert found.interval[0] - 0.01 <= wrong <= found.interval[1] + 0.01
    assert found.share == pytest.approx(wrong, abs=0.04)


def test_a_model_that_is_too_sure_accuses_no_label() -> None:
    shares, truth = answers(1500, 3.0, 0.0)
    boasting = shares**4 / (shares**4).sum(axis=1, keepdims=True)

    assert noise.estimate(boasting, truth) == noise.estimate(shares, truth)


def test_a_model_that_knows_little_cannot_tell() -> None:
    low, high = noise.estimate(*answers(1500, 0.1, 0.0)).interval

    assert low == 0
    assert high > 0.3


def test_an_answer_of_zero_probability_is_no_end() -> None:
    shares = np.eye(CLASSES, dtype=np.float32)[np.arange(200) % CLASSES]
    truth = np.arange(200) % CLASSES
    truth[:10] = (truth[:10] + 1) % CLASSES

    assert noise.estimate(shares, truth).share == pytest.approx(0.05, abs=0.02)
