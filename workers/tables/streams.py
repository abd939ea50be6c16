"""Streams of a table's files: hashed while they are read, written beside."""

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from shared.records import FileDigest


class Stream(Protocol):
    """Anything that is read from front to back."""

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes; none at the end."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a buffer from its start as far as possible at once; how many bytes, 0 at the end."""


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
