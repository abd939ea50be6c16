"""Tells whether a file is still the one that was found."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from shared.bucket.interface import Bucket, FileInfo
from shared.errors import TableError


class Found(Protocol):
    """What was known of a file when it was found."""

    @property
    def path(self) -> str: ...
    @property
    def stamp(self) -> str: ...
    @property
    def version(self) -> str: ...


def as_it_is(bucket: Bucket, file: Found) -> FileInfo | None:
    """What the bucket says of a file; None when it is not the one that was found."""
    info = bucket.stat(file.path)
    is_same = info is not None and info.stamp == file.stamp and (not file.version or info.version == file.version)
    return info if is_same else None


def check_still(bucket: Bucket, file: Found, next_step: str) -> None:
    """Raises TableError when a file that is read outside of a plan is no longer the one that was found."""
    if as_it_is(bucket, file) is None:
        raise TableError(f"{file.path} was changed or removed while it was read", next_step=next_step)


@contextlib.contextmanager
def unchanged_while_read(bucket: Bucket, file: Found, next_step: str) -> Iterator[None]:
    """Raises TableError when a file is changed while this block reads it: then it may look damaged, being half of each."""
    try:
        yield
    except TableError:
        check_still(bucket, file, next_step)
        raise
    check_still(bucket, file, next_step)
