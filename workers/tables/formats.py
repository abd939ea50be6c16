"""The formats of tables: one class for each, with everything that depends on the format of a file.

``format_of`` finds the class by the kind that a plan names. A new format is one class here and one ending in ``shared/table_files.py``.
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
from workers.tables.parquet.cuts import ShareOfTable, cut_parquet, open_parquet, parquet_columns, rows_at_once
from workers.tables.parquet.pieces import parquet_records
from workers.tables.parquet.rows import ParquetReader
from workers.tables.rows import Reject, Rows
from workers.tables.schema import LABELS, TableSchema
from workers.tables.streams import Hashing, Stream
from workers.tables.training.left_out_rows import Source, csv_source, parquet_source

TRAINING_ROWS_AT_ONCE = 65_536
"""Rows of a Parquet file that are read together to train."""

DIGEST_BYTES = 1 << 20

_RATE, CLICKS, *_ = LABELS

RecordRange = tuple[int, int | None]
"""Records of a chunk from the first on to the one before the second; to its end if that is None."""


class ChunkRecords(Protocol):
    """A chunk whose records can be read together or in ranges."""

    @property
    def table_schema(self) -> TableSchema:
        """Which columns are read, and as what."""

    def count(self) -> int:
        """How many records there are."""

    def ranges(self) -> list[RecordRange]:
        """What is best read together, range after range: the values of one take little memory."""

    def rows(self, start: int = 0, end: int | None = None) -> Rows:
        """The records ``start`` to ``end`` (the last one left out), read and checked."""

    def line(self, record: int) -> int:
        """The line of the file on which a record starts; for Parquet its row, from 1."""

    def rejects(self, record: int) -> list[Reject]:
        """The rejects that a deadly record becomes."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One chunk as it is cut out of a file."""

    start: int
    """Where it starts and ends: bytes of the (unpacked) text, or rows of a Parquet file from 0."""
    end: int
    first_line: int
    """Line of the file on which it starts, from 1; for Parquet the row, from 1."""
    rows: int
    """At most so many rows are in it."""
    text: memoryview | None = None
    """What stands in it, where the file itself cannot be read from here on; overwritten when the slice after the next is cut."""


@dataclass(frozen=True, kw_only=True)
class ChunkOfFile:
    """Where a chunk lies, for a format to read it."""

    bucket: Bucket
    path: str
    version: str
    """Another one means another file."""
    start: int
    end: int
    first_line: int
    opened: Callable[[], AbstractContextManager[IO[bytes]]]
    """Opens the file; raises TableError when it is not the one that was planned, before or after it was read."""
    unpacked: Callable[[], bytes]
    """The text of a chunk of a compressed file."""

    def refuse_beyond(self, size: int) -> None:
        """Raises StaleMessageError for a chunk that ends behind the end of its file: no plan has such a one, but a message may."""
        if self.end > size:
            raise StaleMessageError(f"{self.path} ends at {size:,}, and a chunk of it cannot end at {self.end:,}")


class WholeFile(Protocol):
    """A file that is read whole, to train on it."""

    @property
    def columns(self) -> list[str]:
        """All columns of the file, in its order."""

    def rows(self, table_schema: TableSchema) -> Iterator[tuple[Rows, Source]]:
        """All rows, checked, a piece at a time, with the source in which the rows left out are looked up."""


@dataclass(frozen=True, kw_only=True)
class TrainingLimits:
    """How much a table that is read to train may take."""

    unpacked: UnpackedLimit
    count_texts: Callable[[Rows, TableSchema], None]
    """Counts the texts of rows of a format that stores a text once for many rows; raises TableError when there are too many."""


class TableFormat(ABC):
    """A format of tables. Every method that reads a file raises TableError, in one sentence, when the file is damaged."""

    kind: ClassVar[FileKind]
    is_compressed: ClassVar[bool] = False
    """True when chunks cannot be read from the file alone: the plan writes the text of each beside it."""
    stores_texts_once: ClassVar[bool] = False
    """True when a text that many rows have stands in the file once, so that rows take more memory than the file has bytes."""

    @abstractmethod
    def columns(self, raw: IO[bytes], path: str) -> list[str]:
        """The columns of a file, in its order."""

    @abstractmethod
    def cut(
        self, raw: IO[bytes], hashed: Hashing, path: str, size: ChunkSize, place: ShareOfTable, limit: UnpackedLimit
    ) -> Iterator[Sequence[Slice]]:
        """The slices of a file as they are found, none at times; at the end all of ``raw`` went through ``hashed``.

        Raises:
            TableError: the file is damaged, or unpacks to more than ``limit``.
        """

    @abstractmethod
    def may_be_chunk(self, start: int, end: int) -> bool:
        """False for a chunk that ``cut`` never makes."""

    @abstractmethod
    def open_chunk(self, chunk: ChunkOfFile, table_schema: TableSchema) -> AbstractContextManager[ChunkRecords]:
        """The records of a chunk, to be read while it is open.

        Raises:
            TableError: the table changed under the job, or does before all was read.
            StaleMessageError: the chunk ends behind the end of its file.
        """

    @abstractmethod
    def read_whole(self, hashed: Hashing, path: str, limits: TrainingLimits) -> WholeFile:
        """A file to train on; all of it has gone through ``hashed`` once its rows are read."""

    @abstractmethod
    def open_text(self, raw: Stream, path: str) -> AbstractContextManager[Stream]:
        """The text of a file, unpacked as it is read, while the context is open; TableError for a format that is no text."""

    @abstractmethod
    def records(self, text: str) -> Iterator[list[str]]:
        """The records of a text that ``open_text`` gave, the header first; raises csv.Error for a quote that never closes."""

    @staticmethod
    def text_bytes(size: int) -> int:
        """About how many bytes a file of ``size`` bytes is once it is unpacked."""
        return size


class Csv(TableFormat):
    """Csv text."""

    kind: ClassVar[FileKind] = "csv"
    compression: ClassVar[Compression | None] = None
    dialect: ClassVar[Dialect] = COMMAS

    def columns(self, raw: IO[bytes], path: str) -> list[str]:
        """See ``TableFormat``."""
        return self._open(cast(Stream, raw), path, ChunkSize(bytes=HEADER_READ_BYTES, rows=None))[0]

    def cut(
        self, raw: IO[bytes], hashed: Hashing, path: str, size: ChunkSize, place: ShareOfTable, limit: UnpackedLimit
    ) -> Iterator[Sequence[Slice]]:
        """See ``TableFormat``."""
        del raw, place
        for cut in self._open(hashed, path, size, limit)[1]:
            end = cut.start + len(cut.data)
            text = cut.data if self.is_compressed else None
            yield [Slice(start=cut.start, end=end, first_line=cut.first_line, rows=cut.lines, text=text)]

    def _open(self, raw: Stream, path: str, size: ChunkSize, limit: UnpackedLimit | None = None) -> tuple[list[str], Iterator[Cut]]:
        """The columns of a file, and the cuts of what follows its header."""
        with self.open_text(raw, path) as text:
            columns, cuts = open_csv(LimitedText(text, limit, path) if limit and self.is_compressed else text, path, size, self.dialect)
        return columns, self._refusing_damage_in(cuts, path)

    def _refusing_damage_in(self, cuts: Iterator[Cut], path: str) -> Iterator[Cut]:
        with self._refusing_damage(path):
            yield from cuts

    def may_be_chunk(self, start: int, end: int) -> bool:
        """See ``TableFormat``."""
        return end - start <= MAX_CHUNK_READ_BYTES

    @contextlib.contextmanager
    def open_chunk(self, chunk: ChunkOfFile, table_schema: TableSchema) -> Iterator[ChunkRecords]:
        """See ``TableFormat``."""
        yield CsvRecords(data=self._read(chunk), table_schema=table_schema, first_line=chunk.first_line, dialect=self.dialect)

    def _read(self, chunk: ChunkOfFile) -> bytes:
        if self.is_compressed:
            return chunk.unpacked()
        with chunk.opened() as raw:
            chunk.refuse_beyond(raw.seek(0, os.SEEK_END))
            raw.seek(chunk.start)
            return raw.read(chunk.end - chunk.start)

    def read_whole(self, hashed: Hashing, path: str, limits: TrainingLimits) -> WholeFile:
        """See ``TableFormat``."""
        columns, cuts = self._open(hashed, path, ChunkSize(bytes=MAX_CHUNK_BYTES, rows=None), limits.unpacked)
        return _WholeCsv(columns=columns, cuts=cuts, dialect=self.dialect)

    def _refusing_damage(self, path: str) -> AbstractContextManager[None]:
        return self.compression.refusing_damage(path) if self.compression else contextlib.nullcontext()

    @contextlib.contextmanager
    def open_text(self, raw: Stream, path: str) -> Iterator[Stream]:
        """See ``TableFormat``."""
        with self._refusing_damage(path):
            yield self.compression.unpacked(raw) if self.compression else raw

    def records(self, text: str) -> Iterator[list[str]]:
        """See ``TableFormat``."""
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
    """Csv text in gzip."""

    kind: ClassVar[FileKind] = "csv.gz"
    is_compressed: ClassVar[bool] = True
    compression: ClassVar[Compression | None] = Gzip()

    @staticmethod
    def text_bytes(size: int) -> int:
        """See ``TableFormat``."""
        return size * TEXT_RATIO


class CsvZst(CsvGz):
    """Csv text in Zstandard."""

    kind: ClassVar[FileKind] = "csv.zst"
    compression: ClassVar[Compression | None] = Zstd()


class Tsv(Csv):
    """Text whose values are separated by tabs; quotes mean what they do in csv."""

    kind: ClassVar[FileKind] = "tsv"
    dialect: ClassVar[Dialect] = TABS


class TsvGz(CsvGz):
    """Tab separated text in gzip."""

    kind: ClassVar[FileKind] = "tsv.gz"
    dialect: ClassVar[Dialect] = TABS


class Parquet(TableFormat):
    """Parquet; its chunks are ranges of rows."""

    kind: ClassVar[FileKind] = "parquet"
    stores_texts_once: ClassVar[bool] = True

    def columns(self, raw: IO[bytes], path: str) -> list[str]:
        """See ``TableFormat``."""
        with open_parquet(raw, path) as file:
            return parquet_columns(file, path)

    def cut(
        self, raw: IO[bytes], hashed: Hashing, path: str, size: ChunkSize, place: ShareOfTable, limit: UnpackedLimit
    ) -> Iterator[Sequence[Slice]]:
        """See ``TableFormat``."""
        del limit
        # all at once: the digest takes its time
        yield [
            Slice(start=start, end=end, first_line=start + 1, rows=end - start) for start, end in cut_parquet(raw, path, size.rows, place)
        ]
        raw.seek(0)
        while hashed.read(DIGEST_BYTES):
            yield []

    def may_be_chunk(self, start: int, end: int) -> bool:
        """See ``TableFormat``."""
        return start < end

    @contextlib.contextmanager
    def open_chunk(self, chunk: ChunkOfFile, table_schema: TableSchema) -> Iterator[ChunkRecords]:
        """See ``TableFormat``."""
        with chunk.opened() as raw:
            known = _known_of_parquet(chunk.bucket, chunk.path, chunk.version)
            chunk.refuse_beyond(known.num_rows)
            yield parquet_records(raw, table_schema, chunk.start, chunk.end, known)

    def read_whole(self, hashed: Hashing, path: str, limits: TrainingLimits) -> WholeFile:
        """See ``TableFormat``."""
        raw = io.BytesIO(hashed.read())
        with open_parquet(raw, path) as file:
            return _WholeParquet(columns=file.schema_arrow.names, raw=raw, known=file.metadata, count_texts=limits.count_texts)

    def open_text(self, raw: Stream, path: str) -> AbstractContextManager[Stream]:
        """See ``TableFormat``."""
        raise TableError(f"{path} is not a csv table", next_step="Write its rows as csv and send them again.")

    def records(self, text: str) -> Iterator[list[str]]:
        """See ``TableFormat``; there are none."""
        return iter(())


@functools.lru_cache(maxsize=1)
def _known_of_parquet(bucket: Bucket, path: str, version: str) -> pq.FileMetaData:
    """What the end of a Parquet file says of all its row groups: read once, for it grows with the file, and so does the count of chunks."""
    del version  # a changed file is another one
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
"""Every format that is read."""

_BY_KIND = {form.kind: form for form in FORMATS}


def format_of(kind: FileKind) -> TableFormat:
    """The format of a file, by the kind that its name promises or a plan names."""
    return _BY_KIND[kind]
