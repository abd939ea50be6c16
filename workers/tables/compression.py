"""Compression formats of csv text: how to unpack them, how to detect damage, and how much text may be unpacked."""

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
"""Bytes of text that may be unpacked from a table of any size, whatever its compression ratio."""

TEXT_RATIO = 20
"""Typical compression ratio of a keyword table."""


class Compression(Protocol):
    """A compression format for the text of a file."""

    def unpacked(self, raw: Stream) -> Stream:
        """Returns a stream that unpacks the compressed stream ``raw`` as it is read."""

    def damage_errors(self, path: str) -> contextlib.AbstractContextManager[None]:
        """Raises TableError when a stream that is read in this block is damaged or truncated."""


class Gzip:
    """gzip with one or more members."""

    _DAMAGE: Any = (EOFError, gzip.BadGzipFile, isal_zlib.error)
    """What reading a damaged stream raises. Any other OSError comes from the storage."""

    def unpacked(self, raw: Stream) -> Stream:
        """Implements ``Compression``."""
        return cast(Stream, igzip.IGzipFile(fileobj=raw, mode="rb"))

    @contextlib.contextmanager
    def damage_errors(self, path: str) -> Iterator[None]:
        """Implements ``Compression``."""
        try:
            yield
        except self._DAMAGE as error:
            raise _not_whole(path, "gzip", error) from error


class Zstd:
    """Zstandard with one or more frames."""

    def unpacked(self, raw: Stream) -> Stream:
        """Implements ``Compression``."""
        return cast(Stream, pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"))

    @contextlib.contextmanager
    def damage_errors(self, path: str) -> Iterator[None]:
        """Implements ``Compression``."""
        try:
            yield
        except OSError as error:
            # Arrow raises a plain OSError without errno for damaged data; any other OSError comes from the storage
            if type(error) is not OSError or error.errno is not None:
                raise
            raise _not_whole(path, "zstd", error) from error


def _not_whole(path: str, name: str, error: Exception) -> TableError:
    return TableError(
        f"{path} is not a whole {name} file: {error}",
        next_step="Copy it again, it may have been cut short; text that is not compressed is named .csv or .tsv.",
    )


class UnpackedLimit:
    """Limits the text that the compressed files of a table may unpack to: 4 GiB, or ``ratio`` times their size if that is more."""

    def __init__(self, packed_sizes: Iterable[int], ratio: float = MAX_UNPACKED_RATIO) -> None:
        self._left = max(ALWAYS_ALLOWED_BYTES, int(ratio * sum(packed_sizes)))
        self._limit = self._left
        self._lock = threading.Lock()

    def take(self, count: int, path: str) -> None:
        """Counts ``count`` bytes of unpacked text of a file; raises TableError when the limit is exceeded."""
        with self._lock:
            self._left -= count
        if self._left < 0:
            raise TableError(
                f"{path} unpacks to more than the {self._limit >> 20:,} MB that a compressed table of its size may hold",
                next_step="If its rows are right, give it as csv or Parquet, or raise SCORING_MAX_UNPACKED_RATIO of the workers.",
            )


class LimitedText:
    """The text of a compressed file, read up to the limit."""

    def __init__(self, text: Stream, limit: UnpackedLimit, path: str) -> None:
        self._text, self._limit, self._path = text, limit, path

    def read(self, size: int = -1, /) -> bytes:
        """Implements ``Stream``."""
        data = self._text.read(size)
        self._limit.take(len(data), self._path)
        return data

    def readinto(self, buffer: memoryview, /) -> int:
        """Implements ``Stream``."""
        count = self._text.readinto(buffer)
        self._limit.take(count, self._path)
        return count
