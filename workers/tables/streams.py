"""Streams of a table's files: unpacked with a limit, hashed while they are read, written beside."""

import gzip
import hashlib
import io
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, cast

from isal import igzip, isal_zlib

from shared.errors import TableError
from shared.records import FileDigest
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


GZIP_RATIO = 20
"""A keyword table in gzip is smaller by about this much."""

BAD_GZIP: Any = (EOFError, gzip.BadGzipFile, isal_zlib.error)
"""What reading a broken gzip stream raises; any other OSError is the storage's."""


class Beside:
    """A thread that does one thing after another while its owner goes on; what it is given waits until the thing before is done."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[object] | None = None

    def add(self, do: Callable[..., object], *arguments: object) -> None:
        """Have this done as well; raises what the thing before raised."""
        self.wait()
        self._last = self._thread.submit(do, *arguments)

    def __enter__(self) -> "Beside":
        return self

    def __exit__(self, *_: object) -> None:
        # whatever went wrong, nothing is written any more once this is left
        self._thread.shutdown()

    def wait(self) -> None:
        """Return when all is done; raises what the last thing raised."""
        if self._last is not None:
            self._last.result()


class Hashing(io.RawIOBase):
    """Passes a stream through and works out the digest of what goes by, while it is in the processor's cache."""

    def __init__(self, raw: Stream) -> None:
        self._raw, self._sha256, self._size = raw, hashlib.sha256(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any writable buffer
        count = self._raw.readinto(buffer)
        self._sha256.update(memoryview(buffer)[:count])
        self._size += count
        return count

    def read(self, size: int = -1, /) -> bytes:
        data = self._raw.read(size)
        self._sha256.update(data)
        self._size += len(data)
        return data

    def digest(self) -> FileDigest:
        """Size and sha256 of all that was read."""
        return FileDigest(sha256=self._sha256.hexdigest(), size=self._size)


def bad_gzip(path: str, error: Exception) -> TableError:
    """What reading a broken gzip stream comes to, in one sentence."""
    return TableError(
        f"{path} is not a whole gzip file: {error}", next_step="Copy it again, it may have been cut short; a plain csv is named .csv."
    )
