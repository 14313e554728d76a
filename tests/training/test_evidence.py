"""Dead channels are counted as they are."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from toploss.network import Network
from toploss.preprocess import Preprocessing
from training.evidence import dead_share

HOW = Preprocessing(size=8)


def pictures(number: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (number, 3, 8, 8), dtype=np.uint8)


def constant(*values: float) -> nn.Conv2d:
    """A layer whose channels have these values whatever comes in."""
    layer = nn.Conv2d(3, len(values), 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias[:] = torch.tensor(values)  # type: ignore[index]  # there is one
    return layer


@pytest.mark.parametrize(
    "activation", [nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardswish(), nn.SiLU()]
)
def test_channels_that_are_never_above_zero_are_dead(activation: nn.Module) -> None:
    body = nn.Sequential(constant(1, -1, 2, 3), activation)

    assert dead_share(Network(body, 4, 2), pictures(5), HOW) == 0.25


def test_an_activation_that_is_called_twice_counts_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.relu(self.relu(x) - 1.5)
            return y

    body = nn.Sequential(constant(1, -1, 2, 3), Twice())

    # Of the first call's four channels one is dead, of the second's two.
    assert dead_share(Network(body, 4, 2), pictures(5), HOW) == pytest.approx(3 / 8)


def test_one_image_in_any_batch_keeps_a_channel_alive() -> None:
    """One dark picture among bright ones, in a later batch than the first."""
    images = np.full((70, 3, 8, 8), 255, np.uint8)
    layer = nn.Conv2d(3, 1, 1)
    with torch.no_grad():
        layer.weight.fill_(-1)
        layer.bias.zero_()  # type: ignore[union-attr]  # there is one
    net = Network(nn.Sequential(layer, nn.ReLU()), 1, 2)

    assert dead_share(net, images, HOW) == 1
    images[69] = 0
    assert dead_share(net, images, HOW) == 0


def test_an_activation_without_a_dead_side_has_no_share() -> None:
    assert (
        dead_share(Network(nn.Sequential(constant(-1, 1), nn.GELU()), 2, 2), pictures(2), HOW)
        is None
    )


def test_nothing_stays_on_the_network() -> None:
    net = Network(nn.Sequential(constant(1), nn.ReLU()), 1, 2)

    dead_share(net, pictures(2), HOW)

    assert not any(module._forward_hooks for module in net.modules())
