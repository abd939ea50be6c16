"""Chunks as they are read: the records of one, together or in ranges, whatever kind of file they lie in."""

import contextlib
import functools
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Protocol

import pyarrow.parquet as pq

from shared.bucket.interface import Bucket
from shared.catalog.manifests import ReleaseManifest
from shared.errors import StrayOrderError, TableError
from shared.jobs.folder import JobFolder
from workers.scoring.plan import FoundFile, PlannedChunk, check_stamp, slice_file
from workers.scoring.slices import read_chunk
from workers.tables import rows as table_rows
from workers.tables import schema
from workers.tables.csv import rows as csv_rows
from workers.tables.csv.records import record_ends
from workers.tables.parquet import rows as parquet_rows
from workers.tables.parquet.cuts import open_parquet, rows_at_once

Range = tuple[int, int | None]
"""Records of a chunk from the first on to the one before the second; to its end if that is None."""


class Pieces(Protocol):
    """A chunk whose records can be read together or in ranges."""

    @property
    def layout(self) -> schema.Layout:
        """Which columns are read, and as what."""

    def count(self) -> int:
        """How many records there are."""

    def ranges(self) -> list[Range]:
        """What is best read together, range after range: the values of one take little memory."""

    def rows(self, start: int = 0, end: int | None = None) -> table_rows.Rows:
        """The records ``start`` to ``end`` (the last one left out), read and checked."""

    def line(self, record: int) -> int:
        """The line of the file on which a record starts; for Parquet its row, from 1."""

    def rejects(self, record: int) -> list[table_rows.Reject]:
        """The rejects that a deadly record becomes."""


@dataclass(frozen=True, kw_only=True)
class CsvPieces:
    """A chunk of a csv file, read."""

    data: bytes
    layout: schema.Layout
    first_line: int

    @functools.cached_property
    def _ends(self) -> list[int]:
        return [0, *record_ends(self.data, final=True).tolist()]

    def count(self) -> int:
        return len(self._ends) - 1

    def ranges(self) -> list[Range]:
        return [(0, None)]

    def rows(self, start: int = 0, end: int | None = None) -> table_rows.Rows:
        if end is None:
            return csv_rows.read_csv_rows(self.data, self.layout, self.first_line)
        return csv_rows.read_csv_rows(self.data[self._ends[start] : self._ends[end]], self.layout, self.line(start))

    def line(self, record: int) -> int:
        return self.first_line + self.data.count(b"\n", 0, self._ends[record])

    def rejects(self, record: int) -> list[table_rows.Reject]:
        shown = self.data[self._ends[record] : self._ends[record + 1]].decode("utf-8", errors="replace").strip()
        return [table_rows.deadly_reject(self.line(record), shown)]


@dataclass(frozen=True, kw_only=True)
class ParquetPieces:
    """A chunk of a Parquet file, which is read when it is asked for."""

    reader: parquet_rows.ParquetReader
    layout: schema.Layout
    start: int
    end: int
    rows_at_once: int

    def count(self) -> int:
        return self.end - self.start

    def ranges(self) -> list[Range]:
        ranges = -(-self.count() // self.rows_at_once)
        bounds = [self.count() * number // ranges for number in range(ranges + 1)]
        return list(itertools.pairwise(bounds))

    def rows(self, start: int = 0, end: int | None = None) -> table_rows.Rows:
        return self.reader.rows(self.start + start, self.end if end is None else self.start + end)

    def line(self, record: int) -> int:
        return self.start + record + 1

    def rejects(self, record: int) -> list[table_rows.Reject]:
        return [table_rows.deadly_reject(self.line(record), "")]


@functools.lru_cache(maxsize=1)
def _known_of_parquet(bucket: Bucket, path: str, stamp: str) -> pq.FileMetaData:
    """What the end of a Parquet file says of all its row groups: read once, for it grows with the file, and so does the count of chunks."""
    del stamp  # a changed file is another one
    with bucket.open(path) as raw, open_parquet(raw, path) as file:
        return file.metadata


@contextlib.contextmanager
def open_chunk(bucket: Bucket, planned: PlannedChunk, release: ReleaseManifest) -> Iterator[Pieces]:
    """The records of a chunk, to be read for this release while the chunk is open.

    Raises:
        TableError: the table changed under the job, or does before all was read.
    """
    chunk, file = planned.chunk, planned.file
    layout = schema.layout_for(file.path, file.columns, release.columns, keys=release.keys)
    if file.kind == "csv.gz":
        yield CsvPieces(data=_read_slice(bucket, planned), layout=layout, first_line=chunk.first_line)
    elif file.kind == "csv":
        with _unchanged(bucket, file) as raw:
            _refuse_beyond(chunk.end, raw.seek(0, os.SEEK_END), planned)
            raw.seek(chunk.start)
            data = raw.read(chunk.end - chunk.start)
        yield CsvPieces(data=data, layout=layout, first_line=chunk.first_line)
    else:
        with _unchanged(bucket, file) as raw:
            known = _known_of_parquet(bucket, file.path, f"{file.stamp} {file.version}")
            _refuse_beyond(chunk.end, known.num_rows, planned)
            yield parquet_pieces(raw, layout, chunk.start, chunk.end, known)


def _refuse_beyond(end: int, size: int, planned: PlannedChunk) -> None:
    """Raises StrayOrderError for a chunk that ends behind the end of its file: no plan has such a one, but a message may."""
    if end > size:
        raise StrayOrderError(f"{planned.file.path} ends at {size:,}, and a chunk of it cannot end at {end:,}")


def parquet_pieces(raw: IO[bytes], layout: schema.Layout, start: int, end: int, known: pq.FileMetaData) -> ParquetPieces:
    """The rows ``start`` to ``end`` of an open Parquet file, of which all is ``known`` that its end says."""
    reader = parquet_rows.ParquetReader(raw, layout, end, known)
    at_once = rows_at_once(known, reader.text_bytes_of_row(start, end))
    return ParquetPieces(reader=reader, layout=layout, start=start, end=end, rows_at_once=at_once)


def _read_slice(bucket: Bucket, planned: PlannedChunk) -> bytes:
    folder = JobFolder(bucket, planned.slices_in)
    data = bucket.read(slice_file(folder, planned.slices, planned.chunk))
    if data is None:
        # an earlier version named them by their number
        data = bucket.read(folder.file(f"slices/{planned.slices}/{planned.index:07d}.csv"))
    what, next_step = f"the slice of chunk {planned.index} of job {planned.slices_in}", "Score the table again with --again."
    if data is None:
        # removed, since the job had ended
        return read_chunk(bucket, planned.file, planned.chunk)
    if len(data) != planned.chunk.end - planned.chunk.start:
        raise TableError(f"{what} is damaged", next_step=next_step)
    return data


@contextlib.contextmanager
def _unchanged(bucket: Bucket, file: FoundFile) -> Iterator[IO[bytes]]:
    """A file of the table, opened; raises TableError when it is not the one that was planned, before or after it was read."""
    check_stamp(bucket, file)
    try:
        with bucket.open(file.path) as raw:
            yield raw
    except TableError:
        check_stamp(bucket, file)  # what looks damaged may be another file
        raise
    check_stamp(bucket, file)
