"""The tries to deliver one notice: how many were started, and whether one of them may have arrived."""

import contextlib
from datetime import UTC, datetime
from typing import Protocol

from pydantic import ConfigDict, Field

from shared.errors import MessageError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.outbox import NoticeFolder
from shared.records import Record, Timestamp


class DeliveryState(Record):
    """How often the delivery of a notice was tried, and whether it may have arrived."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    at: Timestamp
    tries: int
    may_have_arrived: bool = Field(alias="perhaps_told")
    """True while unknown: the process may have crashed after the webhook accepted the notice, or the answer never came."""


class DeliveryStore(Protocol):
    """Stores the delivery state of one notice."""

    def read(self) -> DeliveryState:
        """Returns the state after earlier tries."""

    def write(self, state: DeliveryState) -> None:
        """Records a try that begins or has ended."""


class MemoryDeliveryStore:
    """Stores the delivery state of a notice that only its own process delivers."""

    def __init__(self) -> None:
        self._last = DeliveryState(at=datetime.now(UTC), tries=0, may_have_arrived=False)

    def read(self) -> DeliveryState:
        """Returns the state after earlier tries."""
        return self._last

    def write(self, state: DeliveryState) -> None:
        """Records a try that begins or has ended."""
        self._last = state


class BucketDeliveryStore:
    """Stores the delivery state of a notice that any process may continue, also after a crash in a try."""

    def __init__(self, folder: JobFolder | NoticeFolder) -> None:
        self._folder = folder

    def read(self) -> DeliveryState:
        """Returns the state after earlier tries."""
        text = self._folder.bucket.read(self._folder.file(JobFile.DELIVERY_ATTEMPT))
        with contextlib.suppress(MessageError):
            if text is not None:
                return DeliveryState.decode(text)
        return DeliveryState(at=datetime.now(UTC), tries=0, may_have_arrived=text is not None)

    def write(self, state: DeliveryState) -> None:
        """Records a try that begins or has ended."""
        self._folder.bucket.write(self._folder.file(JobFile.DELIVERY_ATTEMPT), state.to_json())
