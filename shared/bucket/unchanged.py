"""Tells whether a file is still the one that was found, by its stamps or by its content."""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Protocol

from shared.bucket.interface import Bucket, FileInfo
from shared.errors import TableError
from shared.records import FileDigest

READ_BYTES = 1 << 20


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
def unchanged_while_read(bucket: Bucket, file: Found, next_step: str, damage: type[Exception] = TableError) -> Iterator[None]:
    """Raises TableError when a file is changed while this block reads it: then it may look damaged, being half of each.

    ``damage`` is what the block raises for a file that looks so.
    """
    try:
        yield
    except damage:
        check_still(bucket, file, next_step)
        raise
    check_still(bucket, file, next_step)


def has_content(bucket: Bucket, path: str, digest: FileDigest) -> bool:
    """Read a file, and tell whether it has this content; a file of another size is not read."""
    info = bucket.stat(path)
    if info is None or info.size != digest.size:
        return False
    whole = hashlib.sha256()
    with bucket.open(path) as content:
        while block := content.read(READ_BYTES):
            whole.update(block)
    return whole.hexdigest() == digest.sha256
