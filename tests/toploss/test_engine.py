import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from toploss import engine
from toploss.artifact import open_folder, seal
from toploss.errors import Broken
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


@pytest.fixture
def known(tmp_path):
    return sealed(tmp_path / "v", golden=(IMAGES, expected(IMAGES)), model=bright_or_dark())


@pytest.fixture
def torch_made(tmp_path):
    torch.manual_seed(1)
    network = build(ARCH, 2).eval()
    how = Preprocessing(size=SIZE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    with torch.inference_mode():
        probabilities = network(torch.from_numpy(normalise(IMAGES, how))).softmax(1).numpy()
    return sealed(
        tmp_path / "v", golden=(IMAGES, probabilities), weights=network.state_dict()
    ), probabilities


def test_onnx_answers_as_known(known):
    made = engine.load(known, engine="onnx", threads=1)

    found = made.probabilities(np.concatenate([WHITE, BLACK]))

    assert (made.name, found.dtype, found.shape) == ("onnx", np.float32, (2, 2))
    np.testing.assert_allclose(found[:, 0], [1 / (1 + np.exp(-5)), 1 / (1 + np.exp(5))], rtol=1e-4)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_lane_of_its_own_gives_the_same(known, threads):
    made = engine.load(known, engine="onnx", threads=threads)

    alone, beside = made.outputs(IMAGES), made.outputs(IMAGES, alone=False)

    assert made.lanes == threads
    np.testing.assert_allclose(beside.logits, alone.logits, atol=1e-6)
    np.testing.assert_allclose(beside.features, alone.features, atol=1e-6)


@pytest.mark.parametrize("number", [1, 2, 7, 33])
def test_a_batch_answers_as_its_images_alone(known, number):
    made = engine.load(known, engine="onnx", threads=1)
    images = np.random.default_rng(2).integers(0, 256, (number, 3, SIZE, SIZE), dtype=np.uint8)

    together = made.probabilities(images)
    alone = np.concatenate([made.probabilities(images[n : n + 1]) for n in range(number)])

    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_torch_answers_as_training_did(torch_made):
    loaded, probabilities = torch_made
    threads = torch.get_num_threads()

    made = engine.load(loaded, engine="torch", device="cpu", threads=threads)

    assert made.name == "torch"
    np.testing.assert_allclose(made.probabilities(IMAGES), probabilities, atol=1e-6)


def test_auto_is_onnx_on_the_processor(known):
    assert engine.load(known, engine="auto", device="cpu", threads=1).name == "onnx"


@pytest.mark.parametrize(
    "golden",
    [
        (IMAGES, expected(IMAGES)[:, ::-1].copy()),
        (IMAGES, expected(IMAGES) + np.float32(2e-4)),
        (IMAGES, np.full((4, 2), np.nan, np.float32)),
    ],
)
def test_a_version_that_disagrees_with_training_is_not_served(tmp_path, golden):
    loaded = sealed(tmp_path / "v", golden=golden, model=bright_or_dark())

    with pytest.raises(Broken, match=r"version v1 on onnx differs from training by .*; promote"):
        engine.load(loaded, engine="onnx", threads=1)


def test_a_small_difference_is_borne(tmp_path):
    golden = (IMAGES, expected(IMAGES) + np.float32(5e-5))

    assert engine.load(
        sealed(tmp_path / "v", golden=golden, model=bright_or_dark()), engine="onnx", threads=1
    )


@pytest.mark.parametrize(
    ("model", "golden"),
    [
        (b"no network", (IMAGES, expected(IMAGES))),
        (b"", (IMAGES, expected(IMAGES))),
        (bright_or_dark(), (IMAGES[:, :2], expected(IMAGES))),
        (bright_or_dark(), (IMAGES, np.zeros((4, 3), np.float32))),
    ],
)
def test_what_does_not_load_is_told(tmp_path, model, golden):
    loaded = sealed(
        tmp_path / "v", golden=tuple(np.ascontiguousarray(a) for a in golden), model=model
    )

    with pytest.raises(Broken, match=r"version v1 does not load: .*; promote another one"):
        engine.load(loaded, engine="onnx", threads=1)


def test_weights_of_another_network_do_not_load(tmp_path):
    loaded = sealed(
        tmp_path / "v", golden=(IMAGES, expected(IMAGES)), weights={"a": torch.zeros(1)}
    )

    with pytest.raises(Broken, match="does not load"):
        engine.load(loaded, engine="torch", device="cpu", threads=torch.get_num_threads())


def test_softmax_does_not_overflow():
    logits = np.array([[1e4, 0, -1e4], [0, 0, 0], [-1e30, -1e30, 0]], np.float32)

    found = engine.softmax(logits)

    np.testing.assert_allclose(found, [[1, 0, 0], [1 / 3] * 3, [0, 0, 1]], rtol=1e-6)


def test_the_manifest_s_own_words_are_used(known):
    assert json.loads((known.folder / "manifest.json").read_text())["labels"] == list(known.labels)
