"""Parts: the predictions of a chunk, its rejects if there are any, its index, and the record that completes the part.

jobs/<job id>/parts/0000007.csv.gz, 0000007.rejects.csv.gz, 0000007.index.arrow, 0000007.json
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from shared.errors import MessageError, ScoringError
from shared.jobs.files import PartFile
from shared.jobs.folder import JobFolder
from shared.records import FileDigest, Frozen, Record, decode_long
from workers.scoring.plan import Chunk, Plan

ALL_DEVICES = "all"
"""The name under which all rows are counted if the device is not read."""


class DeviceSum(Frozen):
    """Number of rows and sum of their rates for one device of a part."""

    rows: int
    sum_cr: float


class Unpredicted(Frozen):
    """Rows that were rejected because of the definition's predictions, and the location of its code."""

    rows: int
    predict: str
    """The file and line on which its method predict begins."""


class PartRecord(Record):
    """The record of what one chunk wrote. It is the last file of a part, so a part with a record is complete."""

    index: int
    chunk: Chunk | None = None
    """The slice that was scored; None in parts of an older version."""
    rows_in: int
    rows_scored: int
    rows_clipped: int
    devices: dict[str, DeviceSum]
    output: FileDigest
    rejects: FileDigest | None
    first_rejects: list[str] = Field(default_factory=list)
    unpredicted: Annotated[Unpredicted | None, Field(exclude_if=lambda found: found is None)] = None
    """None if each rate is a finite number within its interval, and in parts of an older version."""
    seconds: float
    stages: dict[str, float] = Field(default_factory=dict)
    """Seconds of each stage: load, read, predict, write; empty in parts of an older version."""

    @property
    def adds_up(self) -> bool:
        """False when its numbers contradict each other, because it was damaged."""
        devices = self.devices.values()
        rows_add_up = self.rows_in >= self.rows_scored == sum(device.rows for device in devices)
        return rows_add_up and 0 <= self.rows_clipped <= self.rows_scored and all(0 <= one.sum_cr <= one.rows for one in devices)

    def is_of(self, chunk: Chunk) -> bool:
        """Returns False if the part belongs to another slice, which was cut for a plan that was never written."""
        return self.chunk is None or self.chunk == chunk

    @property
    def rows_rejected(self) -> int:
        """The number of rows that could not be scored."""
        return self.rows_in - self.rows_scored


class BrokenPartError(ScoringError):
    """Raised when a part does not match its record; the part is discarded and scored again."""

    def __init__(self, index: int) -> None:
        super().__init__(f"the part {index} is broken")
        self.index = index


def read_part(folder: JobFolder, index: int) -> PartRecord | None:
    """Returns the record of chunk ``index``, or None if its part is not complete or its record is broken."""
    text = folder.bucket.read(folder.part_file(index, PartFile.COMPLETE))
    try:
        record = None if text is None else decode_long(PartRecord, text)
    except MessageError:
        return None
    return record if record and record.index == index and record.adds_up else None


def write_file(folder: JobFolder, index: int, file: PartFile, data: bytes) -> FileDigest:
    """Writes one file of a part and returns its digest."""
    folder.bucket.write(folder.part_file(index, file), data)
    return digest_of(data)


def digest_of(data: bytes) -> FileDigest:
    """Returns the digest of a file with this content."""
    return FileDigest(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def read_file(folder: JobFolder, index: int, file: PartFile, digest: FileDigest) -> bytes:
    """Reads one file of a part; raises BrokenPartError if it does not match the digest in the record of the part."""
    data = folder.bucket.read(folder.part_file(index, file))
    if data is None or hashlib.sha256(data).hexdigest() != digest.sha256:
        raise BrokenPartError(index)
    return data


def complete(folder: JobFolder, record: PartRecord) -> None:
    """Writes the record of a part, which completes the part."""
    folder.bucket.write(folder.part_file(record.index, PartFile.COMPLETE), record.model_dump_json().encode())


def is_complete(folder: JobFolder, index: int) -> bool:
    """Returns True if the part is complete; it may be broken."""
    return folder.bucket.exists(folder.part_file(index, PartFile.COMPLETE))


def discard(folder: JobFolder, index: int) -> None:
    """Removes the record of a part; the sweep sends its chunk again."""
    folder.bucket.delete(folder.part_file(index, PartFile.COMPLETE))


def copy_part(source: JobFolder, target: JobFolder, index: int) -> bool:
    """Copies the part that another job wrote for the same chunk; returns False if that part is not complete."""
    record = read_part(source, index)
    if record is None:
        return False
    # a part of an earlier version has no index
    indexes = [PartFile.INDEX] if source.bucket.exists(source.part_file(index, PartFile.INDEX)) else []
    for file in (PartFile.PREDICTED, *([PartFile.REJECTED] if record.rejects else []), *indexes):
        target.bucket.copy(source.part_file(index, file), target.part_file(index, file))
    complete(target, record)
    return True


def missing_chunks(folder: JobFolder, plan: Plan) -> list[int]:
    """Returns the chunks whose part is not complete."""
    done = folder.parts_done()
    return [index for index in range(len(plan.chunks)) if index not in done]


def first_rejects(parts: Iterable[PartRecord], count: int) -> str:
    """Returns the first rejects of these parts as text for an error message."""
    return "; ".join([text for part in parts for text in part.first_rejects][:count])
