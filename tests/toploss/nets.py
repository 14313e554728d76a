"""Versions with networks whose answers are known."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from toploss import engine
from toploss.artifact import open_folder, seal
from toploss.network import build
from toploss.preprocess import Preprocessing, normalise

ARCH = "shufflenet_v2_x0_5"
SIZE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 3, SIZE, SIZE), dtype=np.uint8)
WHITE = np.full((1, 3, SIZE, SIZE), 255, np.uint8)
BLACK = np.zeros((1, 3, SIZE, SIZE), np.uint8)


def bright_or_dark():
    """A network known by heart: the logit of `bright` is ten times the mean of the picture, in
    0…1, above a half; that of `dark` is nought."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Sub", ["column", "half"], ["above"]),
        helper.make_node("Mul", ["above", "ten"], ["logits"]),
        helper.make_node("Identity", ["column"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "bright or dark",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 1]),
        ],
        [
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("half", TensorProto.FLOAT, [], [0.5]),
            helper.make_tensor("ten", TensorProto.FLOAT, [1, 2], [10.0, 0.0]),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def sealed(folder, *, golden, model=b"", weights=None):
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    if weights is not None:
        plain = {key: value.contiguous() for key, value in weights.items()}
        save_file(plain, folder / "weights.safetensors")
    images, probabilities = golden
    save_arrays({"images": images, "probabilities": probabilities}, folder / "golden.safetensors")
    how = Preprocessing(size=SIZE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    digest = seal(
        folder,
        {
            "version": "v1",
            "architecture": ARCH,
            "labels": ["bright", "dark"],
            "preprocessing": how.as_json(),
            "parity": {"tolerance": 1e-4},
        },
    )
    return open_folder(folder, digest)


def expected(images):
    bright = 10 * (images.reshape(len(images), -1).mean(1) / 255 - 0.5)
    logits = np.stack([bright, np.zeros_like(bright)], axis=1)
    return engine.softmax(logits.astype(np.float32))


def torch_version(folder, *, model=b""):
    """A version of a PyTorch network, sealed with its own probabilities; and those."""
    torch.manual_seed(1)
    network = build(ARCH, 2).eval()
    how = Preprocessing(size=SIZE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    with torch.inference_mode():
        probabilities = network(torch.from_numpy(normalise(IMAGES, how))).softmax(1).numpy()
    made = sealed(folder, golden=(IMAGES, probabilities), model=model, weights=network.state_dict())
    return made, probabilities
