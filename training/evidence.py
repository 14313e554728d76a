"""What a diagnosis rests on: the numbers that a training left, and how some of them are taken."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from toploss.engine import Probabilities
from toploss.network import Network
from toploss.preprocess import Preprocessing, normalise
from training.curve import Curve
from training.trained import Trained

BATCH = 64
# What lets nothing through, or next to nothing, below zero. A GELU or a tanh has no such side.
SWITCHES = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Predictions on samples that were not learned from, with the labels that they carry."""

    probabilities: Probabilities  # float32, (n, classes), rows sum to 1
    truth: npt.NDArray[np.intp]  # (n,), places among the classes

    @property
    def hits(self) -> npt.NDArray[np.bool_]:
        right: npt.NDArray[np.bool_] = self.probabilities.argmax(axis=1) == self.truth
        return right


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that the rules look at. What is None was not measured; a rule then cannot tell."""

    labels: tuple[str, ...]  # of the classes, in the order of the network's outputs
    counts: tuple[int, ...]  # training images of each class
    trained: Trained  # the course of the training; of a failed one, up to where it broke
    from_scratch: bool  # all layers learned from random weights
    non_finite: bool = False  # a loss was no number, and the training ended there
    valid: Scored | None = None  # by the trained network
    test: Scored | None = None  # by the trained network
    held_out: Scored | None = None  # of the whole pool, by models that did not see the sample
    dead: float | None = None  # share of the body's channels never above zero, after the training
    dead_before: float | None = None  # the same before it
    curve: Curve | None = None  # errors of quick heads on nested parts of the training set


def dead_share(
    network: Network, images: npt.NDArray[np.uint8], how: Preprocessing, device: str = "cpu"
) -> float | None:
    """Share of the channels behind the body's activations that are above zero nowhere on any of
    the images, 0 to 1; None where the body has no activation with such a side.

    The network is left in eval mode.

    Args:
        images: uint8, (n, 3, s, s), some hundred.
        how: the scaling that the network is used to.
    """
    alive: list[Tensor] = []  # per call of an activation, in order: whether each channel ever was
    call = 0

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal call
        if output.ndim != 4:
            return  # tokens or vectors: what is dead there is no channel of a map
        above = (output > 0).flatten(2).any(dim=2).any(dim=0)
        if call < len(alive):
            alive[call] |= above
        else:
            alive.append(above)
        call += 1  # a ResNet's block calls one activation twice, so the module is no key

    network.to(device).eval()
    hooks = [
        module.register_forward_hook(look)
        for module in network.body.modules()
        if isinstance(module, SWITCHES)
    ]
    try:
        for start in range(0, len(images), BATCH):
            call = 0
            batch = normalise(images[start : start + BATCH], how)
            with torch.inference_mode():
                network.body(torch.from_numpy(batch).to(device))
    finally:
        for hook in hooks:
            hook.remove()
    if not alive:
        return None
    return float((~torch.cat(alive)).float().mean())
