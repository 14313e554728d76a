"""A version in memory: loaded, checked, warmed, and asked for probabilities."""

import threading
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from toploss.artifact import GOLDEN, ONNX, WEIGHTS, Loaded
from toploss.errors import Broken
from toploss.preprocess import normalise

Images = npt.NDArray[np.uint8]  # (n, 3, s, s), RGB
Probabilities = npt.NDArray[np.float32]  # (n, classes), rows sum to 1

EngineName = Literal["onnx", "torch"]


class Engine(Protocol):
    """One version, ready to answer. Threads may share it."""

    name: EngineName

    def probabilities(self, images: Images) -> Probabilities: ...


class OnnxEngine:
    """ONNX Runtime on the CPU: about twice as fast as eager PyTorch there."""

    name: EngineName = "onnx"

    def __init__(self, loaded: Loaded, *, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads take the cores from decoding, and from a training beside us.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._preprocessing = loaded.preprocessing
        self._session = onnxruntime.InferenceSession(
            (loaded.folder / ONNX).read_bytes(), options, providers=["CPUExecutionProvider"]
        )

    def probabilities(self, images: Images) -> Probabilities:
        (logits,) = self._session.run(
            ["logits"], {"images": normalise(images, self._preprocessing)}
        )
        return softmax(logits)


class TorchEngine:
    """Eager PyTorch: the GPU's engine, and on the CPU the reference."""

    name: EngineName = "torch"

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

    def probabilities(self, images: Images) -> Probabilities:
        import torch

        batch = torch.from_numpy(normalise(images, self._preprocessing)).to(self._device)
        with self._one_at_a_time, torch.inference_mode():
            logits: npt.NDArray[np.float32] = self._network(batch).float().cpu().numpy()
        return softmax(logits)


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


def softmax(logits: npt.NDArray[np.float32]) -> Probabilities:
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
