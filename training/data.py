"""A training's pictures, and fastai's loaders over them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from toploss import architectures, erasure, snapshots
from toploss.errors import Broken
from toploss.home import Home
from toploss.plan import Plan
from toploss.preprocess import Preprocessing, decode
from toploss.snapshots import Row
from training.ranks import ALONE, Ranks

CACHE_BYTES = 2**30  # decoded pictures kept in memory; what does not fit is decoded every time


def preprocessing(plan: Plan) -> Preprocessing:
    """What the planned network is shown: channels scaled as its library's weights want them.

    Raises:
        BadInput: no such architecture.
    """
    mean, std = architectures.statistics(plan.arch)
    return Preprocessing(size=plan.size, mean=mean, std=std)


class Pictures:
    """Decoded pictures by sample id: uint8, (3, size, size), exactly what serving decodes.

    Args:
        how: what is made of them; the scaling is left to who shows them to a network.
    """

    def __init__(self, home: Home, how: Preprocessing, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._home = home
        self.how = how
        self._room = cache_bytes // (3 * how.size * how.size)
        self._kept: dict[str, npt.NDArray[np.uint8]] = {}

    def __getitem__(self, sample_id: str) -> npt.NDArray[np.uint8]:
        """Raises Broken: the stored bytes are gone or damaged; BadData: they were erased."""
        if sample_id in self._kept:
            return self._kept[sample_id]
        try:
            data = self._home.blobs.get_image(sample_id)
        except Broken:
            erasure.explain(self._home, sample_id)
            raise
        picture = decode(data, self.how.size, self._home.limits)
        if len(self._kept) < self._room:
            self._kept[sample_id] = picture
        return picture

    def stack(self, rows: Sequence[Row]) -> npt.NDArray[np.uint8]:
        """(n, 3, size, size), in the rows' order."""
        return np.stack([self[row.id] for row in rows])

    def warm(self, rows: Sequence[Row], threads: int, done: Callable[[int], None]) -> None:
        """Decode as many as there is room for, side by side; `done` hears how many so far."""
        with ThreadPoolExecutor(threads) as pool:
            each = pool.map(self.__getitem__, [row.id for row in rows[: self._room]])
            for number, _ in enumerate(each, start=1):
                done(number)


@dataclass(frozen=True, kw_only=True)
class Material:
    """What one training learns from and is watched on."""

    pictures: Pictures
    labels: tuple[str, ...]  # in the order of the network's outputs
    train: Sequence[Row]
    valid: Sequence[Row]

    def places(self, rows: Sequence[Row]) -> npt.NDArray[np.intp]:
        """The rows' labels as places in the network's output."""
        return snapshots.places(rows, self.labels)


class _Split(torch.utils.data.Dataset[Any]):
    """Rows as fastai takes them: (TensorImage uint8, TensorCategory)."""

    def __init__(self, material: Material, rows: Sequence[Row], *, augment: bool) -> None:
        self._pictures = material.pictures
        self._ids = [row.id for row in rows]
        self._places = material.places(rows)
        self.split_idx = 0 if augment else 1  # 0: fastai's transforms augment

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        from fastai.vision.all import TensorCategory, TensorImage

        picture = torch.from_numpy(self._pictures[self._ids[index]])
        return TensorImage(picture), TensorCategory(int(self._places[index]))


def loader_type(material: Material, plan: Plan, ranks: Ranks = ALONE) -> Any:
    """fastai's TfmdDL, in the order that the plan asks for: training images as they are shuffled,
    or drawn so that every class comes as often; of each batch, the share of this process."""
    from fastai.vision.all import TfmdDL

    places = material.places(material.train)
    weights = 1 / np.bincount(places)[places]

    class Shuffled(TfmdDL):  # type: ignore[misc]  # fastai is untyped
        def get_idxs(self) -> Any:
            order = super().get_idxs()
            if not self.shuffle:
                return order
            if plan.balance:
                order = self.rng.choices(range(self.n), weights, k=self.n)
            if ranks.alone:
                return order
            whole = np.array(order[: len(self) * self.bs * ranks.world])
            return whole.reshape(-1, ranks.world, self.bs)[:, ranks.rank].ravel().tolist()

        def __len__(self) -> int:
            if not self.shuffle or ranks.alone:
                return int(super().__len__())
            return int(self.n // (self.bs * ranks.world))

    return Shuffled


def loaders(
    material: Material, plan: Plan, device: str, *, workers: int = 0, ranks: Ranks = ALONE
) -> Any:
    """fastai's DataLoaders: train shuffled and augmented, valid as it is.

    Args:
        workers: processes that decode; any number gives the same batches, for what is random
            happens to whole batches, here.
        ranks: processes that train together: each gets its share of every training batch, and
            the whole of valid.
    """
    from fastai.vision.all import DataLoaders, IntToFloatTensor, Normalize, aug_transforms

    how = material.pictures.how
    made: Any = DataLoaders.from_dsets(
        _Split(material, material.train, augment=True),
        _Split(material, material.valid, augment=False),
        dl_type=loader_type(material, plan, ranks),
        # A batch larger than the training set gives fastai no batch at all, and a silent nan.
        bs=ranks.share(min(plan.batch_size, len(material.train))),
        val_bs=plan.batch_size,
        after_batch=[
            IntToFloatTensor(),
            *aug_transforms(do_flip=plan.flip, size=how.size),
            Normalize.from_stats(how.mean, how.std, cuda=device == "cuda"),
        ],
        num_workers=workers,
        device=torch.device(device),
    )
    return made
