"""The plan of a job: the files of its table at the time of planning, and the chunks that they are cut into."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, TypeVar

from pydantic import Field, ValidationInfo, field_validator

from shared.bucket.interface import Bucket, FileInfo
from shared.bucket.unchanged import check_still, unchanged_while_read
from shared.catalog.manifests import TableFingerprint, WithInterval
from shared.errors import MessageError, StaleMessageError
from shared.jobs.files import JobFile, Subfolder
from shared.jobs.folder import JobFolder
from shared.records import BucketPath, FileDigest, FileName, Frozen, JobId, Record, ReleaseId, Timestamp, decode_long
from shared.table_files import FileKind
from workers.tables.formats import TableFormat, format_of

_SCORE_AGAIN = "Score it again."
_REQUEST_AGAIN = "Request the job again with --again; this one cannot continue."


class FoundFile(Frozen):
    """One file of the table at the time before it was cut."""

    path: BucketPath
    kind: FileKind
    stamp: str
    """The bucket's stamp; another stamp means that the table was changed during the job."""
    columns: list[str]
    version: Annotated[str, Field(exclude=True)] = ""
    """The bucket's version, empty if unknown. It is stored in a file of its own, because earlier versions reject the field."""

    @property
    def table_format(self) -> TableFormat:
        """The format of the file."""
        return format_of(self.kind)


class PlannedFile(FoundFile):
    """One file of the table at the time when it was cut."""

    digest: FileDigest
    rows_at_most: int | None = None
    """Lines of a csv file after its header, rows of a Parquet file; None in plans of an older version."""


class Chunk(NamedTuple):
    """A slice of one file: bytes for csv, rows for Parquet, or a slice file that the planning step wrote for compressed text."""

    file: int
    start: int
    end: int
    first_line: int
    """The line of the file on which the chunk starts, from 1; for Parquet the row number, from 1."""


@dataclass(frozen=True, kw_only=True)
class PlannedChunk:
    """What a worker needs to score one chunk."""

    index: int
    chunk: Chunk
    file: FoundFile
    release: ReleaseId
    slices: str
    slices_in: JobId
    """The job whose folder holds the slices of compressed files."""
    may_be_fixed: bool
    """True when the job replaces another job's rejects by fixed rows."""
    interval: bool
    """True when bounds are written after each rate."""


class PinnedInputs(Record):
    """The pinned release and files, written before the table is cut so that the first chunks can be scored meanwhile."""

    job_id: JobId
    release: ReleaseId
    slices: FileName
    """Name of the folder with the slices of compressed files."""
    files: list[FoundFile]
    interval: WithInterval = False

    def chunk(self, index: int, cut: Sequence[int]) -> PlannedChunk:
        """Returns a chunk that was cut before the plan is written; raises StaleMessageError if the table cannot have this chunk."""
        chunk = Chunk(*cut)
        is_possible = chunk.file < len(self.files) and 0 <= chunk.start < chunk.end
        if not is_possible or not self.files[chunk.file].table_format.may_be_chunk(chunk.start, chunk.end):
            raise StaleMessageError(f"the table of job {self.job_id} has no chunk {tuple(chunk)}")
        return PlannedChunk(
            index=index,
            chunk=chunk,
            file=self.files[chunk.file],
            release=self.release,
            slices=self.slices,
            slices_in=self.job_id,
            may_be_fixed=False,
            interval=self.interval,
        )


class Plan(Record):
    """The chunks of one job, with the release pinned."""

    job_id: JobId
    release: ReleaseId
    made: Timestamp
    files: list[PlannedFile]
    slices: FileName
    """Name of the folder with the slices of compressed files."""
    slices_in: JobId | None = None
    """The job whose folder holds them, if it is another job, whose rejects this one fixes."""
    chunks: list[Chunk]
    fixed_rows: FileDigest | None = None
    """The file of fixed rows that replace another job's rejects."""
    interval: WithInterval = False

    @property
    def rows_at_most(self) -> int | None:
        """An upper bound of the number of rows of the table; None if an older version did not count them."""
        counts = [file.rows_at_most for file in self.files]
        return None if None in counts else sum(count or 0 for count in counts)

    @field_validator("chunks")
    @classmethod
    def _tile(cls, chunks: list[Chunk], known: ValidationInfo) -> list[Chunk]:
        at = (0, 0)
        for file, start, end, first_line in chunks:
            if not (at <= (file, start) and file < len(known.data.get("files", ())) and 0 <= start < end and first_line >= 1):
                raise ValueError("must follow one another in the files of the table")
            at = (file, end)
        return chunks

    def chunk(self, index: int) -> PlannedChunk:
        """Returns a chunk of the plan; raises StaleMessageError if the plan has no chunk with this index."""
        if not index < len(self.chunks):
            raise StaleMessageError(f"job {self.job_id} has {len(self.chunks)} chunks; there is no chunk {index}")
        chunk = self.chunks[index]
        return PlannedChunk(
            index=index,
            chunk=chunk,
            file=self.files[chunk.file],
            release=self.release,
            slices=self.slices,
            slices_in=self.slices_in or self.job_id,
            may_be_fixed=self.fixed_rows is not None,
            interval=self.interval,
        )

    def fingerprint(self, path: str, *, rows: int, rejected: int) -> TableFingerprint:
        """Returns the fingerprint of this table for the manifest of a result or release."""
        return TableFingerprint(path=path, files={file.path: file.digest for file in self.files}, rows=rows, rejected=rejected)


AnyPlan = TypeVar("AnyPlan", PinnedInputs, Plan)


def check_stamp(bucket: Bucket, file: FoundFile) -> FileInfo:
    """Returns the bucket's information on a file of the table; raises TableError if the file is not the planned one."""
    return check_still(bucket, file, _SCORE_AGAIN, used="scored")


@contextlib.contextmanager
def unchanged_while_scored(bucket: Bucket, file: FoundFile) -> Iterator[None]:
    """Raises TableError if a file of the table is not the planned one, before or after this block reads it."""
    check_stamp(bucket, file)
    with unchanged_while_read(bucket, file, _SCORE_AGAIN, used="scored"):
        yield


def write_versions(folder: JobFolder, files: Sequence[FoundFile]) -> None:
    """Writes the versions of the files of a table, if any are known; the first writer wins."""
    versions = {file.path: file.version for file in files if file.version}
    if versions:
        folder.bucket.create(folder.file(JobFile.VERSIONS), json.dumps(versions).encode())


def _with_versions(folder: JobFolder, files: Sequence[FoundFile]) -> list[FoundFile]:
    """Returns the files of a record with their versions, if these are known."""
    known = folder.table_versions()
    return [file.model_copy(update={"version": known.get(file.path, "")}) for file in files]


def read_pinned_inputs(folder: JobFolder) -> PinnedInputs | None:
    """Returns the pinned release and files of a job; None before they are pinned.

    Raises:
        MessageError: the file is damaged or belongs to another job.
    """
    return _read(folder, JobFile.PINNED, PinnedInputs, folder.file(JobFile.PINNED))


def read_plan(folder: JobFolder) -> Plan:
    """Returns the plan of a job.

    Raises:
        StaleMessageError: the job has no plan.
        MessageError: the plan is damaged or belongs to another job.
    """
    plan = _read(folder, JobFile.PLAN, Plan, f"the plan of job {folder.job_id}")
    if plan is None:
        raise StaleMessageError(f"job {folder.job_id} has no plan", next_step=f"See what it waits for: scoring jobs show {folder.job_id}")
    return plan


def _read(folder: JobFolder, file: JobFile, kind: type[AnyPlan], name: str) -> AnyPlan | None:
    """Reads a record of the files of a table, with their versions; error messages call the record ``name``."""
    text = folder.bucket.read(folder.file(file))
    if text is None:
        return None
    try:
        record = decode_long(kind, text)
    except MessageError as error:
        raise MessageError(f"{name} is damaged: {error.message}", next_step=_REQUEST_AGAIN) from error
    if record.job_id != folder.job_id:
        raise MessageError(f"{name} says that it is of job {record.job_id}", next_step=_REQUEST_AGAIN)
    return record.model_copy(update={"files": _with_versions(folder, record.files)})


def slices_folder(folder: JobFolder, slices: str) -> str:
    """Returns the folder of the slices of compressed files."""
    return folder.file(f"{Subfolder.SLICES}/{slices}")


def slice_file(folder: JobFolder, slices: str, chunk: Chunk) -> str:
    """Returns the path of the slice file of a chunk of a compressed file."""
    return f"{slices_folder(folder, slices)}/{chunk.file:06d}-{chunk.start:015d}.csv"


def numbered_slice_file(folder: JobFolder, slices: str, index: int) -> str:
    """Returns the path of the same slice in a folder of an earlier version, which named slices by the index of the chunk."""
    return f"{slices_folder(folder, slices)}/{index:07d}.csv"
