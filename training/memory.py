"""How a training's process keeps its memory, and goes on when there is too little."""

import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Any

import torch

# As PyTorch, its parallel kernels, oneDNN and the C++ library say that there is no memory left.
EXHAUSTED = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "out of memory",
    "create a primitive",
    "bad_alloc",
)

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of <malloc.h>


def limit(most: int) -> None:
    """Let this process take so many bytes at most, from now on; 0: any number.

    What it may write counts (RLIMIT_DATA), not its whole address space: CUDA reserves far more of
    that than it ever uses. macOS takes the limit and does not keep to it.
    """
    if most:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def keep_freed() -> None:
    """Let freed memory stay with the process instead of going back to the system.

    A network's activations are tens of megabytes each, and by default glibc maps and unmaps every
    one: the system then clears the same pages again in every step. On two cores that took up to
    45 % of the CPU's time (docs/benchmarks.md). Elsewhere than on glibc this does nothing, nor
    where the address space is limited: there, what one part of the program keeps others lack.
    """
    libc = _glibc()
    if libc is not None and not _limited():
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def exhausted(exc: BaseException) -> bool:
    """Whether the error says that memory ran out, on a GPU or, in PyTorch's words, on the CPU."""
    words = str(exc).lower()
    known = isinstance(exc, torch.OutOfMemoryError | MemoryError)
    return known or any(hint in words for hint in EXHAUSTED)


def release() -> None:
    """Give back what an attempt that failed has held, to the system: others need it, such as the
    code that oneDNN makes."""
    gc.collect()
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_portions(items: int, most: int, work: Callable[[int, int], object]) -> None:
    """Do some work on so many items, `most` at a time, and fewer once memory has run out.

    Args:
        work: gets the first item and the one after the last; is called again for what failed.

    Raises:
        What `work` raises, memory errors only if a single item is too much.
    """
    start, size = 0, most
    while start < items:
        stop = min(start + size, items)
        try:
            work(start, stop)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as exc:
            if not exhausted(exc) or size == 1:
                raise
            size //= 2
        else:
            start = stop
            continue
        release()  # outside the handler: its traceback would hold what has to be freed


def _limited() -> bool:
    import resource

    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return any(limit != resource.RLIM_INFINITY for limit in limits)


def _glibc() -> Any:
    """The C library; None where it is another one."""
    if sys.platform != "linux":
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
    except OSError:
        return None
