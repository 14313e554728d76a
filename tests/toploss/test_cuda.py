"""The GPU's engine. What can be shown without one is shown first."""

import threading

import numpy as np
import pytest
import torch

from tests.toploss.nets import IMAGES, SIZE, torch_version
from toploss import cuda, loading
from toploss.cuda import CudaEngine, graph_size
from toploss.engine import TorchEngine

on_a_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: PyTorch sees no CUDA device"),
]


@pytest.mark.parametrize(("images", "size"), [(1, 1), (2, 2), (3, 4), (33, 64), (64, 64)])
def test_a_batch_goes_into_the_smallest_graph(images, size):
    assert graph_size(images) == size


@pytest.mark.parametrize(
    "half", [pytest.param(False, marks=on_a_gpu), pytest.param(True, marks=on_a_gpu)]
)
def test_it_agrees_with_the_reference(tmp_path, half):
    loaded, probabilities = torch_version(tmp_path / "v")
    made = CudaEngine(loaded, half=half)
    reference = TorchEngine(loaded, threads=torch.get_num_threads())
    near = 2e-2 if half else 1e-3

    np.testing.assert_allclose(made.probabilities(IMAGES), probabilities, atol=near)
    for number in (1, 3, 64, 65, 130):
        images = np.random.default_rng(number).integers(0, 256, (number, 3, SIZE, SIZE), np.uint8)
        found, wanted = made.outputs(images), reference.outputs(images)
        assert found.logits.dtype == np.float32
        np.testing.assert_allclose(found.logits, wanted.logits, atol=50 * near, rtol=near)
        assert found.features.shape == wanted.features.shape
    features, feature_map = made.seen(IMAGES[:1])
    np.testing.assert_allclose(feature_map.max((1, 2)), features[: len(feature_map)], rtol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: PyTorch sees no CUDA device")
def test_auto_is_the_gpu_and_a_swap_beside_answers_spoils_none(tmp_path):
    loaded, probabilities = torch_version(tmp_path / "v")
    serving = loading.load(loaded, threads=2)
    assert isinstance(serving, cuda.CudaEngine)
    wrong, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            found = serving.probabilities(IMAGES)
            if not np.allclose(found, probabilities, atol=2e-2):
                wrong.append(found)

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(3):
        loading.load(loaded, threads=2)
    stop.set()
    asking.join()
    assert wrong == []
