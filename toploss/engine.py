"""A version in memory, asked for probabilities: what an engine is, and those of a CPU."""

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from toploss.artifact import GOLDEN, ONNX, WEIGHTS, Loaded
from toploss.preprocess import normalise

Images = npt.NDArray[np.uint8]  # (n, 3, s, s), RGB
Probabilities = npt.NDArray[np.float32]  # (n, classes), rows sum to 1
Reals = npt.NDArray[np.float32]

EngineName = Literal["ncnn", "onnx", "torch"]


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a network says of n images."""

    logits: Reals  # (n, classes)
    features: Reals  # (n, 2f), pooled: maxima, then means


class Engine(Protocol):
    """One version, ready to answer. Threads may share it."""

    name: EngineName
    told: str  # what people are told that it is
    lanes: int  # batches that it computes at the same time to advantage
    largest: int  # images of a batch; more are not computed faster

    def outputs(self, images: Images, *, alone: bool = True) -> Outputs:
        """
        Args:
            alone: whether these images may have the whole machine; with others beside them, each
                batch had better keep to its lane.
        """

    def probabilities(self, images: Images) -> Probabilities:
        """As training computed them: no temperature is applied."""

    def seen(self, image: Images) -> tuple[Reals, Reals]:
        """Of one image, (1, 3, s, s): pooled features (2f,), and the last feature map (f, h, w)."""


class OnnxEngine:
    """ONNX Runtime on the CPU: faster than eager PyTorch there, and it knows every architecture.

    One image has every core. Under load each core computes a batch of its own: there is nothing
    to wait for then, which is up to a sixth faster (docs/benchmarks.md).
    """

    name: EngineName = "onnx"
    told = "onnx"
    largest = 4  # of more, each is as fast, and all wait longer (docs/benchmarks.md)

    def __init__(self, loaded: Loaded, *, threads: int) -> None:
        self.lanes = threads
        self._preprocessing = loaded.preprocessing
        # By its name: handed over as bytes it is copied while nobody else in this process can run.
        self._model = str(loaded.folder / ONNX)
        self._wide = self._session(threads)

    @cached_property
    def _narrow(self) -> Any:
        """Of one thread, the caller's. It is made when a server warms it: whoever computes image
        after image needs none."""
        return self._wide if self.lanes == 1 else self._session(1)

    def _session(self, threads: int) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads take the cores from decoding, and from a training beside us.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            self._model, options, providers=["CPUExecutionProvider"]
        )

    def outputs(self, images: Images, *, alone: bool = True) -> Outputs:
        session = self._wide if alone else self._narrow
        batch = normalise(images, self._preprocessing)
        logits, features = session.run(["logits", "features"], {"images": batch})
        return Outputs(logits=logits, features=features)

    def probabilities(self, images: Images) -> Probabilities:
        return softmax(self.outputs(images).logits)

    def seen(self, image: Images) -> tuple[Reals, Reals]:
        batch = normalise(image, self._preprocessing)
        features, feature_map = self._narrow.run(["features", "feature_map"], {"images": batch})
        return features[0], feature_map[0]


class TorchEngine:
    """Eager PyTorch on the CPU: the reference, and what is left when ONNX Runtime fails."""

    name: EngineName = "torch"
    told = "torch"
    lanes = 1
    _threads = 0  # that the process has
    largest = 8

    def __init__(self, loaded: Loaded, *, threads: int) -> None:
        import torch

        # Of the whole process: another engine with fewer does not take them from this one.
        TorchEngine._threads = max(TorchEngine._threads, threads)
        torch.set_num_threads(TorchEngine._threads)
        self._network = network_of(loaded)
        self._preprocessing = loaded.preprocessing
        self._one_at_a_time = threading.Lock()

    def outputs(self, images: Images, *, alone: bool = True) -> Outputs:
        import torch

        features, _ = self._body(images)
        with self._one_at_a_time, torch.inference_mode():
            logits = self._network.head(features)
        return Outputs(logits=logits.numpy(), features=features.numpy())

    def probabilities(self, images: Images) -> Probabilities:
        return softmax(self.outputs(images).logits)

    def seen(self, image: Images) -> tuple[Reals, Reals]:
        features, feature_map = self._body(image)
        return features[0].numpy(), feature_map[0].numpy()

    def _body(self, images: Images) -> tuple[Any, Any]:
        import torch

        from toploss.network import pool

        batch = torch.from_numpy(normalise(images, self._preprocessing))
        with self._one_at_a_time, torch.inference_mode():
            feature_map = self._network.body(batch)
            return pool(feature_map), feature_map


def network_of(loaded: Loaded) -> Any:
    """A version's network in PyTorch, in eval mode."""
    from safetensors.torch import load_file

    from toploss.network import build

    how = loaded.preprocessing
    network = build(loaded.manifest["architecture"], len(loaded.labels), size=how.size)
    network.load_state_dict(load_file(loaded.folder / WEIGHTS))
    return network.eval()


def softmax(logits: Reals) -> Probabilities:
    """Rows of logits to rows of probabilities, without overflow."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Probabilities = powers / powers.sum(axis=1, keepdims=True)
    return shares


def golden_difference(engine: Engine, loaded: Loaded) -> float:
    """Largest difference of a probability from training's, on the golden images: in batches of the
    engine's size, alone and beside others in turn, which also warms both."""
    from safetensors.numpy import load_file

    golden: dict[str, Any] = load_file(loaded.folder / GOLDEN)
    images, wanted = golden["images"], golden["probabilities"]
    if not len(images):  # each was erased: there is nothing left to compare
        return 0.0
    logits = [
        engine.outputs(images[start : start + engine.largest], alone=turn % 2 == 0).logits
        for turn, start in enumerate(range(0, len(images), engine.largest))
    ]
    return float(np.abs(softmax(np.concatenate(logits)) - wanted).max())
