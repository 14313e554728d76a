import json

import numpy as np
import pytest
import torch

from tests.toploss.nets import (
    BLACK,
    IMAGES,
    SIZE,
    WHITE,
    bright_or_dark,
    expected,
    sealed,
    torch_version,
)
from toploss import engine, loading


@pytest.fixture
def known(tmp_path):
    return sealed(tmp_path / "v", golden=(IMAGES, expected(IMAGES)), model=bright_or_dark())


def test_onnx_answers_as_known(known):
    made = loading.load(known, engine="onnx", threads=1)

    found = made.probabilities(np.concatenate([WHITE, BLACK]))

    assert (made.name, found.dtype, found.shape) == ("onnx", np.float32, (2, 2))
    np.testing.assert_allclose(found[:, 0], [1 / (1 + np.exp(-5)), 1 / (1 + np.exp(5))], rtol=1e-4)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_lane_of_its_own_gives_the_same(known, threads):
    made = loading.load(known, engine="onnx", threads=threads)

    alone, beside = made.outputs(IMAGES), made.outputs(IMAGES, alone=False)

    assert made.lanes == threads
    np.testing.assert_allclose(beside.logits, alone.logits, atol=1e-6)
    np.testing.assert_allclose(beside.features, alone.features, atol=1e-6)


@pytest.mark.parametrize("number", [1, 2, 7, 33])
def test_a_batch_answers_as_its_images_alone(known, number):
    made = loading.load(known, engine="onnx", threads=1)
    images = np.random.default_rng(2).integers(0, 256, (number, 3, SIZE, SIZE), dtype=np.uint8)

    together = made.probabilities(images)
    alone = np.concatenate([made.probabilities(images[n : n + 1]) for n in range(number)])

    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_torch_answers_as_training_did(tmp_path):
    loaded, probabilities = torch_version(tmp_path / "v")
    threads = torch.get_num_threads()

    made = loading.load(loaded, engine="torch", device="cpu", threads=threads)

    assert made.name == "torch"
    np.testing.assert_allclose(made.probabilities(IMAGES), probabilities, atol=1e-6)


def test_softmax_does_not_overflow():
    logits = np.array([[1e4, 0, -1e4], [0, 0, 0], [-1e30, -1e30, 0]], np.float32)

    found = engine.softmax(logits)

    np.testing.assert_allclose(found, [[1, 0, 0], [1 / 3] * 3, [0, 0, 1]], rtol=1e-6)


def test_the_manifest_s_own_words_are_used(known):
    assert json.loads((known.folder / "manifest.json").read_text())["labels"] == list(known.labels)


def test_torch_looks_where_onnx_would(tmp_path):
    loaded, _ = torch_version(tmp_path / "v")
    made = loading.load(loaded, engine="torch", device="cpu", threads=torch.get_num_threads())

    features, feature_map = made.seen(IMAGES[:1])

    np.testing.assert_allclose(features, made.outputs(IMAGES[:1]).features[0], atol=1e-6)
    half = len(features) // 2
    np.testing.assert_allclose(feature_map.max((1, 2)), features[:half], atol=1e-6)
    np.testing.assert_allclose(feature_map.mean((1, 2)), features[half:], atol=1e-5)
