"""The engine by ncnn, held against PyTorch, and the head in NumPy; and what does not convert."""

import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.toploss.nets import ARCH, IMAGES, SIZE, torch_version
from toploss import loading
from toploss.artifact import NCNN, WEIGHTS, Loaded, open_folder, seal
from toploss.engine import TorchEngine
from toploss.errors import Broken
from toploss.head import Head, pool
from toploss.ncnn import NcnnEngine
from toploss.network import build
from toploss.preprocess import Preprocessing
from training.conversion import _convert, write_ncnn


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """A network of PyTorch with its ncnn files; what a run writes."""
    loaded, _ = torch_version(tmp_path_factory.mktemp("v"))
    network = build(ARCH, 2).eval()
    network.load_state_dict(load_file(loaded.folder / WEIGHTS))
    apart = write_ncnn(network, loaded.folder, loaded.manifest)
    assert apart is not None
    assert apart < 1e-5
    manifest = {key: loaded.manifest[key] for key in loaded.manifest if key != "files"}
    return open_folder(loaded.folder, seal(loaded.folder, manifest))


@pytest.fixture(scope="module")
def reference(version):
    return TorchEngine(version, threads=torch.get_num_threads())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("images", [1, 3])
def test_it_says_what_pytorch_says(version, reference, threads, alone, images):
    engine = NcnnEngine(version, threads=threads)

    found = engine.outputs(IMAGES[:images], alone=alone)
    wanted = reference.outputs(IMAGES[:images])

    np.testing.assert_allclose(found.logits, wanted.logits, atol=1e-4)
    np.testing.assert_allclose(found.features, wanted.features, atol=1e-4)
    assert found.logits.dtype == found.features.dtype == np.float32


def test_what_it_saw_is_what_pytorch_saw(version, reference):
    pooled, feature_map = NcnnEngine(version, threads=1).seen(IMAGES[:1])

    wanted_pooled, wanted_map = reference.seen(IMAGES[:1])
    np.testing.assert_allclose(pooled, wanted_pooled, atol=1e-4)
    np.testing.assert_allclose(feature_map, wanted_map, atol=1e-4)


def test_the_head_in_numpy_is_the_networks(version, reference):
    head = Head.of(version)
    maps = np.random.default_rng(0).normal(0, 1, (3, 1024, 2, 2)).astype(np.float32)

    network = reference._network
    with torch.inference_mode():
        wanted = network.head(torch.from_numpy(pool(maps)))
    np.testing.assert_allclose(head.logits(pool(maps)), wanted, atol=1e-4)


def test_lanes_do_not_disturb_each_other(version):
    engine = NcnnEngine(version, threads=2)
    wanted = engine.probabilities(IMAGES)
    with ThreadPoolExecutor(4) as lanes:
        found = list(
            lanes.map(lambda turn: engine.outputs(IMAGES, alone=turn % 3 == 0).logits, range(40))
        )
    for logits in found:
        np.testing.assert_allclose(
            np.exp(logits) / np.exp(logits).sum(1, keepdims=True), wanted, atol=1e-5
        )


@pytest.mark.parametrize("damage", ["no parameters", "text", "cut weights", "none"])
def test_files_that_ncnn_does_not_read_are_told(version, tmp_path, damage):
    shutil.copytree(version.folder, tmp_path / "v")
    parameters, weights = (tmp_path / "v" / name for name in NCNN)
    if damage == "no parameters":
        parameters.unlink()
    elif damage == "text":
        parameters.write_text("just text\n")
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        parameters.write_text("7767517\n0 0\n")
    damaged = replace(version, folder=tmp_path / "v")

    with pytest.raises(Broken, match=r"version v1 does not load: .*ncnn"):
        loading.load(damaged, engine="ncnn", threads=1)


def test_files_that_are_not_in_the_manifest_are_not_read(version):
    stray = replace(version, manifest={**version.manifest, "files": {}})

    with pytest.raises(Broken, match="version v1 has no body for ncnn"):
        loading.load(stray, engine="ncnn", threads=1)


def test_auto_may_take_it(version):
    assert loading.load(version, device="cpu", threads=1).name in ("ncnn", "onnx", "torch")
    assert loading.load(version, device="cpu", threads=1, measure=False).name == "ncnn"


def test_others_run_while_it_is_loaded(tmp_path):
    """A body of layers that take long to prepare: nobody waits for more than one of them."""
    network = build("resnet10t", 2, size=SIZE)
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()},
        tmp_path / WEIGHTS,
    )
    _convert(network, tmp_path, SIZE)
    loaded = Loaded(folder=tmp_path, manifest={"preprocessing": Preprocessing(size=SIZE).as_json()})
    ended = threading.Event()
    waits = []

    def watch():
        last = time.perf_counter()
        while not ended.wait(0.001):
            now = time.perf_counter()
            waits.append(now - last)
            last = now

    watching = threading.Thread(target=watch)
    watching.start()
    began = time.perf_counter()
    try:
        NcnnEngine(loaded, threads=1)
        whole = time.perf_counter() - began
    finally:
        ended.set()
        watching.join()
    assert max(waits) < 0.8 * whole


def test_a_body_that_does_not_convert_leaves_no_file(version, tmp_path):
    class Strange(nn.Module):
        """Complex numbers, which neither knows."""

        def forward(self, images):
            return torch.fft.fft2(images).abs()

    shutil.copytree(version.folder, tmp_path / "v")
    network = build(ARCH, 2)
    network.body = Strange()

    assert write_ncnn(network, tmp_path / "v", version.manifest) is None
    assert not [name for name in NCNN if (tmp_path / "v" / name).exists()]


def test_a_body_that_differs_is_not_kept(version, tmp_path):
    shutil.copytree(version.folder, tmp_path / "v")
    network = build(ARCH, 2)
    with torch.no_grad():
        for parameter in network.body.parameters():
            parameter.normal_()

    assert write_ncnn(network, tmp_path / "v", version.manifest) is None
    assert not [name for name in NCNN if (tmp_path / "v" / name).exists()]


def test_waiting_is_settled_for_ncnn_alone():
    code = (
        "import os; from toploss.ncnn import _ncnn; before = dict(os.environ); _ncnn(); "
        "assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
