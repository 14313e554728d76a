"""The engine of a GPU: half precision, channels last, and a CUDA graph for each of a few sizes of
batch, so that a batch costs one launch (Nguyen et al., "Accelerating PyTorch with CUDA Graphs",
2021). PyTorch is imported where it is used: a server without a GPU never does."""

import functools
import threading
from typing import Any

import numpy as np

from toploss.artifact import Loaded
from toploss.engine import (
    EngineName,
    Images,
    Outputs,
    Probabilities,
    Reals,
    network_of,
    softmax,
)

HALF, SINGLE = "torch on CUDA in half precision", "torch on CUDA in full precision"
SIZES = (1, 2, 4, 8, 16, 32, 64)  # of batches that have a graph
WARM = 3  # runs before a capture: libraries choose their kernels in them


def graph_size(images: int) -> int:
    """The smallest of `SIZES` that so many images fit into, 1 to the largest of them."""
    return next(size for size in SIZES if size >= images)


class CudaEngine:
    """A network on the GPU. Images go there as bytes, and are normalised there."""

    name: EngineName = "torch"
    lanes = 1
    largest = SIZES[-1]

    def __init__(self, loaded: Loaded, *, half: bool) -> None:
        """
        Args:
            half: float16; else float32 without TF32, which is nearer to what training computed.
        """
        import torch

        self.told = HALF if half else SINGLE
        self._dtype = torch.float16 if half else torch.float32
        self._network = network_of(loaded).to(
            "cuda", dtype=self._dtype, memory_format=torch.channels_last
        )
        how = loaded.preprocessing
        self._mean = torch.tensor(how.mean, device="cuda").view(1, 3, 1, 1)
        self._std = torch.tensor(how.std, device="cuda").view(1, 3, 1, 1)
        self._side = how.size
        self._one_at_a_time = threading.Lock()
        self._stream = _streams()[0]
        pool = torch.cuda.graph_pool_handle()
        # The largest first: the smaller ones find their memory in its.
        self._graphs = {size: self._capture(size, pool) for size in reversed(SIZES)}

    def outputs(self, images: Images, *, alone: bool = True) -> Outputs:
        parts = [
            self._replayed(images[start : start + self.largest])
            for start in range(0, len(images), self.largest)
        ]
        logits, features = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Outputs(logits=logits, features=features)

    def probabilities(self, images: Images) -> Probabilities:
        return softmax(self.outputs(images).logits)

    def seen(self, image: Images) -> tuple[Reals, Reals]:
        import torch

        on_ours = torch.cuda.stream(self._stream)
        with self._one_at_a_time, torch.inference_mode(), _exact(), on_ours:
            _, features, feature_map = self._computed(torch.from_numpy(image).to("cuda"))
            return features[0].cpu().numpy(), feature_map[0].float().cpu().numpy()

    def _replayed(self, images: Images) -> tuple[Reals, Reals]:
        """Of at most `largest` images: logits and features."""
        import torch

        graph, staged, given, logits, features = self._graphs[graph_size(len(images))]
        with self._one_at_a_time, torch.cuda.stream(self._stream):
            # What stands in the rows beyond is computed as well, and read by nobody.
            staged[: len(images)].copy_(torch.from_numpy(images))
            given.copy_(staged, non_blocking=True)
            graph.replay()
            return (
                logits[: len(images)].cpu().numpy(),
                features[: len(images)].cpu().numpy(),
            )

    def _capture(self, size: int, pool: Any) -> tuple[Any, ...]:
        """A graph, and where it reads from and writes to."""
        import torch

        shape = (size, 3, self._side, self._side)
        staged = torch.zeros(shape, dtype=torch.uint8, pin_memory=True)
        given = torch.zeros(shape, dtype=torch.uint8, device="cuda")
        graph = torch.cuda.CUDAGraph()
        aside = _streams()[1]
        with torch.inference_mode(), _exact():
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(WARM):
                    self._computed(given)
            torch.cuda.current_stream().wait_stream(aside)
            # Of this thread alone: the version that still serves goes on beside it.
            with torch.cuda.graph(
                graph, pool=pool, stream=aside, capture_error_mode="thread_local"
            ):
                logits, features, _ = self._computed(given)
        return graph, staged, given, logits, features

    def _computed(self, images: Any) -> tuple[Any, Any, Any]:
        """uint8 on the GPU to float32 logits and features, and the last feature map."""
        import torch

        from toploss.network import pool

        scaled = (images.float() / 255 - self._mean) / self._std
        batch = scaled.to(dtype=self._dtype, memory_format=torch.channels_last)
        feature_map = self._network.body(batch)
        features = pool(feature_map)
        return self._network.head(features).float(), features.float(), feature_map


@functools.cache
def _streams() -> tuple[Any, Any]:
    """For answers, and for captures: two for the process. New ones are handed out in turns from a
    few, so that a capture might come upon the stream that answers."""
    import torch

    return torch.cuda.Stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's


def _exact() -> Any:
    """Kernels chosen by measurement, and no TF32."""
    import torch

    return torch.backends.cudnn.flags(
        enabled=True, benchmark=True, deterministic=False, allow_tf32=False
    )
