"""The records of a chunk of csv text, read together or in ranges."""

import functools
from dataclasses import dataclass

from workers.tables.csv.dialects import COMMAS, Dialect
from workers.tables.csv.records import record_ends
from workers.tables.csv.rows import read_csv_rows
from workers.tables.rows import Reject, Rows, poison_reject
from workers.tables.schema import TableSchema


@dataclass(frozen=True, kw_only=True)
class CsvRecords:
    """A chunk of a csv file in memory."""

    data: bytes
    table_schema: TableSchema
    first_line: int
    dialect: Dialect = COMMAS

    @functools.cached_property
    def _ends(self) -> list[int]:
        return [0, *record_ends(self.data, self.dialect, final=True).tolist()]

    def count(self) -> int:
        return len(self._ends) - 1

    def ranges(self) -> list[tuple[int, int | None]]:
        return [(0, None)]

    def rows(self, start: int = 0, end: int | None = None) -> Rows:
        if end is None:
            return read_csv_rows(self.data, self.table_schema, self.first_line, self.dialect)
        return read_csv_rows(self.data[self._ends[start] : self._ends[end]], self.table_schema, self.line(start), self.dialect)

    def line(self, record: int) -> int:
        return self.first_line + self.data.count(b"\n", 0, self._ends[record])

    def rejects(self, record: int) -> list[Reject]:
        shown = self.data[self._ends[record] : self._ends[record + 1]].decode("utf-8", errors="replace").strip()
        return [poison_reject(self.line(record), shown)]
