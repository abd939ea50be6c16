"""Tells the C library to keep the memory that a worker process gives back, since the next chunk wants as much again.

By default glibc returns each block of several megabytes to the system at once and gets it anew, page by page: a quarter of the time of
planning and scoring. What a process keeps is what its largest chunk needed. Elsewhere than with glibc nothing happens.
"""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's numbers for these two options (malloc.h)."""

LARGEST_BLOCK_BYTES = 32 << 20
"""The most that glibc takes for the second option."""

KEPT_BYTES = 64 << 20


_C = ctypes.CDLL(None)


def keep_freed_memory() -> bool:
    """Set both options for this process and those it forks; True where that was possible."""
    mallopt = getattr(_C, "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, LARGEST_BLOCK_BYTES)) and bool(mallopt(TRIM_THRESHOLD, KEPT_BYTES))


def give_back_freed_memory() -> None:
    """Give the system back what this process keeps: a training needs far more than a chunk, and seldom."""
    trim = getattr(_C, "malloc_trim", None)
    if trim is not None:
        trim(0)
