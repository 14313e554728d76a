"""A version in memory: loaded, checked, warmed, and asked for probabilities."""

import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from toploss.artifact import GOLDEN, ONNX, WEIGHTS, Loaded
from toploss.errors import Broken
from toploss.preprocess import normalise

Images = npt.NDArray[np.uint8]  # (n, 3, s, s), RGB
Probabilities = npt.NDArray[np.float32]  # (n, classes), rows sum to 1
Reals = npt.NDArray[np.float32]

EngineName = Literal["onnx", "torch"]


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a network says of n images."""

    logits: Reals  # (n, classes)
    features: Reals  # (n, 2f), pooled: maxima, then means


class Engine(Protocol):
    """One version, ready to answer. Threads may share it."""

    name: EngineName
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
    """ONNX Runtime on the CPU: about twice as fast as eager PyTorch there.

    One image has every core. Under load each core computes a batch of its own: there is nothing
    to wait for then, which is up to a sixth faster (docs/benchmarks.md).
    """

    name: EngineName = "onnx"
    largest = 8

    def __init__(self, loaded: Loaded, *, threads: int) -> None:
        self.lanes = threads
        self._preprocessing = loaded.preprocessing
        self._model = (loaded.folder / ONNX).read_bytes()
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
    """Eager PyTorch: the GPU's engine, and on the CPU the reference."""

    name: EngineName = "torch"
    lanes = 1
    largest = 64

    def __init__(self, loaded: Loaded, *, threads: int, device: str = "cpu") -> None:
        import torch
        from safetensors.torch import load_file

        from toploss.network import build

        if device == "cpu":
            torch.set_num_threads(threads)
        network = build(
            loaded.manifest["architecture"],
            len(loaded.labels),
            size=loaded.preprocessing.size,
        )
        network.load_state_dict(load_file(loaded.folder / WEIGHTS))
        self._network = network.to(device).eval()
        self._device = device
        self._preprocessing = loaded.preprocessing
        self._one_at_a_time = threading.Lock()

    def outputs(self, images: Images, *, alone: bool = True) -> Outputs:
        import torch

        from toploss.network import pool

        batch = torch.from_numpy(normalise(images, self._preprocessing)).to(self._device)
        with self._one_at_a_time, torch.inference_mode():
            features = pool(self._network.body(batch))
            logits = self._network.head(features)
            return Outputs(
                logits=logits.float().cpu().numpy(), features=features.float().cpu().numpy()
            )

    def probabilities(self, images: Images) -> Probabilities:
        return softmax(self.outputs(images).logits)

    def seen(self, image: Images) -> tuple[Reals, Reals]:
        import torch

        from toploss.network import pool

        batch = torch.from_numpy(normalise(image, self._preprocessing)).to(self._device)
        with self._one_at_a_time, torch.inference_mode():
            feature_map = self._network.body(batch)
            features = pool(feature_map)
            return features[0].float().cpu().numpy(), feature_map[0].float().cpu().numpy()


def load(
    loaded: Loaded,
    *,
    engine: Literal["auto", "onnx", "torch"] = "auto",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int,
) -> Engine:
    """A version in memory, warmed, and in agreement with what training computed.

    Raises:
        Broken: it does not load, or its answers on the golden images differ from training's.
    """
    where = _device(device) if engine != "onnx" else "cpu"
    try:
        made: Engine
        if engine == "torch" or (engine == "auto" and where == "cuda"):
            made = TorchEngine(loaded, threads=threads, device=where)
        else:
            made = OnnxEngine(loaded, threads=threads)
        apart = golden_difference(made, loaded)
    except Broken:
        raise
    except Exception as exc:  # whatever a runtime says of a model that it cannot load
        raise Broken(
            f"version {loaded.manifest['version']} does not load: {exc}; promote another one"
        ) from exc
    if not apart <= loaded.tolerance:
        raise Broken(
            f"version {loaded.manifest['version']} on {made.name} differs from training "
            f"by {apart:.2g} in a probability, more than {loaded.tolerance:g}; promote another one"
        )
    return made


def golden_difference(engine: Engine, loaded: Loaded) -> float:
    """Largest difference of a probability from training's, on the golden images."""
    from safetensors.numpy import load_file

    golden: dict[str, Any] = load_file(loaded.folder / GOLDEN)
    found = engine.probabilities(golden["images"])
    return float(np.abs(found - golden["probabilities"]).max())


def softmax(logits: Reals) -> Probabilities:
    """Rows of logits to rows of probabilities, without overflow."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Probabilities = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _device(device: str) -> str:
    if device != "auto":
        return device
    if not any(Path(sign).exists() for sign in ("/dev/nvidiactl", "/dev/dxg")):
        return "cpu"  # and PyTorch need not be imported to find out
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
