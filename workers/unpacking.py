"""Gzip text, unpacked as it is read, and the limit on how much of it there may be."""

import threading
from collections.abc import Iterable
from typing import Protocol, cast

from isal import igzip

from shared.errors import TableError
from shared.settings import MAX_UNPACKED_RATIO

ALWAYS_ALLOWED_BYTES = 4 << 30
"""So much text may come out of a small table, however well it was packed."""


class Stream(Protocol):
    """Anything that is read from front to back."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes; none at the end."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a buffer from its start as far as possible at once; how many bytes, 0 at the end."""


def unpacked(raw: Stream) -> Stream:
    """The text of a gzip stream, unpacked as it is read."""
    return cast(Stream, igzip.IGzipFile(fileobj=raw, mode="rb"))


class UnpackedLimit:
    """How much text may come out of the compressed files of a table: a few GB, or so many times their size."""

    def __init__(self, packed_sizes: Iterable[int], ratio: float = MAX_UNPACKED_RATIO) -> None:
        self._left = max(ALWAYS_ALLOWED_BYTES, int(ratio * sum(packed_sizes)))
        self._limit = self._left
        self._lock = threading.Lock()

    def take(self, count: int, path: str) -> None:
        """Count some text of a file; raises TableError when it is more than there may be."""
        with self._lock:
            self._left -= count
        if self._left < 0:
            raise TableError(
                f"{path} unpacks to more than the {self._limit >> 20:,} MB that a compressed table of its size may hold",
                next_step="If its rows are right, give it as csv or Parquet, or raise SCORING_MAX_UNPACKED_RATIO of the workers.",
            )


class LimitedText:
    """The text of a gzip file, as far as the limit goes."""

    def __init__(self, raw: Stream, limit: UnpackedLimit, path: str) -> None:
        self._text, self._limit, self._path = unpacked(raw), limit, path

    def read(self, size: int = -1, /) -> bytes:
        """See ``Stream``."""
        data = self._text.read(size)
        self._limit.take(len(data), self._path)
        return data

    def readinto(self, buffer: memoryview, /) -> int:
        """See ``Stream``."""
        count = self._text.readinto(buffer)
        self._limit.take(count, self._path)
        return count
