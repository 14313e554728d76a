"""A snapshot's pictures, and fastai's loaders over them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from toploss.home import Home
from toploss.plan import Plan
from toploss.preprocess import IMAGENET_MEAN, IMAGENET_STD, decode
from toploss.snapshots import Row, Snapshot

CACHE_BYTES = 2**30  # decoded pictures kept in memory; what does not fit is decoded every time


class Pictures:
    """Decoded pictures by sample id: uint8, (3, size, size), exactly what serving decodes."""

    def __init__(self, home: Home, size: int, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._home = home
        self.size = size
        self._room = cache_bytes // (3 * size * size)
        self._kept: dict[str, npt.NDArray[np.uint8]] = {}

    def __getitem__(self, sample_id: str) -> npt.NDArray[np.uint8]:
        """Raises Broken when the stored bytes are gone or damaged."""
        if sample_id in self._kept:
            return self._kept[sample_id]
        picture = decode(self._home.blobs.get_image(sample_id), self.size, self._home.limits)
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


class Split(torch.utils.data.Dataset[Any]):
    """One split as fastai takes it: (TensorImage uint8, TensorCategory)."""

    def __init__(self, pictures: Pictures, snapshot: Snapshot, split: str) -> None:
        self._pictures = pictures
        self._rows = snapshot.of_split(split)
        self._places = {label: place for place, label in enumerate(snapshot.labels)}
        self.split_idx = 0 if split == "train" else 1  # 0: fastai's transforms augment

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        from fastai.vision.all import TensorCategory, TensorImage

        row = self._rows[index]
        picture = torch.from_numpy(self._pictures[row.id])
        return TensorImage(picture), TensorCategory(self._places[row.label])


def loaders(pictures: Pictures, snapshot: Snapshot, plan: Plan, device: str) -> Any:
    """fastai's DataLoaders: train shuffled and augmented, valid as it is.

    The random state must be seeded before: the loaders draw their own seeds from it.
    """
    from fastai.vision.all import DataLoaders, IntToFloatTensor, Normalize, aug_transforms

    train, valid = (Split(pictures, snapshot, split) for split in ("train", "valid"))
    made = DataLoaders.from_dsets(
        train,
        valid,
        # A batch larger than the training set gives fastai no batch at all, and a silent nan.
        bs=min(plan.batch_size, len(train)),
        val_bs=plan.batch_size,
        after_batch=[
            IntToFloatTensor(),
            *aug_transforms(do_flip=plan.flip, size=plan.size),
            Normalize.from_stats(IMAGENET_MEAN, IMAGENET_STD, cuda=device == "cuda"),
        ],
        num_workers=0,  # the pictures are decoded already
        device=torch.device(device),
    )
    # fastai draws random numbers when it first asks how many inputs a batch has: now, and not in a
    # training that a rate finder may or may not have come before.
    assert all(loader.n_inp == 1 for loader in made)
    return made
