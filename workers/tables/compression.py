"""Compressions of csv text: how it is unpacked, what damage looks like, and how much text may come out."""

import contextlib
import gzip
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, cast

import pyarrow as pa
from isal import igzip, isal_zlib

from shared.errors import TableError
from shared.settings import MAX_UNPACKED_RATIO
from workers.tables.streams import Stream

ALWAYS_ALLOWED_BYTES = 4 << 30
"""So much text may come out of a small table, however well it was packed."""

TEXT_RATIO = 20
"""A compressed keyword table is smaller than its text by about this much."""


class Compression(Protocol):
    """One way to compress the text of a file."""

    def unpacked(self, raw: Stream) -> Stream:
        """The text of a compressed stream, unpacked as it is read."""

    def refusing_damage(self, path: str) -> contextlib.AbstractContextManager[None]:
        """Raises TableError in one sentence when a stream that is read in this block turns out to be damaged or cut short."""


class Gzip:
    """gzip, of one or more members."""

    _DAMAGE: Any = (EOFError, gzip.BadGzipFile, isal_zlib.error)
    """What reading a damaged stream raises; any other OSError is the storage's."""

    def unpacked(self, raw: Stream) -> Stream:
        """See ``Compression``."""
        return cast(Stream, igzip.IGzipFile(fileobj=raw, mode="rb"))

    @contextlib.contextmanager
    def refusing_damage(self, path: str) -> Iterator[None]:
        """See ``Compression``."""
        try:
            yield
        except self._DAMAGE as error:
            raise _not_whole(path, "gzip", error) from error


class Zstd:
    """Zstandard, of one or more frames."""

    def unpacked(self, raw: Stream) -> Stream:
        """See ``Compression``."""
        return cast(Stream, pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"))

    @contextlib.contextmanager
    def refusing_damage(self, path: str) -> Iterator[None]:
        """See ``Compression``."""
        try:
            yield
        except OSError as error:
            # Arrow raises a plain OSError without a number; any other is the storage's
            if type(error) is not OSError or error.errno is not None:
                raise
            raise _not_whole(path, "zstd", error) from error


def _not_whole(path: str, name: str, error: Exception) -> TableError:
    return TableError(
        f"{path} is not a whole {name} file: {error}",
        next_step="Copy it again, it may have been cut short; text that is not compressed is named .csv or .tsv.",
    )


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
    """The text of a compressed file, as far as the limit goes."""

    def __init__(self, text: Stream, limit: UnpackedLimit, path: str) -> None:
        self._text, self._limit, self._path = text, limit, path

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
