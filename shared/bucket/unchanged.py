"""Checks that a file has not changed since it was found, by its stamp and version or by its content."""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Protocol

from shared.bucket.interface import Bucket, FileInfo
from shared.errors import TableError
from shared.records import FileDigest

READ_BYTES = 1 << 20


class Found(Protocol):
    """The identity of a file that was found."""

    @property
    def path(self) -> str: ...
    @property
    def stamp(self) -> str: ...
    @property
    def version(self) -> str: ...


def check_still(bucket: Bucket, file: Found, next_step: str, *, used: str = "read") -> FileInfo:
    """Returns the current FileInfo of an unchanged file.

    Raises:
        TableError: the file has changed or is gone; ``used`` is the verb of the message.
    """
    info = bucket.stat(file.path)
    if info is None or info.stamp != file.stamp or (file.version and info.version != file.version):
        raise TableError(f"{file.path} was changed or removed while it was {used}", next_step=next_step)
    return info


@contextlib.contextmanager
def unchanged_while_read(
    bucket: Bucket, file: Found, next_step: str, damage: type[Exception] = TableError, *, used: str = "read"
) -> Iterator[None]:
    """Raises TableError if a file changes while this block reads it: a mix of two versions looks damaged.

    ``damage`` is the error that the block raises for a file that looks damaged.
    """
    try:
        yield
    except damage:
        check_still(bucket, file, next_step, used=used)
        raise
    check_still(bucket, file, next_step, used=used)


def has_content(bucket: Bucket, path: str, digest: FileDigest) -> bool:
    """Returns True when a file has this content; a file of another size is not read."""
    info = bucket.stat(path)
    if info is None or info.size != digest.size:
        return False
    whole = hashlib.sha256()
    with bucket.open(path) as content:
        while block := content.read(READ_BYTES):
            whole.update(block)
    return whole.hexdigest() == digest.sha256
