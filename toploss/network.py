"""A network by architecture name: body and head in plain PyTorch, for training and for serving."""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from toploss import architectures
from toploss.architectures import SIZE, downloaded_weights
from toploss.weights import State, is_ours, read_weights

__all__ = [
    "Exported",
    "Network",
    "build",
    "downloaded_weights",
    "is_ours",
    "pool",
    "read_weights",
]

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)  # timm's own are of these
HIDDEN = 512  # width of the head's layer; fastai's


class Network(nn.Module):
    """Body, concatenated pooling, and fastai's head.

    The head is that of `fastai.vision.learner.create_head`: batch norm, dropout, linear, ReLU,
    batch norm, dropout, linear, on maximum and mean of the last feature map.
    """

    def __init__(self, body: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Sequential(
            nn.BatchNorm1d(2 * features),
            nn.Dropout(0.25),
            nn.Linear(2 * features, HIDDEN, bias=False),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(HIDDEN),
            nn.Dropout(0.5),
            nn.Linear(HIDDEN, classes, bias=False),
        )
        for layer in self.head:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
        self._fixed = False

    def forward(self, images: Tensor) -> Tensor:
        """float32 (n, 3, s, s), normalised, to logits (n, classes)."""
        logits: Tensor = self.head(pool(self.body(images)))
        return logits

    def fix_statistics(self, fixed: bool) -> None:
        """Whether the body's batch norm keeps its running mean and variance while the rest
        learns; the head's always learns its own. It holds until it is said otherwise: every later
        `train()` abides by it."""
        self._fixed = fixed
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self._fixed:
            for layer in self.body.modules():
                if isinstance(layer, BATCH_NORMS):
                    layer.eval()
        return self

    def groups(self) -> list[list[nn.Parameter]]:
        """Parameters of the early body, the late body, and the head: what `slice(…)` of the
        second stage spreads its rates over, for every architecture alike."""
        # Half of the tensors in order of depth, not of the weights: those crowd into the end.
        body = list(self.body.parameters())
        half = len(body) // 2
        return [body[:half], body[half:], list(self.head.parameters())]


class Exported(nn.Module):
    """The network as the artifact carries it: logits, pooled features, last feature map."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        feature_map = self.network.body(images)
        features = pool(feature_map)
        return self.network.head(features), features, feature_map


def pool(feature_map: Tensor) -> Tensor:
    """(n, f, h, w) to (n, 2f): maximum, then mean. Not `AdaptiveConcatPool2d`: that has no ONNX."""
    return torch.cat([feature_map.amax((2, 3)), feature_map.mean((2, 3))], dim=1)


def build(arch: str, classes: int, *, size: int = SIZE, weights: State | None = None) -> Network:
    """A network with a fresh head, from torch's random state; its weights are laid out channels
    last, which convolutions read fastest, on GPUs and on CPUs (measured: docs/benchmarks.md).

    Args:
        arch: torchvision's name or timm's; `architectures.check`.
        size: side of the pictures in pixels, which some transformers must know.
        weights: for the body, by the library's names or those of a network of ours; classifier
            or head are not used.

    Raises:
        BadInput: no such architecture, none for pictures of this size, or weights of another one.
    """
    body = architectures.body(arch, size=size, state=weights)
    made = Network(body, architectures.width(body, arch, size), classes)
    convert_conv2d_weight_memory_format(made, torch.channels_last)
    return made
