"""From a version's folder to the engine that answers with it: made, checked against training, and,
where several would do, the fastest."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from toploss.artifact import NCNN, Loaded
from toploss.engine import Engine, OnnxEngine, TorchEngine, golden_difference
from toploss.errors import Broken

log = logging.getLogger("toploss.loading")

T = TypeVar("T")

Maker = Callable[[], Engine]
Choice = Literal["auto", "ncnn", "onnx", "torch"]
Device = Literal["auto", "cpu", "cuda"]

TURNS, TURN_S = 3, 0.15  # that an engine has to show its speed, in seconds

# What was found for networks of this architecture, size, threads and device: an engine's `told`.
_fastest: dict[tuple[str, int, int, str], str] = {}


def directly(work: Callable[[], T]) -> T:
    """In the thread that asks."""
    return work()


def load(
    loaded: Loaded,
    *,
    engine: Choice = "auto",
    device: Device = "auto",
    threads: int,
    aside: Callable[[Callable[[], Any]], Any] = directly,
    measure: bool = True,
) -> Engine:
    """A version in memory, in agreement with what training computed.

    `auto`: the engine that computes most images a second here, of those that agree. What was found
    holds in this process for every version of the same architecture and size. PyTorch on a CPU is
    tried only where nothing else agrees: to measure it as well would bring all of it into a
    server, and it has never been the fastest (docs/benchmarks.md).

    NumPy's algebra keeps to one thread in this process from now on: its threads wait busily, and
    take the engine's cores.

    Args:
        aside: how checks and measurements are run: a server has them stay behind its answers.
        measure: else `auto` is the first engine that agrees: for few images.

    Raises:
        Broken: it does not load, or its answers on the golden images differ from training's.
    """
    threadpool_limits(1, user_api="blas")
    where = _device(device) if engine in ("auto", "torch") else "cpu"
    usual, last_resort = _makers(loaded, engine, where, threads)
    kind = loaded.manifest["architecture"], loaded.preprocessing.size, threads, where
    refused: list[Broken] = []

    def tried(make: Maker) -> Engine | None:
        try:
            made = _made(loaded, make)
            aside(partial(check, made, loaded))
        except Broken as exc:
            refused.append(exc)
            return None
        return made

    best = None
    if (settled := _fastest.get(kind)) in usual:
        best = tried(usual.pop(settled))
    if best is None:
        made = (engine for engine in map(tried, usual.values()) if engine is not None)
        agree = list(made if measure else islice(made, 1))
        if len(agree) > 1:
            best = _fastest_of(agree, loaded, aside)
            if not refused:  # which may have been for lack of memory, and is asked again
                _fastest[kind] = best.told
        elif agree:
            best = agree[0]
    if best is None and last_resort is not None:
        best = tried(last_resort)
    if best is None:
        raise Broken(" Also: ".join(map(str, refused))) from refused[0]
    for reason in refused:
        log.warning("action=choose-engine outcome=refused error=%r; another one serves", reason)
    return best


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


def _fastest_of(
    engines: list[Engine], loaded: Loaded, aside: Callable[[Callable[[], Any]], Any]
) -> Engine:
    """By the best of several turns each: whatever else the machine does, it does not do always."""
    best = [0.0] * len(engines)
    for _ in range(TURNS):
        for place, engine in enumerate(engines):
            rate = aside(partial(images_per_s, engine, loaded, TURN_S))
            best[place] = max(best[place], rate)
    for engine, rate in zip(engines, best, strict=True):
        log.info("action=measure engine=%r images_per_s=%.1f", engine.told, rate)
    return engines[best.index(max(best))]


def images_per_s(engine: Engine, loaded: Loaded, seconds: float = TURN_S) -> float:
    """How many images it computes under load, every lane busy, once it is warm."""
    size = loaded.preprocessing.size
    images = np.zeros((engine.largest, 3, size, size), np.uint8)
    engine.outputs(images, alone=False)

    def lane(_: int) -> float:
        done, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds:
            engine.outputs(images, alone=False)
            done += engine.largest
        return done / spent

    with ThreadPoolExecutor(engine.lanes) as lanes:  # of the caller's priority
        return sum(lanes.map(lane, range(engine.lanes)))


def _makers(
    loaded: Loaded, engine: Choice, where: str, threads: int
) -> tuple[dict[str, Maker], Maker | None]:
    """By what they make is told as; and what to try when none of them will do."""
    makers: dict[str, Maker] = {}
    if where == "cuda":
        from toploss.cuda import HALF, SINGLE, CudaEngine

        makers[HALF] = lambda: CudaEngine(loaded, half=True)
        makers[SINGLE] = lambda: CudaEngine(loaded, half=False)
    has_ncnn = all(name in loaded.manifest["files"] for name in NCNN)  # whose hashes were checked
    if engine == "ncnn" and not has_ncnn:
        raise Broken(
            f"version {loaded.manifest['version']} has no body for ncnn: its architecture does not "
            "convert, or it is older; serve with TOPLOSS_ENGINE=auto"
        )
    if engine in ("auto", "ncnn") and has_ncnn:
        from toploss.ncnn import NcnnEngine

        makers["ncnn"] = lambda: NcnnEngine(loaded, threads=threads)
    if engine in ("auto", "onnx"):
        makers["onnx"] = lambda: OnnxEngine(loaded, threads=threads)
    if engine == "torch" and where == "cpu":
        makers["torch"] = lambda: TorchEngine(loaded, threads=threads)
    last = engine == "auto" and where == "cpu"
    return makers, (lambda: TorchEngine(loaded, threads=threads)) if last else None


def _made(loaded: Loaded, make: Maker) -> Engine:
    try:
        return make()
    except ModuleNotFoundError as exc:  # as in the image that serves on CPUs alone
        raise Broken(
            f"version {loaded.manifest['version']} cannot be computed as wanted: {exc.name} is not "
            "installed here; set TOPLOSS_ENGINE and TOPLOSS_DEVICE to auto"
        ) from exc
    except Exception as exc:  # whatever a runtime says of a model that it cannot load
        raise Broken(
            f"version {loaded.manifest['version']} does not load: {exc}; promote another one"
        ) from exc


def _device(device: Device) -> str:
    if device != "auto":
        return device
    if not any(Path(sign).exists() for sign in ("/dev/nvidiactl", "/dev/dxg")):
        return "cpu"  # and PyTorch need not be imported to find out
    if find_spec("torch") is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
