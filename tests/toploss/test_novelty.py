"""Novelty on features whose neighbours are known."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from toploss import novelty
from toploss.novelty import Bank


def ids(number: int) -> list[str]:
    return [f"{n:064x}" for n in range(number)]


def features(means: list[list[float]]) -> np.ndarray:
    """Pooled features: maxima that nobody should look at, then these means."""
    given = np.array(means, np.float32)
    noise = np.random.default_rng(3).normal(0, 100, given.shape).astype(np.float32)
    return np.concatenate([noise, given], axis=1)


def banked(means: list[list[float]]) -> Bank:
    size = len(means)
    return novelty.bank(features(means), np.zeros(size, int), ids(size), ids(size))


def test_the_score_is_the_mean_distance_to_the_nearest_two() -> None:
    bank = banked([[1, 0], [0, 1], [-1, 0]])

    found = novelty.score(features([[5, 0], [3, 4], [-2, 0]]), bank)

    # Cosines with the nearest two: 1 and 0; 0.8 and 0.6; 1 and 0.
    assert found == pytest.approx([0.5, 0.3, 0.5], abs=1e-6)


def test_neighbours_come_nearest_first_by_their_place_in_the_bank() -> None:
    bank = banked([[1, 0], [0, 1], [-1, 0]])

    rows, distances = novelty.nearest(features([[3, 4]]), bank, 3)

    assert [bank.ids[row] for row in rows[0]] == [ids(3)[1], ids(3)[0], ids(3)[2]]
    assert distances[0] == pytest.approx([0.2, 0.4, 1.6], abs=1e-6)


def test_a_bank_smaller_than_what_is_asked_for_gives_what_it_has() -> None:
    rows, distances = novelty.nearest(features([[1, 0]]), banked([[1, 0]]), 5)

    assert rows.shape == distances.shape == (1, 1)
    assert novelty.score(features([[0, 0]]), banked([[1, 0]])) == pytest.approx([1.0])


def test_many_pictures_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    bank = banked(rng.normal(0, 1, (20, 4)).tolist())
    asked = features(rng.normal(0, 1, (7, 4)).tolist())
    whole = novelty.score(asked, bank)

    monkeypatch.setattr(novelty, "AT_ONCE", 3)

    assert np.array_equal(novelty.score(asked, bank), whole)


def test_foreign_pictures_are_beyond_the_threshold_and_own_ones_are_not() -> None:
    rng = np.random.default_rng(5)
    own = rng.normal([4, 4, 0, 0], 1, (600, 4))
    foreign = rng.normal([0, 0, 4, 4], 1, (100, 4))
    bank = banked(own[:400].tolist())

    threshold = novelty.threshold(novelty.score(features(own[400:500].tolist()), bank))

    assert (novelty.score(features(own[500:].tolist()), bank) > threshold).mean() < 0.1
    assert (novelty.score(features(foreign.tolist()), bank) > threshold).mean() > 0.95


def test_the_threshold_is_a_score_that_few_exceed() -> None:
    scores = np.arange(100, dtype=np.float32)

    assert novelty.threshold(scores, 0.98) == 98.0
    assert novelty.threshold(scores[:1]) == 0.0


def test_of_too_many_every_class_and_every_group_has_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(novelty, "MOST_SAMPLES", 6)
    places = np.array([0] * 20 + [1] * 2)
    groups = ["twins"] * 17 + ["a", "b", "c", "d", "e"]
    given = np.random.default_rng(2).normal(0, 1, (22, 8)).astype(np.float32)

    bank = novelty.bank(given, places, ids(22), groups)

    assert sorted(bank.places.tolist()) == [0, 0, 0, 0, 1, 1]
    # One of the twins, the loners, and nothing more of class 0.
    assert {int(known, 16) for known in bank.ids} == {0, 17, 18, 19, 20, 21}


def test_wide_features_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(novelty, "MOST_BYTES", 100)
    bank = banked(np.eye(10).tolist())

    assert bank.features.shape == (5, 10)


def test_the_same_samples_give_the_same_bank_in_any_order() -> None:
    rng = np.random.default_rng(4)
    given, names = rng.normal(0, 1, (30, 8)).astype(np.float32), ids(30)
    places, groups = rng.integers(0, 3, 30), [f"{n % 7}" for n in range(30)]
    order = rng.permutation(30)

    one = novelty.bank(given, places, names, groups)
    other = novelty.bank(
        given[order], places[order], [names[n] for n in order], [groups[n] for n in order]
    )

    assert one.ids == other.ids
    assert np.array_equal(one.features, other.features)
    assert np.array_equal(one.places, other.places)


def test_what_is_read_is_what_was_kept(tmp_path: Path) -> None:
    bank = banked([[1, 2], [3, 1], [-1, 2]])

    save_file(bank.as_arrays(), tmp_path / "features.safetensors")
    found = novelty.read(tmp_path / "features.safetensors")

    assert found.ids == bank.ids
    assert found.features == pytest.approx(bank.features, abs=1e-3)
    assert np.array_equal(found.places, bank.places)
