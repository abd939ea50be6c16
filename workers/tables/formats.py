"""Table formats: one class per format, which contains everything that depends on the format of a file.

``format_of`` finds the class for the kind that a plan names. A new format needs one class here and one file extension in
``shared/table_files.py``.
"""

import contextlib
import csv
import functools
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, ClassVar, Protocol, cast

import pyarrow.parquet as pq

from shared.bucket.interface import Bucket
from shared.errors import StaleMessageError, TableError
from shared.table_files import FileKind
from workers.tables.chunk_size import MAX_CHUNK_BYTES, ChunkSize
from workers.tables.compression import TEXT_RATIO, Compression, Gzip, LimitedText, UnpackedLimit, Zstd
from workers.tables.csv.cuts import HEADER_READ_BYTES, MAX_CHUNK_READ_BYTES, Cut, open_csv
from workers.tables.csv.dialects import COMMAS, TABS, Dialect
from workers.tables.csv.pieces import CsvRecords
from workers.tables.csv.rows import read_csv_rows
from workers.tables.exports.canonical import canonical_text
from workers.tables.parquet.cuts import ShareOfTable, cut_parquet, open_parquet, parquet_columns, rows_at_once
from workers.tables.parquet.pieces import parquet_records
from workers.tables.parquet.rows import ParquetReader
from workers.tables.rows import Reject, Rows
from workers.tables.schema import LABELS, TableSchema
from workers.tables.streams import Hashing, Stream
from workers.tables.training.left_out_rows import Source, csv_source, parquet_source

TRAINING_ROWS_AT_ONCE = 65_536
"""Rows of a Parquet file that are read together for training."""

DIGEST_BYTES = 1 << 20

_RATE, CLICKS, *_ = LABELS

RecordRange = tuple[int, int | None]
"""Records of a chunk from the first index up to, but not including, the second; None means to the end of the chunk."""


class ChunkRecords(Protocol):
    """A chunk whose records can be read together or in ranges."""

    @property
    def table_schema(self) -> TableSchema:
        """The columns that are read and their types."""

    def count(self) -> int:
        """Returns the number of records."""

    def ranges(self) -> list[RecordRange]:
        """Returns the ranges of records to read together; the values of one range take little memory."""

    def rows(self, start: int = 0, end: int | None = None) -> Rows:
        """Reads and checks the records ``start`` to ``end`` (exclusive)."""

    def line(self, record: int) -> int:
        """Returns the line of the file on which a record starts; for Parquet the row number, from 1."""

    def rejects(self, record: int) -> list[Reject]:
        """Returns the rejects for a record that kills the worker process."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One chunk as cut from a file."""

    start: int
    """Where the slice starts and ends: bytes of the (unpacked) text, or rows of a Parquet file from 0."""
    end: int
    first_line: int
    """The line of the file on which the slice starts, from 1; for Parquet the row number, from 1."""
    rows: int
    """An upper bound of the number of rows."""
    text: memoryview | None = None
    """The text of the slice, for formats whose chunks cannot be read from the file itself. Its memory is reused for the slice after the
    next.
    """


@dataclass(frozen=True, kw_only=True)
class ChunkSource:
    """The location of a chunk, from which a format reads it."""

    bucket: Bucket
    path: str
    version: str
    """The version of the file; a changed file has another version."""
    start: int
    end: int
    first_line: int
    opened: Callable[[], AbstractContextManager[IO[bytes]]]
    """Opens the file; raises TableError if it is not the planned file, before or after it was read."""
    unpacked: Callable[[], bytes]
    """Returns the text of a chunk of a compressed file."""

    def refuse_beyond(self, size: int) -> None:
        """Raises StaleMessageError if the chunk ends after the end of its file: no plan contains such a chunk, but a message may."""
        if self.end > size:
            raise StaleMessageError(f"{self.path} ends at {size:,}, and a chunk of it cannot end at {self.end:,}")


class WholeFile(Protocol):
    """A file that is read completely, for training."""

    @property
    def columns(self) -> list[str]:
        """All columns of the file, in file order."""

    def rows(self, table_schema: TableSchema) -> Iterator[tuple[Rows, Source]]:
        """Yields all rows, checked, piece by piece, each with the source that looks up its left-out rows."""


@dataclass(frozen=True, kw_only=True)
class TrainingLimits:
    """Limits on the memory that reading a training table may take."""

    unpacked: UnpackedLimit
    count_texts: Callable[[Rows, TableSchema], None]
    """Counts the text bytes of rows of a format that stores a repeated text once; raises TableError when there are too many."""


class TableFormat(ABC):
    """A table format. Every method that reads a file raises TableError when the file is damaged."""

    kind: ClassVar[FileKind]
    is_compressed: ClassVar[bool] = False
    """True when chunks cannot be read from the file alone: the planning step writes the text of each chunk to a slice file."""
    stores_texts_once: ClassVar[bool] = False
    """True when the file stores a repeated text only once, so that the rows take more memory than the file has bytes."""

    @abstractmethod
    def columns(self, raw: IO[bytes], path: str) -> list[str]:
        """Returns the columns of a file, in file order."""

    @abstractmethod
    def cut(
        self, raw: IO[bytes], hashed: Hashing, path: str, size: ChunkSize, place: ShareOfTable, limit: UnpackedLimit
    ) -> Iterator[Sequence[Slice]]:
        """Yields the slices of a file as they are found, possibly empty batches; at the end all of ``raw`` has passed through ``hashed``.

        Raises:
            TableError: the file is damaged, or unpacks to more than ``limit``.
        """

    @abstractmethod
    def may_be_chunk(self, start: int, end: int) -> bool:
        """Returns False for a chunk that ``cut`` never produces."""

    @abstractmethod
    def open_chunk(self, chunk: ChunkSource, table_schema: TableSchema) -> AbstractContextManager[ChunkRecords]:
        """Opens the records of a chunk, which can be read while the context is open.

        Raises:
            TableError: the table was changed after planning, or is changed before all records were read.
            StaleMessageError: the chunk ends after the end of its file.
        """

    @abstractmethod
    def read_whole(self, hashed: Hashing, path: str, limits: TrainingLimits) -> WholeFile:
        """Opens a file for training; all of it has passed through ``hashed`` once its rows are read."""

    @abstractmethod
    def open_text(self, raw: Stream, path: str) -> AbstractContextManager[Stream]:
        """Opens the text of a file, unpacked as it is read; raises TableError for a format that is not text."""

    @abstractmethod
    def records(self, text: str) -> Iterator[list[str]]:
        """Yields the records of a text from ``open_text``, the header first; raises csv.Error for a quote that never closes."""

    @staticmethod
    def text_bytes(size: int) -> int:
        """Estimates the unpacked size in bytes of a file of ``size`` bytes."""
        return size


class Csv(TableFormat):
    """Comma-separated text."""

    kind: ClassVar[FileKind] = "csv"
    compression: ClassVar[Compression | None] = None
    dialect: ClassVar[Dialect] = COMMAS

    def columns(self, raw: IO[bytes], path: str) -> list[str]:
        """Implements ``TableFormat``."""
        return self._open(cast(Stream, raw), path, ChunkSize(bytes=HEADER_READ_BYTES, rows=None))[0]

    def cut(
        self, raw: IO[bytes], hashed: Hashing, path: str, size: ChunkSize, place: ShareOfTable, limit: UnpackedLimit
    ) -> Iterator[Sequence[Slice]]:
        """Implements ``TableFormat``."""
        del raw, place
        for cut in self._open(hashed, path, size, limit)[1]:
            end = cut.start + len(cut.data)
            text = cut.data if self.is_compressed else None
            yield [Slice(start=cut.start, end=end, first_line=cut.first_line, rows=cut.lines, text=text)]

    def _open(self, raw: Stream, path: str, size: ChunkSize, limit: UnpackedLimit | None = None) -> tuple[list[str], Iterator[Cut]]:
        """Returns the columns of a file and the cuts of what follows its header."""
        with self.open_text(raw, path) as text:
            columns, cuts = open_csv(LimitedText(text, limit, path) if limit and self.is_compressed else text, path, size, self.dialect)
        return columns, self._with_damage_errors(cuts, path)

    def _with_damage_errors(self, cuts: Iterator[Cut], path: str) -> Iterator[Cut]:
        with self._damage_errors(path):
            yield from cuts

    def may_be_chunk(self, start: int, end: int) -> bool:
        """Implements ``TableFormat``."""
        return end - start <= MAX_CHUNK_READ_BYTES

    @contextlib.contextmanager
    def open_chunk(self, chunk: ChunkSource, table_schema: TableSchema) -> Iterator[ChunkRecords]:
        """Implements ``TableFormat``."""
        yield CsvRecords(data=self._read(chunk), table_schema=table_schema, first_line=chunk.first_line, dialect=self.dialect)

    def _read(self, chunk: ChunkSource) -> bytes:
        if self.is_compressed:
            return chunk.unpacked()
        with chunk.opened() as raw:
            chunk.refuse_beyond(raw.seek(0, os.SEEK_END))
            raw.seek(chunk.start)
            return raw.read(chunk.end - chunk.start)

    def read_whole(self, hashed: Hashing, path: str, limits: TrainingLimits) -> WholeFile:
        """Implements ``TableFormat``."""
        columns, cuts = self._open(hashed, path, ChunkSize(bytes=MAX_CHUNK_BYTES, rows=None), limits.unpacked)
        return _WholeCsv(columns=columns, cuts=cuts, dialect=self.dialect)

    def _damage_errors(self, path: str) -> AbstractContextManager[None]:
        return self.compression.damage_errors(path) if self.compression else contextlib.nullcontext()

    @contextlib.contextmanager
    def open_text(self, raw: Stream, path: str) -> Iterator[Stream]:
        """Implements ``TableFormat``."""
        with self._damage_errors(path):
            yield self.compression.unpacked(raw) if self.compression else raw

    def records(self, text: str) -> Iterator[list[str]]:
        """Implements ``TableFormat``."""
        return csv.reader(io.StringIO(text, newline=""), delimiter=self.dialect.separator, strict=True)


@dataclass(frozen=True, kw_only=True)
class _WholeCsv:
    columns: list[str]
    cuts: Iterator[Cut]
    dialect: Dialect

    def rows(self, table_schema: TableSchema) -> Iterator[tuple[Rows, Source]]:
        for cut in self.cuts:
            data = cut.data.tobytes()
            source = csv_source(data, cut.first_line, self.columns, CLICKS, self.dialect)
            yield read_csv_rows(data, table_schema, cut.first_line, self.dialect), source


class CsvGz(Csv):
    """Comma-separated text, compressed with gzip."""

    kind: ClassVar[FileKind] = "csv.gz"
    is_compressed: ClassVar[bool] = True
    compression: ClassVar[Compression | None] = Gzip()

    @staticmethod
    def text_bytes(size: int) -> int:
        """Implements ``TableFormat``."""
        return size * TEXT_RATIO


class CsvZst(CsvGz):
    """Comma-separated text, compressed with Zstandard."""

    kind: ClassVar[FileKind] = "csv.zst"
    compression: ClassVar[Compression | None] = Zstd()


class Tsv(Csv):
    """Tab-separated text; quotes have the same meaning as in csv."""

    kind: ClassVar[FileKind] = "tsv"
    dialect: ClassVar[Dialect] = TABS


class TsvGz(CsvGz):
    """Tab-separated text, compressed with gzip."""

    kind: ClassVar[FileKind] = "tsv.gz"
    dialect: ClassVar[Dialect] = TABS


class Export(CsvGz):
    """An export of an advertising platform, read into csv text as a whole; its rows have the lines of that text."""

    kind: ClassVar[FileKind] = "export"
    compression: ClassVar[Compression | None] = None

    @contextlib.contextmanager
    def open_text(self, raw: Stream, path: str) -> Iterator[Stream]:
        """Implements ``TableFormat``."""
        yield canonical_text(raw, path)


class Parquet(TableFormat):
    """Parquet; a chunk is a range of rows."""

    kind: ClassVar[FileKind] = "parquet"
    stores_texts_once: ClassVar[bool] = True

    def columns(self, raw: IO[bytes], path: str) -> list[str]:
        """Implements ``TableFormat``."""
        with open_parquet(raw, path) as file:
            return parquet_columns(file, path)

    def cut(
        self, raw: IO[bytes], hashed: Hashing, path: str, size: ChunkSize, place: ShareOfTable, limit: UnpackedLimit
    ) -> Iterator[Sequence[Slice]]:
        """Implements ``TableFormat``."""
        del limit
        # all slices first: hashing the file takes longer
        yield [
            Slice(start=start, end=end, first_line=start + 1, rows=end - start) for start, end in cut_parquet(raw, path, size.rows, place)
        ]
        raw.seek(0)
        while hashed.read(DIGEST_BYTES):
            yield []

    def may_be_chunk(self, start: int, end: int) -> bool:
        """Implements ``TableFormat``."""
        return start < end

    @contextlib.contextmanager
    def open_chunk(self, chunk: ChunkSource, table_schema: TableSchema) -> Iterator[ChunkRecords]:
        """Implements ``TableFormat``."""
        with chunk.opened() as raw:
            known = _known_of_parquet(chunk.bucket, chunk.path, chunk.version)
            chunk.refuse_beyond(known.num_rows)
            yield parquet_records(raw, table_schema, chunk.start, chunk.end, known)

    def read_whole(self, hashed: Hashing, path: str, limits: TrainingLimits) -> WholeFile:
        """Implements ``TableFormat``."""
        raw = io.BytesIO(hashed.read())
        with open_parquet(raw, path) as file:
            return _WholeParquet(columns=file.schema_arrow.names, raw=raw, known=file.metadata, count_texts=limits.count_texts)

    def open_text(self, raw: Stream, path: str) -> AbstractContextManager[Stream]:
        """Implements ``TableFormat``."""
        raise TableError(f"{path} is not a csv table", next_step="Write its rows as csv and send them again.")

    def records(self, text: str) -> Iterator[list[str]]:
        """Implements ``TableFormat``; Parquet has no text records."""
        return iter(())


@functools.lru_cache(maxsize=1)
def _known_of_parquet(bucket: Bucket, path: str, version: str) -> pq.FileMetaData:
    """Returns the metadata of all row groups, cached: reading it takes time proportional to the file, and so does the number of chunks."""
    del version  # part of the cache key: a changed file has another version
    with bucket.open(path) as raw, open_parquet(raw, path) as file:
        return file.metadata


@dataclass(frozen=True, kw_only=True)
class _WholeParquet:
    columns: list[str]
    raw: IO[bytes]
    known: pq.FileMetaData
    count_texts: Callable[[Rows, TableSchema], None]

    def rows(self, table_schema: TableSchema) -> Iterator[tuple[Rows, Source]]:
        count = self.known.num_rows
        reader = ParquetReader(self.raw, table_schema, count, self.known)
        source = parquet_source(self.raw, table_schema.path, table_schema.columns, CLICKS)
        at_once = min(TRAINING_ROWS_AT_ONCE, rows_at_once(self.known, reader.text_bytes_of_row(0, count)))
        for start in range(0, count, at_once):
            rows = reader.rows(start, min(start + at_once, count))
            self.count_texts(rows, table_schema)
            yield rows, source


FORMATS: tuple[TableFormat, ...] = (Csv(), CsvGz(), CsvZst(), Tsv(), TsvGz(), Parquet())
"""The formats of plain tables."""
EXPORT = Export()

_BY_KIND = {form.kind: form for form in (*FORMATS, EXPORT)}


def format_of(kind: FileKind) -> TableFormat:
    """Returns the format for a kind, which comes from a file name or from a plan."""
    return _BY_KIND[kind]
