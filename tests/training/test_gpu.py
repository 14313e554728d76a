"""The same on a GPU: it trains, in half precision where there is it, and exports what agrees."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.conftest import QUICK
from toploss import models
from toploss.home import Home
from toploss.network import build
from toploss.preprocess import Preprocessing
from training import evaluation, fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device"),
]


def test_a_run_on_a_gpu_comes_to_the_same_accuracy(learned_home: Callable[..., Home]) -> None:
    home = learned_home(device="cuda")

    result = fit(home=home, promote=False, **QUICK)

    assert result.metrics["test"]["accuracy"] >= 0.9  # on the CPU: 1.0
    manifest = models.get(home, result.version).manifest
    assert manifest["device"] == "cuda"
    assert manifest["parity"]["difference"]["onnx"] <= manifest["parity"]["tolerance"]


def test_a_gpu_gives_out_of_memory_as_parts(learned_home: Callable[..., Home]) -> None:
    """A share of the GPU's memory that the whole batch does not fit into."""
    home = learned_home(device="cuda")
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 1.5 * 2**30 / total))
    try:
        result = fit(home=home, promote=False, **{**QUICK, "size": 448, "batch_size": 48})
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

    assert models.get(home, result.version).manifest["settings"]["part"] is not None


def test_what_training_computes_on_a_gpu_is_what_a_cpu_computes() -> None:
    """To far below what an engine may differ by: in TF32 a ResNet-34 was off by 0.012."""
    torch.manual_seed(0)
    network = build("resnet34", 6, size=224)
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 224, 224), np.uint8)
    how = Preprocessing(size=224)

    on_cpu = evaluation.reference(network, how, "cpu")(images)
    on_gpu = evaluation.reference(network, how, "cuda")(images)

    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4)
