"""How unlike its training images a picture is, and which of them are nearest.

Distances to the nearest features of training samples. (Sun, Ming, Zhu and Li, "Out-of-Distribution
Detection with Deep Nearest Neighbors", 2022.) What was chosen here, and by which figures, stands in
docs/calibration.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

NEAREST = 2  # whose distances make the score: one alone may be a stray
QUANTILE = 0.98  # of valid's scores, above which a picture is novel
MOST_SAMPLES = 4000
MOST_BYTES = 4 * 2**20  # of the features in the file
AT_ONCE = 512  # pictures that are compared at a time: some 25 MB

Reals = npt.NDArray[np.float32]
Places = npt.NDArray[np.integer]


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Training samples that pictures are compared with."""

    features: Reals  # (m, d), rows of length 1
    places: npt.NDArray[np.int32]  # (m,), the class of each, as a place in the model's output
    ids: tuple[str, ...]  # of the samples

    def as_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """As the artifact keeps it: features as float16."""
        features = self.features.astype(np.float16)
        return {"features": features, "places": self.places, "ids": packed(self.ids)}


def packed(ids: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Samples as the artifact names them: (n, 32), their hashes' bytes."""
    return np.frombuffer(bytes.fromhex("".join(ids)), np.uint8).reshape(-1, 32)


def bank(features: Reals, places: Places, ids: Sequence[str], groups: Sequence[str]) -> Bank:
    """A bank of at most `MOST_SAMPLES` and `MOST_BYTES`.

    Of more samples it takes every class's in turn, and of a class first one of each group:
    near-duplicates tell least. The same samples give the same bank, in whatever order they come.

    Args:
        features: (n, 2f), pooled, as the network gives them.
        ids: 64 hexadecimal digits each.
    """
    pointing = directions(features)
    most = min(MOST_SAMPLES, MOST_BYTES // (2 * pointing.shape[1]))
    kept = _chosen(places, ids, groups, most)
    return Bank(
        features=pointing[kept],
        places=np.asarray(places, np.int32)[kept],
        ids=tuple(ids[row] for row in kept),
    )


def read(path: Path) -> Bank:
    """A bank from a version's file, whose hash was checked."""
    from safetensors.numpy import load_file

    arrays = load_file(path)
    return Bank(
        features=arrays["features"].astype(np.float32),
        places=arrays["places"],
        ids=tuple(row.tobytes().hex() for row in arrays["ids"]),
    )


def nearest(
    features: Reals, bank: Bank, number: int = NEAREST
) -> tuple[npt.NDArray[np.intp], Reals]:
    """The bank's nearest to each picture: their rows in the bank, and their distances.

    Args:
        features: (n, 2f), pooled, as the network gives them.

    Returns:
        Two arrays (n, number), nearest first; fewer columns when the bank is smaller. A distance
        is 1 − cosine, 0 to 2.
    """
    orders, kept = [], []
    for start in range(0, max(len(features), 1), AT_ONCE):
        distances = 1 - directions(features[start : start + AT_ONCE]) @ bank.features.T
        # To sort a few of thousands costs a tenth of sorting all.
        most = min(number, distances.shape[1])
        near = np.argpartition(distances, most - 1, axis=1)[:, :most]
        near.sort(axis=1)
        rank = np.argsort(np.take_along_axis(distances, near, axis=1), axis=1, kind="stable")
        order = np.take_along_axis(near, rank, axis=1)
        orders.append(order)
        kept.append(np.take_along_axis(distances, order, axis=1))
    return np.concatenate(orders), np.concatenate(kept)


def score(features: Reals, bank: Bank) -> Reals:
    """How novel each picture is: the mean distance to its `NEAREST` of the bank, (n,), 0 to 2."""
    _, distances = nearest(features, bank)
    means: Reals = distances.mean(axis=1)
    return means


def threshold(scores: Reals, quantile: float = QUANTILE) -> float:
    """The score that few of these exceed: what is above it is novel.

    Args:
        scores: of samples that are neither in the bank nor learned from.
    """
    return float(np.quantile(scores, quantile, method="higher"))


def directions(features: Reals) -> Reals:
    """The means of the pooled features (their second half), at length 1: the maxima tell new
    classes apart less well, and double the file."""
    means = np.asarray(features, np.float32)[:, features.shape[1] // 2 :]
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    pointing: Reals = means / np.maximum(lengths, np.finfo(np.float32).tiny)
    return pointing


def _chosen(
    places: Places, ids: Sequence[str], groups: Sequence[str], most: int
) -> npt.NDArray[np.intp]:
    """Rows: the classes in turn, each class's groups in turn, by id, which is as good as chance."""
    in_group: dict[tuple[int, str], int] = {}
    turns = []  # how many of its class and group come before it, class, id, row
    for row in sorted(range(len(ids)), key=ids.__getitem__):
        key = (int(places[row]), groups[row])
        in_group[key] = in_group.get(key, -1) + 1
        turns.append((in_group[key], key[0], ids[row], row))
    in_class: dict[int, int] = {}
    order = []  # how many of its class come before it, class, row
    for _, place, _, row in sorted(turns):
        in_class[place] = in_class.get(place, -1) + 1
        order.append((in_class[place], place, row))
    return np.array([row for *_, row in sorted(order)[:most]], np.intp)
