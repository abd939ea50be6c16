"""The tries to deliver one notice: how many were started, and whether one of them may have arrived."""

import contextlib
from datetime import UTC, datetime
from typing import Protocol

from shared.errors import MessageError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.outbox import NoticeFolder
from shared.records import Record, Timestamp


class DeliveryAttempt(Record):
    """A try to deliver a notice, and what is known of its end."""

    at: Timestamp
    tries: int
    perhaps_told: bool
    """True while unknown: the process may have died after the webhook accepted the notice, or the answer never came."""


class TryRecord(Protocol):
    """Where the tries to deliver one notice are recorded."""

    def read(self) -> DeliveryAttempt:
        """Returns the record of earlier tries."""

    def write(self, attempt: DeliveryAttempt) -> None:
        """Records a try that begins or has ended."""


class TriesInMemory:
    """The tries of a notice that only its own process delivers."""

    def __init__(self) -> None:
        self._last = DeliveryAttempt(at=datetime.now(UTC), tries=0, perhaps_told=False)

    def read(self) -> DeliveryAttempt:
        """Returns the record of earlier tries."""
        return self._last

    def write(self, attempt: DeliveryAttempt) -> None:
        """Records a try that begins or has ended."""
        self._last = attempt


class TriesInBucket:
    """The tries of a notice that any process may continue; a process that dies in one leaves its record."""

    def __init__(self, folder: JobFolder | NoticeFolder) -> None:
        self._folder = folder

    def read(self) -> DeliveryAttempt:
        """Returns the record of earlier tries."""
        text = self._folder.bucket.read(self._folder.file(JobFile.DELIVERY_ATTEMPT))
        with contextlib.suppress(MessageError):
            if text is not None:
                return DeliveryAttempt.decode(text)
        return DeliveryAttempt(at=datetime.now(UTC), tries=0, perhaps_told=text is not None)

    def write(self, attempt: DeliveryAttempt) -> None:
        """Records a try that begins or has ended."""
        self._folder.bucket.write(self._folder.file(JobFile.DELIVERY_ATTEMPT), attempt.to_json())
