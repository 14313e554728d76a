"""Memory of a process that loads one version after the other, as glibc keeps it."""

import contextlib
import ctypes
import sys

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # of malloc.h
LARGE = 4 * 2**20  # bytes: weights, and not the batches of every day
HEAPS = 4


def give_memory_back() -> None:
    """What was freed goes back to the system."""
    _of_glibc("malloc_trim", 0)


def allocate_to_give_back() -> None:
    """Large pieces come from the system one by one, and go back when they are freed; many threads
    share few heaps."""
    _of_glibc("mallopt", M_MMAP_THRESHOLD, LARGE)
    _of_glibc("mallopt", M_ARENA_MAX, HEAPS)


def _of_glibc(name: str, *args: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), name)(*args)
