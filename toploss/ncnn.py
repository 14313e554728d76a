"""The body of a version by ncnn, on the CPU: its 3 × 3 convolutions take Winograd's way (Lavin and
Gray, "Fast Algorithms for Convolutional Neural Networks", 2016), with under half of the
multiplications, in full precision. The head is NumPy's."""

import ctypes
import json
import sys
import time
from functools import cache, cached_property
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from toploss.artifact import NCNN, Loaded
from toploss.engine import (
    EngineName,
    Images,
    Outputs,
    Probabilities,
    Reals,
    golden_difference,
    softmax,
)
from toploss.errors import Broken
from toploss.head import Head, pool
from toploss.preprocess import normalise
from toploss.settings import environment

# Of GNU's OpenMP: 100,000 spins are a millisecond, and a hundredth of one where it counts more
# threads than cores (without `ACTIVE` a thousandth, and every layer waits for a sleeper).
WAITING = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "30000"}
IS_GNUS = sys.platform == "linux"  # LLVM's, which has no such count, would spin for ever
HALVES = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage")


class NcnnEngine:
    """One image has every core; under load each core computes one of its own. It keeps its weights
    as it multiplies them, which for ResNets is four times what they are in a file."""

    name: EngineName = "ncnn"
    told = "ncnn"
    largest = 2  # computed one after the other: a lane is handed images half as often

    def __init__(self, loaded: Loaded, *, threads: int) -> None:
        """Raises Broken: ncnn does not read the files."""
        self.lanes = threads
        self._files = tuple(str(loaded.folder / name) for name in NCNN)
        self._preprocessing = loaded.preprocessing
        self._head = Head.of(loaded)
        self._library = _ncnn()
        self._wide = self._net(threads)

    @cached_property
    def _narrow(self) -> Any:
        """Of one thread, the caller's; made when it is first asked for."""
        return self._wide if self.lanes == 1 else self._net(1)

    def _net(self, threads: int) -> Any:
        net = self._library.Net()
        net.opt.num_threads = threads
        for half in HALVES:
            setattr(net.opt, half, False)
        structure, weights = self._files
        # What it cannot read it says by a number; to compute with it nevertheless ends the process.
        failed = net.load_param(structure)
        if not failed:
            with open(weights, "rb", buffering=0) as file:
                failed = net.load_model(_reader(self._library, file))
        if failed:
            raise Broken(f"ncnn does not read {structure}; serve with TOPLOSS_ENGINE=onnx")
        return net

    def outputs(self, images: Images, *, alone: bool = True) -> Outputs:
        net = self._wide if alone else self._narrow
        batch = normalise(images, self._preprocessing)
        features = pool(np.stack([self._body(net, image) for image in batch]))
        return Outputs(logits=self._head.logits(features), features=features)

    def probabilities(self, images: Images) -> Probabilities:
        return softmax(self.outputs(images).logits)

    def seen(self, image: Images) -> tuple[Reals, Reals]:
        feature_map = self._body(self._narrow, normalise(image, self._preprocessing)[0])
        return pool(feature_map[None])[0], feature_map

    def _body(self, net: Any, image: Reals) -> Reals:
        """(3, s, s) to (f, h, w)."""
        extractor = net.create_extractor()
        extractor.input("in0", self._library.Mat(image))
        failed, found = extractor.extract("out0")
        feature_map: Reals = np.array(found)
        if failed or feature_map.ndim != 3:
            raise Broken(f"ncnn gives no feature map ({failed}); serve with TOPLOSS_ENGINE=onnx")
        return feature_map


def _reader(library: Any, file: FileIO) -> Any:
    """A file of weights, read piece by piece. ncnn prepares each layer when it has read it, and
    nobody else in this process can run meanwhile: with a name in place of this, for half a second
    on end (measured: docs/benchmarks.md)."""

    class Reader(library.DataReader):  # type: ignore[misc]  # untyped there
        def read(self, place: object, size: int) -> int:
            time.sleep(0)  # let the others run
            return file.readinto(_memory(place, size)) or 0

    return Reader()


def _memory(place: object, size: int) -> Any:
    """What C++ hands over as a capsule, as memory to write to."""
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return (ctypes.c_char * size).from_address(pointer(place, name(place)))


@cache
def _ncnn() -> Any:
    """The library. Its threads wait for the next layer awake, and after a third of a millisecond
    asleep: OpenMP reads this when it is loaded."""
    with environment(WAITING if IS_GNUS else {}):
        import ncnn
    return ncnn


def main() -> None:
    """How far a version's answers are from training's, on its golden images: the largest difference
    of a probability. In a process of its own, for whoever has just converted it; the manifest, as
    far as it is written, comes on standard input."""
    loaded = Loaded(folder=Path(sys.argv[1]), manifest=json.load(sys.stdin))
    print(golden_difference(NcnnEngine(loaded, threads=1), loaded))


if __name__ == "__main__":
    main()
