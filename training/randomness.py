"""The one place that owns everything random in a training.

Every epoch draws from a seed of its own, made of the plan's seed, the stage and the epoch. So
nothing that comes before it, be it a rate finder, an interruption or another stage, changes what
an epoch draws; and a training taken up again needs no random state from the one that ended.
"""

import contextlib
import hashlib
import random
from collections.abc import Iterable, Iterator
from typing import Any

import torch


def seed(number: int, threads: int) -> None:
    """Seed Python, NumPy and torch, and fix the threads: one thread and two are not bit-equal."""
    torch.set_num_threads(threads)
    _seed(number)


def seed_epoch(number: int, stage: str, epoch: int, loaders: Iterable[Any], rank: int = 0) -> None:
    """Make all that an epoch draws follow from the plan's seed, the stage and the epoch.

    Args:
        loaders: fastai's; each shuffles by a generator of its own, the same for every rank.
        rank: of this process among those that train together: each drops out and augments by
            draws of its own.
    """
    for place, loader in enumerate(loaders):
        derived = _derived(number, stage, epoch, f"loader {place}")
        loader.rng = random.Random(derived)  # noqa: S311  # fastai's kind, and no secret
    _seed(_derived(number, stage, epoch, f"rank {rank}"))


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """What runs inside leaves the random state as if it had not run."""
    from fastai.torch_core import get_random_states, set_random_states

    states = get_random_states()
    try:
        yield
    finally:
        set_random_states(**states)


def _seed(number: int) -> None:
    from fastai.torch_core import set_seed

    set_seed(number, reproducible=True)


def _derived(*parts: object) -> int:
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")  # NumPy takes 32 bits
