"""Opens the records of a chunk, to be read together or in ranges."""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import IO

from shared.bucket.interface import Bucket
from shared.catalog.manifests import Column, ReleaseManifest
from shared.errors import TableError
from shared.jobs.folder import JobFolder
from workers.scoring.plan import FoundFile, PlannedChunk, numbered_slice_file, slice_file, unchanged_while_scored
from workers.scoring.slices import read_chunk
from workers.tables import schema
from workers.tables.formats import ChunkRecords, ChunkSource


def open_chunk(bucket: Bucket, planned: PlannedChunk, release: ReleaseManifest) -> AbstractContextManager[ChunkRecords]:
    """Opens the records of a chunk with the columns that this release needs.

    Raises:
        TableError: the table was changed before or during the read.
    """
    return open_columns(bucket, planned, release.columns, release.keys, reads_clicks=True)


def open_columns(
    bucket: Bucket, planned: PlannedChunk, columns: Sequence[Column], keys: tuple[str, ...], *, reads_clicks: bool = False
) -> AbstractContextManager[ChunkRecords]:
    """Opens the records of a chunk with these feature and key columns; raises TableError as ``open_chunk`` does."""
    chunk, file = planned.chunk, planned.file
    table_schema = schema.table_schema_for(file.path, file.columns, columns, keys=keys, reads_clicks=reads_clicks)
    place = ChunkSource(
        bucket=bucket,
        path=file.path,
        version=f"{file.stamp} {file.version}",
        start=chunk.start,
        end=chunk.end,
        first_line=chunk.first_line,
        opened=lambda: _open_unchanged(bucket, file),
        unpacked=lambda: _read_slice(bucket, planned),
    )
    return file.table_format.open_chunk(place, table_schema)


def _read_slice(bucket: Bucket, planned: PlannedChunk) -> bytes:
    folder = JobFolder(bucket, planned.slices_in)
    data = bucket.read(slice_file(folder, planned.slices, planned.chunk))
    if data is None:
        data = bucket.read(numbered_slice_file(folder, planned.slices, planned.index))
    what, next_step = f"the slice of chunk {planned.index} of job {planned.slices_in}", "Score the table again with --again."
    if data is None:
        # the slices were removed after the job had ended
        return read_chunk(bucket, planned.file, planned.chunk)
    if len(data) != planned.chunk.end - planned.chunk.start:
        raise TableError(f"{what} is damaged", next_step=next_step)
    return data


@contextlib.contextmanager
def _open_unchanged(bucket: Bucket, file: FoundFile) -> Iterator[IO[bytes]]:
    """Opens a file of the table; raises TableError if it is not the planned file, before or after it is read."""
    with unchanged_while_scored(bucket, file), bucket.open(file.path) as raw:
        yield raw
