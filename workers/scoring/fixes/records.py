"""The records of a chunk in which fixed rows replace rejects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shared.jobs.folder import JobFolder
from workers.scoring.fixes.files import FixedRow, FixedRows, encode, left_file, read_fixed
from workers.scoring.fixes.fixed_rows import LINE
from workers.tables import output, schema
from workers.tables import rows as table_rows
from workers.tables.csv import rows as csv_rows
from workers.tables.formats import ChunkRecords, RecordRange


def fixed_records(folder: JobFolder, index: int, chunk_records: ChunkRecords) -> ChunkRecords:
    """Returns the records of a chunk with the fixed rows in their places; unchanged if nothing in the chunk was fixed."""
    fixed = read_fixed(folder, index)
    if fixed is None:
        return chunk_records
    left = output.read_rejects(output.decompress(folder.bucket.read(left_file(folder, index)) or b""))
    return FixedRecords(chunk_records=chunk_records, fixed=fixed, left=left)


@dataclass(frozen=True, kw_only=True)
class FixedRecords:
    """A chunk in which fixed rows replace rejects; the other rejects remain."""

    chunk_records: ChunkRecords
    fixed: Mapping[int, FixedRow]
    left: Sequence[table_rows.Reject]

    @property
    def table_schema(self) -> schema.TableSchema:
        return self.chunk_records.table_schema

    def count(self) -> int:
        return self.chunk_records.count()

    def ranges(self) -> list[RecordRange]:
        return self.chunk_records.ranges()

    def line(self, record: int) -> int:
        return self.chunk_records.line(record)

    def rejects(self, record: int) -> list[table_rows.Reject]:
        # a record over several lines, joined by a stray quote, may have been fixed as several rows
        fixed, left = self._between(record, record + 1)
        poison = [table_rows.poison_reject(line, ",".join(row.values)) for line, row in fixed.items()]
        return [*poison, *left] or self.chunk_records.rejects(record)

    def _between(self, start: int, end: int | None) -> tuple[FixedRows, list[table_rows.Reject]]:
        """Returns the fixed rows and the remaining rejects on the lines of these records."""
        whole = end is None or end == self.count()
        first, after = self.line(start), None if whole or end is None else self.line(end)

        def is_here(line: int) -> bool:
            return first <= line and (after is None or line < after)

        fixed = {line: row for line, row in self.fixed.items() if is_here(line)}
        return fixed, [reject for reject in self.left if is_here(reject.line)]

    def rows(self, start: int = 0, end: int | None = None) -> table_rows.Rows:
        fixed, left = self._between(start, end)
        others = table_rows.without_lines(self.chunk_records.rows(start, end), {*fixed, *(reject.line for reject in left)})
        return table_rows.merged(others, self._read(fixed), left)

    def _read(self, fixed: Mapping[int, FixedRow]) -> table_rows.Rows:
        table_schema = replace(self.table_schema, columns=[LINE, *self.table_schema.read])
        rows = sorted(fixed.items())
        text = encode([line, *row.values, *(row.clicks for _ in table_schema.clicks)] for line, row in rows)
        return table_rows.moved(csv_rows.read_csv_rows(text, table_schema, 1), np.array([line for line, _ in rows], dtype=np.int64))
