"""What a body makes of pictures, kept: a head then learns in seconds."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from toploss.network import Network, pool
from toploss.plan import Plan
from toploss.preprocess import normalise
from toploss.snapshots import Row
from training.data import Material, Pictures, loader_type
from training.memory import in_portions
from training.precision import exact

BATCH = 32  # larger ones are no faster on a CPU, and touch more memory
CACHE_BYTES = 2**30  # what a training may keep of features; more is not cached

Features = npt.NDArray[np.float32]


def width(network: Network) -> int:
    """Numbers that the pooled features of a picture have."""
    first: Any = network.head[0]
    return int(first.num_features)


def fit_in_memory(network: Network, images: int) -> bool:
    """Whether the features of so many images stay below the bound."""
    return images * width(network) * 4 <= CACHE_BYTES


def pooled(
    network: Network,
    pictures: Pictures,
    rows: Sequence[Row],
    device: str,
    done: Callable[[float], None] = lambda _: None,
) -> Features:
    """The pooled features of rows: float32, (n, width); eval mode, unaugmented.

    The network is left in eval mode.

    Args:
        done: hears the share that is done, 0 to 1; may end it by raising.
    """
    network.to(device).eval()
    found = np.empty((len(rows), width(network)), np.float32)

    def fill(start: int, stop: int) -> None:
        images = normalise(pictures.stack(rows[start:stop]), pictures.how)
        with torch.inference_mode(), exact():
            made = pool(network.body(torch.from_numpy(images).to(device)))
        found[start:stop] = made.float().cpu().numpy()
        done(stop / len(rows))

    in_portions(len(rows), BATCH, fill)
    return found


class _Split(torch.utils.data.Dataset[Any]):
    """Features as fastai takes them: (Tensor, TensorCategory)."""

    def __init__(self, features: Features, places: npt.NDArray[np.intp]) -> None:
        self._features = torch.from_numpy(features)
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        from fastai.vision.all import TensorCategory

        return self._features[index], TensorCategory(int(self._places[index]))


def loaders(train: Features, valid: Features, material: Material, plan: Plan, device: str) -> Any:
    """fastai's DataLoaders over features of the material's rows: train shuffled."""
    from fastai.vision.all import DataLoaders

    made: Any = DataLoaders.from_dsets(
        _Split(train, material.places(material.train)),
        _Split(valid, material.places(material.valid)),
        dl_type=loader_type(material, plan),
        bs=min(plan.batch_size, len(train)),
        val_bs=plan.batch_size,
        num_workers=0,
        device=torch.device(device),
    )
    return made
