"""The records of a chunk of a Parquet file, read together or in ranges."""

import itertools
from dataclasses import dataclass
from typing import IO

import pyarrow.parquet as pq

from workers.tables.parquet.cuts import rows_at_once
from workers.tables.parquet.rows import ParquetReader
from workers.tables.rows import Reject, Rows, poison_reject
from workers.tables.schema import TableSchema


@dataclass(frozen=True, kw_only=True)
class ParquetRecords:
    """A chunk of a Parquet file, read on demand."""

    reader: ParquetReader
    table_schema: TableSchema
    start: int
    end: int
    rows_at_once: int

    def count(self) -> int:
        return self.end - self.start

    def ranges(self) -> list[tuple[int, int | None]]:
        ranges = -(-self.count() // self.rows_at_once)
        bounds = [self.count() * number // ranges for number in range(ranges + 1)]
        return list(itertools.pairwise(bounds))

    def rows(self, start: int = 0, end: int | None = None) -> Rows:
        return self.reader.rows(self.start + start, self.end if end is None else self.start + end)

    def line(self, record: int) -> int:
        return self.start + record + 1

    def rejects(self, record: int) -> list[Reject]:
        return [poison_reject(self.line(record), "")]


def parquet_records(raw: IO[bytes], table_schema: TableSchema, start: int, end: int, known: pq.FileMetaData) -> ParquetRecords:
    """Returns the records of the rows ``start`` to ``end`` of an open Parquet file whose metadata is ``known``."""
    reader = ParquetReader(raw, table_schema, end, known)
    at_once = rows_at_once(known, reader.text_bytes_of_row(start, end))
    return ParquetRecords(reader=reader, table_schema=table_schema, start=start, end=end, rows_at_once=at_once)
