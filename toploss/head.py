"""A version's head in NumPy: for what needs no runtime, in a process that has no PyTorch."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from toploss.artifact import WEIGHTS, Loaded

Reals = npt.NDArray[np.float32]

EPSILON = 1e-5  # of torch's batch norm


def pool(feature_map: Reals) -> Reals:
    """(n, f, h, w) to (n, 2f): maximum, then mean; `toploss.network.pool` without PyTorch."""
    pooled: Reals = np.concatenate([feature_map.max((2, 3)), feature_map.mean((2, 3))], axis=1)
    return pooled


@dataclass(frozen=True, kw_only=True)
class Head:
    """w2 · (scale2 · relu(w1 · (scale1 · pooled + shift1)) + shift2), as `Network` has it in eval
    mode."""

    scale1: Reals  # (2f,)
    shift1: Reals
    w1: Reals  # (hidden, 2f)
    scale2: Reals  # (hidden,)
    shift2: Reals
    w2: Reals  # (classes, hidden)

    @classmethod
    def of(cls, loaded: Loaded) -> Self:
        """From a version's weights, whose hash was checked."""
        from safetensors import safe_open

        with safe_open(loaded.folder / WEIGHTS, "np") as weights:

            def read(layer: int, name: str) -> Reals:
                array: Reals = weights.get_tensor(f"head.{layer}.{name}")
                return array

            def norm(layer: int) -> tuple[Reals, Reals]:
                scale: Reals = read(layer, "weight") / np.sqrt(read(layer, "running_var") + EPSILON)
                return scale, read(layer, "bias") - read(layer, "running_mean") * scale

            (scale1, shift1), (scale2, shift2) = norm(0), norm(4)
            return cls(
                scale1=scale1,
                shift1=shift1,
                w1=read(2, "weight"),
                scale2=scale2,
                shift2=shift2,
                w2=read(6, "weight"),
            )

    def logits(self, pooled: Reals) -> Reals:
        """(n, 2f) to (n, classes)."""
        hidden = np.maximum((self.scale1 * pooled + self.shift1) @ self.w1.T, 0)
        logits: Reals = np.matmul(self.scale2 * hidden + self.shift2, self.w2.T)
        return logits

    def gradient(self, pooled: Reals, place: int) -> Reals:
        """Of a class's logit by the pooled features, (2f,)."""
        hidden = self.w1 @ (self.scale1 * pooled + self.shift1)
        back = self.scale2 * self.w2[place] * (hidden > 0)
        gradient: Reals = self.scale1 * (back @ self.w1)
        return gradient
