"""Histories of movable names: each change of a name is a numbered file, and the first writer of a number wins.

    <folder>/000007.json    the seventh change of the name
    <copy>                  a copy of a recent change, from which a reader continues

The numbered files are authoritative: a process may die, or be overtaken, before it writes the copy.
A name whose change is followed by other writes, as a channel, is changed by ``claim``, and its copy is written after them.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from shared.bucket.interface import Bucket
from shared.errors import MessageError


class Change(Protocol):
    """A record of one change of a name."""

    @property
    def number(self) -> int:
        """The number of the change, from 1; 0 until the change is made."""

    @classmethod
    def decode(cls, data: object) -> Self:
        """Checks and returns a stored change."""

    def to_json(self) -> bytes:
        """Returns the JSON text of the change."""


AnyChange = TypeVar("AnyChange", bound=Change)


class UnreadableChangeError(Exception):
    """Raised when the newest change is damaged, or of a later version, so that the state of the name is unknown."""

    def __init__(self, path: str, error: MessageError) -> None:
        super().__init__(f"{path}: {error.message}")
        self.error = error


@dataclass(frozen=True, kw_only=True)
class History(Generic[AnyChange]):
    """The changes of one name."""

    bucket: Bucket
    kind: type[AnyChange]
    folder: str
    """The folder of the numbered files."""
    copy: str
    """The path of the copy."""

    def read(self) -> AnyChange | None:
        """Returns the newest change, or None if there is none. A damaged copy does no harm while the numbered files are whole.

        Raises:
            UnreadableChangeError: the newest change cannot be read.
        """
        text, now, problem = self.bucket.read(self.copy), None, None
        if text is not None:
            try:
                now = self.kind.decode(text)
            except MessageError as error:
                problem = UnreadableChangeError(self.copy, error)
        while (text := self.bucket.read(self._file(now.number + 1 if now else 1))) is not None:
            try:
                now = self.kind.decode(text)
            except MessageError as error:
                raise UnreadableChangeError(self._file(now.number + 1 if now else 1), error) from error
        if now is None and problem is not None:
            raise problem
        return now

    def known(self) -> AnyChange | None:
        """Returns the newest change, or None if there is none or it cannot be read."""
        with contextlib.suppress(UnreadableChangeError):
            return self.read()
        return None

    def add(self, change: AnyChange) -> bool:
        """Writes this change and its copy; returns False if another process wrote the change with its number first."""
        if not self._claim(change):
            return False
        self.write_copy(change)
        return True

    def update(self, decide: Callable[[AnyChange | None, int], AnyChange | None]) -> AnyChange | None:
        """Writes the change that ``decide`` derives, as ``claim`` does, and its copy."""
        change = self.claim(decide)
        if change is not None:
            self.write_copy(change)
        return change

    def claim(self, decide: Callable[[AnyChange | None, int], AnyChange | None]) -> AnyChange | None:
        """Writes the change that ``decide`` derives from the newest change and the next number; decides again if another was faster.

        A name whose newest change cannot be read has no current state: the change gets the next free number and repairs it.
        Returns the change, or None if ``decide`` returned None.
        """
        while True:
            is_readable = True
            try:
                now = self.read()
                number = 0 if now is None else now.number
            except UnreadableChangeError:
                is_readable, now, number = False, None, self.newest_number()
            change = decide(now, number + 1)
            if change is None:
                return None
            if self._claim(change):
                if not is_readable:
                    self.write_copy(change)  # a reader continues from the copy, and so passes the damaged change
                return change

    def _claim(self, change: AnyChange) -> bool:
        if not self.bucket.create(self._file(change.number), change.to_json()):
            return False
        self.bucket.settle(self.folder)
        return True

    def write_copy(self, change: AnyChange) -> None:
        """Writes the copy of a change, durable on disk."""
        self.bucket.write(self.copy, change.to_json(), durable=True)
        self.bucket.settle(self.copy.rpartition("/")[0])

    def changes(self) -> Iterator[AnyChange]:
        """Yields the changes, the newest first; unreadable ones are left out."""
        now = self.known()
        if now is not None:
            yield now
        for number in range(self.newest_number() if now is None else now.number - 1, 0, -1):
            text = self.bucket.read(self._file(number))
            with contextlib.suppress(MessageError):
                if text is not None:
                    yield self.kind.decode(text)

    def newest_number(self) -> int:
        """Returns the number of the newest change, readable or not; 0 without any."""
        names = (info.path.rpartition("/")[2].removesuffix(".json") for info in self.bucket.files(self.folder))
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def _file(self, number: int) -> str:
        return f"{self.folder}/{number:06d}.json"
