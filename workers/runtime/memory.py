"""Tunes glibc's malloc so that freed blocks are reused by the next chunk instead of being returned to the kernel.

By default glibc returns each block of several megabytes to the kernel at once, and gets it back page by page: a quarter of the time of
planning and scoring. A process keeps as much memory as its largest chunk needed. Without glibc nothing happens.
"""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's numbers of these two options (malloc.h)."""

LARGEST_BLOCK_BYTES = 32 << 20
"""The maximum that glibc accepts for the second option."""

KEPT_BYTES = 64 << 20


_C = ctypes.CDLL(None)


def keep_freed_memory() -> bool:
    """Sets both options for this process and those that it forks; returns True if that was possible."""
    mallopt = getattr(_C, "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, LARGEST_BLOCK_BYTES)) and bool(mallopt(TRIM_THRESHOLD, KEPT_BYTES))


def give_back_freed_memory() -> None:
    """Returns freed memory to the kernel: a training needs far more than a chunk, and is rare."""
    trim = getattr(_C, "malloc_trim", None)
    if trim is not None:
        trim(0)
