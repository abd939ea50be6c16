"""Streams of a table's files: hashing while reading, and writing in a thread."""

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from shared.records import FileDigest


class Stream(Protocol):
    """Any object that is read from front to back."""

    def read(self, size: int = -1, /) -> bytes:
        """Returns up to ``size`` bytes; none at the end of the stream."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Reads up to the length of the buffer into it; returns the number of bytes, 0 at the end of the stream."""


class BackgroundWriter:
    """Runs calls in a background thread, one after another; ``submit`` waits for the previous call."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[object] | None = None

    def submit(self, do: Callable[..., object], *arguments: object) -> None:
        """Starts another call; raises what the previous call raised."""
        self.wait()
        self._last = self._thread.submit(do, *arguments)

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, *_: object) -> None:
        # after an error nothing may be written once the context is left
        self._thread.shutdown()

    def wait(self) -> None:
        """Waits until the last call is done; raises what it raised."""
        if self._last is not None:
            self._last.result()


class Hashing(io.RawIOBase):
    """A pass-through stream that computes the digest of what is read while it is still in the CPU cache."""

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
        """Returns the size and sha256 of everything that was read."""
        return FileDigest(sha256=self._sha256.hexdigest(), size=self._size)
