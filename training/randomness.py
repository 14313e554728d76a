"""The one place that owns everything random in a training."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


def seed(number: int, threads: int) -> None:
    """Seed Python, NumPy and torch, and fix the threads: one thread and two are not bit-equal."""
    from fastai.torch_core import set_seed

    torch.set_num_threads(threads)
    set_seed(number, reproducible=True)


@contextlib.contextmanager
def untouched(loaders: Any) -> Iterator[None]:
    """What runs inside leaves the random state, the loaders' included, as if it had not run."""
    from fastai.torch_core import get_random_states, set_random_states

    states = get_random_states()
    own = [loader.rng.getstate() for loader in loaders]
    try:
        yield
    finally:
        set_random_states(**states)
        for loader, state in zip(loaders, own, strict=True):
            loader.rng.setstate(state)
