"""From a version's folder to the engine that answers with it: made, checked against training, and,
where several would do, the fastest."""

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from toploss.artifact import GOLDEN, Loaded
from toploss.engine import Engine, OnnxEngine, TorchEngine, softmax
from toploss.errors import Broken

log = logging.getLogger("toploss.loading")

T = TypeVar("T")

Choice = Literal["auto", "onnx", "torch"]
Device = Literal["auto", "cpu", "cuda"]

MEASURED_S = 0.3  # that an engine has to show its speed


def directly(work: Callable[[], T]) -> T:
    return work()


def load(
    loaded: Loaded,
    *,
    engine: Choice = "auto",
    device: Device = "auto",
    threads: int,
    aside: Callable[[Callable[[], Any]], Any] = directly,
) -> Engine:
    """A version in memory, in agreement with what training computed.

    `auto` on a GPU: the engine that computes most images a second here, of those that agree. On a
    CPU: ONNX Runtime, and PyTorch only where that does not agree; to measure it as well would
    bring all of PyTorch into a server, and it has never been the faster one
    (docs/benchmarks.md).

    Args:
        aside: how checks and measurements are run: a server has them stay behind its answers.

    Raises:
        Broken: it does not load, or its answers on the golden images differ from training's.
    """
    where = _device(device) if engine != "onnx" else "cpu"
    agree: list[Engine] = []
    refused: list[Broken] = []
    for make in _makers(loaded, engine, where, threads):
        try:
            made = _made(loaded, make)
            aside(partial(check, made, loaded))
        except Broken as exc:
            refused.append(exc)
        else:
            agree.append(made)
            if where == "cpu":
                break
    if not agree:
        raise Broken(" Also: ".join(map(str, refused))) from refused[0]
    for reason in refused:
        log.warning("action=choose-engine outcome=refused error=%r; another one serves", reason)
    if len(agree) == 1:
        return agree[0]
    return max(agree, key=lambda made: aside(partial(images_per_s, made, loaded)))


def check(engine: Engine, loaded: Loaded) -> None:
    """Raises Broken: its answers on the golden images are not training's."""
    version = loaded.manifest["version"]
    try:
        apart = golden_difference(engine, loaded)
    except Exception as exc:
        raise Broken(f"version {version} does not load: {exc}; promote another one") from exc
    if not apart <= loaded.tolerance:
        raise Broken(
            f"version {version} on {engine.told} differs from training by {apart:.2g} in a "
            f"probability, more than {loaded.tolerance:g}; promote another one"
        )


def golden_difference(engine: Engine, loaded: Loaded) -> float:
    """Largest difference of a probability from training's, on the golden images: in batches of the
    engine's size, alone and beside others in turn, which also warms both."""
    from safetensors.numpy import load_file

    golden: dict[str, Any] = load_file(loaded.folder / GOLDEN)
    images, wanted = golden["images"], golden["probabilities"]
    logits = [
        engine.outputs(images[start : start + engine.largest], alone=turn % 2 == 0).logits
        for turn, start in enumerate(range(0, len(images), engine.largest))
    ]
    return float(np.abs(softmax(np.concatenate(logits)) - wanted).max())


def images_per_s(engine: Engine, loaded: Loaded, seconds: float = MEASURED_S) -> float:
    """How many images it computes, in batches of its own size, once it is warm."""
    size = loaded.preprocessing.size
    images = np.zeros((engine.largest, 3, size, size), np.uint8)
    engine.outputs(images)
    done, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        engine.outputs(images)
        done += engine.largest
    return done / spent


def _makers(
    loaded: Loaded, engine: Choice, where: str, threads: int
) -> Iterator[Callable[[], Engine]]:
    """In order of what one would try."""
    if where == "cuda":
        from toploss.cuda import CudaEngine

        yield lambda: CudaEngine(loaded, half=True)
        yield lambda: CudaEngine(loaded, half=False)
    if engine != "torch":
        yield lambda: OnnxEngine(loaded, threads=threads)
    if engine != "onnx" and where == "cpu":
        yield lambda: TorchEngine(loaded, threads=threads)


def _made(loaded: Loaded, make: Callable[[], Engine]) -> Engine:
    try:
        return make()
    except Exception as exc:  # whatever a runtime says of a model that it cannot load
        raise Broken(
            f"version {loaded.manifest['version']} does not load: {exc}; promote another one"
        ) from exc


def _device(device: Device) -> str:
    if device != "auto":
        return device
    if not any(Path(sign).exists() for sign in ("/dev/nvidiactl", "/dev/dxg")):
        return "cpu"  # and PyTorch need not be imported to find out
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
