"""A snapshot's pictures: exactly what serving decodes, within a bound of memory."""

from collections.abc import Callable

import numpy as np

from toploss import snapshots
from toploss.home import Home
from toploss.plan import Plan
from toploss.preprocess import Preprocessing, decode, normalise
from training import lesson, randomness
from training.data import Pictures, loaders, preprocessing


def test_pictures_are_what_serving_decodes(learned_home: Callable[..., Home]) -> None:
    home = learned_home()
    row = snapshots.freeze(home).rows[0]

    picture = Pictures(home, Preprocessing(size=24))[row.id]

    assert (picture == decode(home.blobs.get_image(row.id), 24, home.limits)).all()


def test_the_cache_keeps_to_its_bound(learned_home: Callable[..., Home]) -> None:
    home = learned_home()
    rows = snapshots.freeze(home).rows
    pictures = Pictures(home, Preprocessing(size=16), cache_bytes=5 * 3 * 16 * 16)
    seen: list[int] = []

    pictures.warm(rows, 2, seen.append)

    assert seen == [1, 2, 3, 4, 5]
    assert pictures.stack(rows[:8]).shape == (8, 3, 16, 16)
    assert len(pictures._kept) == 5


def test_a_batch_larger_than_the_training_set_still_trains(
    learned_home: Callable[..., Home],
) -> None:
    home = learned_home()
    snapshot = snapshots.freeze(home)
    plan = Plan.from_settings(home.settings).but(size=16, batch_size=4_096, weights="none")
    randomness.seed(0, 2)

    made = loaders(lesson.material(Pictures(home, Preprocessing(size=16)), snapshot), plan, "cpu")

    assert len(made.train) == 1
    images, labels = made.train.one_batch()
    assert images.shape == (len(snapshot.of_split("train")), 3, 16, 16)
    assert set(labels.tolist()) == {0, 1, 2}


def test_validation_is_neither_augmented_nor_shuffled(learned_home: Callable[..., Home]) -> None:
    home = learned_home()
    snapshot = snapshots.freeze(home)
    plan = Plan.from_settings(home.settings).but(size=16, weights="none")
    randomness.seed(0, 2)

    made = loaders(lesson.material(Pictures(home, Preprocessing(size=16)), snapshot), plan, "cpu")

    first, second = (made.valid.one_batch()[0] for _ in range(2))
    assert np.array_equal(first, second)


def test_pictures_are_scaled_as_the_weights_were_learned(learned_home: Callable[..., Home]) -> None:
    home = learned_home()
    plan = Plan.from_settings(home.settings).but(arch="vit_tiny_patch16_224", size=32)
    how = preprocessing(plan)
    material = lesson.material(Pictures(home, how), snapshots.freeze(home))

    shown, _ = loaders(material, plan, "cpu").valid.one_batch()

    assert (how.mean, how.std) == ((0.5,) * 3, (0.5,) * 3)  # not ImageNet's
    served = normalise(material.pictures.stack(material.valid[: len(shown)]), how)
    np.testing.assert_allclose(shown, served, atol=1e-5)
