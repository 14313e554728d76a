"""What of an answer is watched, and into which bin it falls."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from toploss import novelty, traits


def features(number, seed=0, spread=(1.0, 0.5, 0.2, 0.1)):
    """Images around one direction, that differ more in some ways than in others."""
    rng = np.random.default_rng(seed)
    means = np.array([3.0, 3, 3, 3]) + rng.normal(size=(number, 4)) * spread
    return np.concatenate([np.zeros_like(means), means], axis=1).astype(np.float32)


@pytest.fixture
def bank():
    ids = [f"{n:064x}" for n in range(200)]
    return novelty.bank(features(200, seed=9), np.zeros(200, np.int32), ids, ids)


def confidence(number):
    return np.linspace(0.3, 1, number, dtype=np.float32)


def test_held_out_images_fill_the_bins_alike(bank):
    watched, bins = traits.learn(bank, features(400), confidence(400))

    assert watched.names == ("novelty", "confidence", *(f"direction {n}" for n in (1, 2, 3, 4)))
    assert watched.edges.shape == (6, 9)
    for column in bins.T:
        counts = np.bincount(column, minlength=10)
        assert counts.min() >= 39
        assert counts.max() <= 41


def test_directions_are_those_that_training_images_differ_most_in(bank):
    watched, _ = traits.learn(bank, features(50), confidence(50))

    assert np.abs(np.linalg.norm(watched.directions, axis=1) - 1).max() < 1e-5
    along = novelty.directions(features(200, seed=9)) @ watched.directions.T
    assert (np.diff(along.std(axis=0)) < 0).all()
    assert all(row[np.abs(row).argmax()] > 0 for row in watched.directions)


def test_where_images_hardly_differ_is_no_direction():
    """There rounding would differ, between training and each engine."""
    shown = np.zeros((50, 8), np.float32)
    shown[:, 4], shown[:, 5] = 1, np.linspace(-1e-3, 1e-3, 50)
    ids = [f"{n:064x}" for n in range(50)]
    bank = novelty.bank(shown, np.zeros(50, np.int32), ids, ids)

    watched, _ = traits.learn(bank, shown, confidence(50))

    assert watched.directions == pytest.approx(np.array([[0, 1, 0, 0]]), abs=1e-3)


def test_few_images_have_few_bins_and_equal_ones_fall_into_one(bank):
    watched, bins = traits.learn(bank, features(30), np.ones(30, np.float32))

    assert watched.edges.shape[1] == 2
    assert set(bins[:, 1]) == {0}


def test_they_come_back_from_the_file(bank, tmp_path):
    watched, bins = traits.learn(bank, features(60), confidence(60))
    save_file(watched.as_arrays(), tmp_path / "traits.safetensors")

    again = traits.read(tmp_path / "traits.safetensors")

    unlike = novelty.score(features(60), bank)
    assert (again.bins(features(60), unlike, confidence(60)) == bins).all()
