"""Parts: the predictions of a chunk, its rejects if there are any, and the record that makes the part complete.

jobs/<job id>/parts/0000007.csv.gz, 0000007.rejects.csv.gz, 0000007.json
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
"""What the rows are counted under where the device is not read."""


class DeviceSum(Frozen):
    """Rows and the sum of their rates for one device of a part."""

    rows: int
    sum_cr: float


class Unpredicted(Frozen):
    """Rows that were rejected for what the definition predicted for them, and where its code is."""

    rows: int
    predict: str
    """The line on which its method predict begins."""


class ChunkRecord(Record):
    """What one chunk wrote; the last file of a part, so that a part with it is complete."""

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
    """None where each rate is a finite number within its interval, and in parts of an older version."""
    seconds: float
    stages: dict[str, float] = Field(default_factory=dict)
    """Seconds of each stage: load, read, predict, write; empty in parts of an older version."""

    @property
    def adds_up(self) -> bool:
        """False when its numbers contradict each other: it was damaged."""
        devices = self.devices.values()
        rows_add_up = self.rows_in >= self.rows_scored == sum(device.rows for device in devices)
        return rows_add_up and 0 <= self.rows_clipped <= self.rows_scored and all(0 <= one.sum_cr <= one.rows for one in devices)

    def is_of(self, chunk: Chunk) -> bool:
        """True unless the part is of another slice: one that was cut for a plan which was never written."""
        return self.chunk is None or self.chunk == chunk

    @property
    def rows_rejected(self) -> int:
        """Rows that could not be scored."""
        return self.rows_in - self.rows_scored


class BrokenPartError(ScoringError):
    """Raised when a part is not what its record says; the part is discarded and made again."""

    def __init__(self, index: int) -> None:
        super().__init__(f"the part {index} is broken")
        self.index = index


def read_part(folder: JobFolder, index: int) -> ChunkRecord | None:
    """What chunk ``index`` wrote, or None while its part is not complete or when its record is broken."""
    text = folder.bucket.read(folder.part_file(index, PartFile.COMPLETE))
    try:
        record = None if text is None else decode_long(ChunkRecord, text)
    except MessageError:
        return None
    return record if record and record.index == index and record.adds_up else None


def write_file(folder: JobFolder, index: int, file: PartFile, data: bytes) -> FileDigest:
    """Put one file of a part in place and return its digest."""
    folder.bucket.write(folder.part_file(index, file), data)
    return FileDigest(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def read_file(folder: JobFolder, index: int, file: PartFile, digest: FileDigest) -> bytes:
    """One file of a part, checked; raises BrokenPartError when it is not what the record of the part says."""
    data = folder.bucket.read(folder.part_file(index, file))
    if data is None or hashlib.sha256(data).hexdigest() != digest.sha256:
        raise BrokenPartError(index)
    return data


def complete(folder: JobFolder, record: ChunkRecord) -> None:
    """Write the record of a part: the part is complete."""
    folder.bucket.write(folder.part_file(record.index, PartFile.COMPLETE), record.model_dump_json().encode())


def is_complete(folder: JobFolder, index: int) -> bool:
    """True when the part is complete; it may be broken."""
    return folder.bucket.exists(folder.part_file(index, PartFile.COMPLETE))


def discard(folder: JobFolder, index: int) -> None:
    """Remove the record of a part: the sweep sends its chunk again."""
    folder.bucket.delete(folder.part_file(index, PartFile.COMPLETE))


def copy_part(source: JobFolder, target: JobFolder, index: int) -> bool:
    """Copy the part that another job wrote for the same chunk; False when it is not complete."""
    record = read_part(source, index)
    if record is None:
        return False
    hashes = [PartFile.KEYS] if source.bucket.exists(source.part_file(index, PartFile.KEYS)) else []
    for file in (PartFile.PREDICTED, *([PartFile.REJECTED] if record.rejects else []), *hashes):
        target.bucket.copy(source.part_file(index, file), target.part_file(index, file))
    complete(target, record)
    return True


def missing_chunks(folder: JobFolder, plan: Plan) -> list[int]:
    """The chunks whose part is not complete."""
    done = folder.parts_done()
    return [index for index in range(len(plan.chunks)) if index not in done]


def first_rejects(parts: Iterable[ChunkRecord], count: int) -> str:
    """The first rejects of these parts, as an error quotes them."""
    return "; ".join([text for part in parts for text in part.first_rejects][:count])
