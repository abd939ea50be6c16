"""Reads rows from a Parquet file."""

from collections.abc import Iterator
from dataclasses import replace
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.errors import TableError
from workers.tables.arrow_columns import from_arrow, is_text, read_texts
from workers.tables.packed_flags import pack, unpack
from workers.tables.parquet.cuts import bytes_of_row, open_parquet, parquet_errors
from workers.tables.rows import Rows, check_rows
from workers.tables.schema import TableSchema
from workers.tables.values import Values

PARQUET_ROWS_AT_ONCE, PARQUET_BYTES_AT_ONCE = 16384, 10 << 20
"""What Arrow decodes together, whichever is reached first: more takes several times its size in memory, less takes more time."""

SPARE_OF_MEAN = 4
"""The text of a row is estimated as this many times the mean length in its row group."""


class ParquetReader:
    """Reads the rows of a Parquet file before row ``end``, range by range. Its lines are rows, counted from 1.

    Arrow decodes a row group from its start; a range that starts where the previous one ended continues the decoding. The metadata is not
    read again if it is ``known``.
    """

    def __init__(self, raw: IO[bytes], table_schema: TableSchema, end: int, known: pq.FileMetaData | None = None) -> None:
        self._table_schema, self._end = table_schema, end
        known = known or open_parquet(raw, table_schema.path).metadata
        with parquet_errors(table_schema.path):
            kinds = known.schema.to_arrow_schema()
            kind_of = dict(zip(kinds.names, kinds.types, strict=True))
            texts = [name for name in table_schema.read if name in kind_of and is_text(kind_of[name])]
        self._texts = [*table_schema.texts, *(name for name in table_schema.clicks if name in texts)]
        self._file = open_parquet(raw, table_schema.path, known, texts=texts)
        schema = self._file.schema_arrow
        self._run = tuple(
            column.name
            for column in [*table_schema.wanted, *table_schema.extra]
            if column.type == "binary" and pa.types.is_integer(schema.field(column.name).type)
        )
        """Binary integer columns, which are packed into one block."""
        self._decoded: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None
        """The decoded rows that belong to the next range."""
        self._at: int | None = None

    def text_bytes_of_row(self, start: int, end: int) -> int:
        """Estimates the bytes of text in a row: the longest text of a dictionary, or the mean of the others times ``SPARE_OF_MEAN``.

        Raises:
            TableError: a page of the file is damaged.
        """
        with parquet_errors(self._table_schema.path):
            return sum(self._longest_text(name, start, end) for name in self._texts)

    def _longest_text(self, name: str, start: int, end: int) -> int:
        found, longest, at = self._file.metadata, 0, 0
        for group in range(found.num_row_groups):
            rows = found.row_group(group).num_rows
            if at < end and start < at + rows:
                mean = _bytes_of_column(found.row_group(group), name) // max(rows, 1)
                longest = max(longest, SPARE_OF_MEAN * mean, self._longest_in_dictionary(name, group))
            at += rows
        return longest

    def _longest_in_dictionary(self, name: str, group: int) -> int:
        batch = next(self._file.iter_batches(batch_size=1, row_groups=[group], columns=[name], use_threads=False), None)
        column = batch.column(0) if batch is not None else None
        if not isinstance(column, pa.DictionaryArray) or not is_text(column.type.value_type):
            return 0
        return pc.max(pc.binary_length(column.dictionary)).as_py() or 0

    def rows(self, start: int, end: int) -> Rows:
        """Reads and checks the rows ``start`` to ``end`` (from 0, exclusive).

        Raises:
            TableError: a page of the file is damaged, or some of these rows are missing.
        """
        with parquet_errors(self._table_schema.path):
            values = self._read(start, end)
            if values is None and self._run:
                # the run holds values other than 0 and 1: read its columns like all others from here on
                self._run, self._at = (), None
                values = self._read(start, end)
        if values is None or values.count != end - start:
            raise TableError(
                f"{self._table_schema.path} holds fewer rows than it says", next_step="Write it again; it may have been damaged."
            )
        return check_rows(values, self._table_schema, lambda: np.arange(start, end) + 1, [])

    def _read(self, start: int, end: int) -> "Values | None":
        """Reads rows without checking them. Returns None if there are none, or if a column of the run holds more than 0 and 1."""
        table_schema, run = self._table_schema, self._run
        rest = table_schema.without(run)
        spare = len(table_schema.flags)
        packed: list[np.ndarray] = []
        batches: list[pa.RecordBatch] = []
        for batch in self._batches(start, end):
            if run:
                flags = _packed(batch.select([*run]), spare)
                if flags is None:
                    return None
                packed.append(flags)
            batches.append(batch.select(rest.read))
        if not batches:
            return None
        table = pa.Table.from_batches(batches)

        def shown(row: int, name: str) -> str:
            column = table.column(name).slice(row, 1)
            (text,) = read_texts(column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column)
            return text or ""

        values = from_arrow(table, rest, shown)
        return replace(values, run=run, binary=unpack(packed, spare + len(run))) if run else values

    def _batches(self, start: int, end: int) -> Iterator[pa.RecordBatch]:
        """Yields the rows ``start`` to ``end`` in batches."""
        if start != self._at:
            self._decoded, self._rest, self._at = self._decode(start), None, start
        while self._at < end:
            batch = next(self._decoded, None) if self._rest is None else self._rest
            if batch is None:
                return
            count = min(end - self._at, batch.num_rows)
            self._rest = batch.slice(count) if count < batch.num_rows else None
            self._at += count
            yield batch.slice(0, count)
        if end >= self._end:
            # free the decoder's memory while the rows are scored
            self._decoded, self._rest = iter(()), None

    def _decode(self, start: int) -> Iterator[pa.RecordBatch]:
        """Yields all rows from ``start`` on; reads only the row groups that contain some of them."""
        groups, at, skipped = [], 0, 0
        for group in range(self._file.metadata.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            if at + count <= start:
                skipped += count
            elif at < self._end:
                groups.append(group)
            at += count
        names = [*self._table_schema.without(self._run).read, *self._run]
        at_once = min(PARQUET_ROWS_AT_ONCE, max(PARQUET_BYTES_AT_ONCE // bytes_of_row(self._file.metadata), 1))
        for batch in self._file.iter_batches(batch_size=at_once, row_groups=groups, columns=names, use_threads=False):
            _check_dictionaries(batch)
            first = max(start - skipped, 0)
            if first < batch.num_rows:
                yield batch.slice(first)
            skipped += batch.num_rows


def _check_dictionaries(batch: pa.RecordBatch) -> None:
    """Raises ArrowInvalid when a row refers to a text that its dictionary does not have: Arrow itself does not check this."""
    for column in batch.columns:
        if isinstance(column, pa.DictionaryArray):
            places = pc.min_max(column.indices)
            least, most = places["min"].as_py(), places["max"].as_py()
            if least is not None and not 0 <= least <= most < len(column.dictionary):
                raise pa.ArrowInvalid("a page of it is damaged")


def _bytes_of_column(group: pq.RowGroupMetaData, name: str) -> int:
    columns = (group.column(place) for place in range(group.num_columns))
    return next((column.total_uncompressed_size for column in columns if column.path_in_schema == name), 0)


def _packed(batch: pa.RecordBatch, spare: int) -> np.ndarray | None:
    """Packs integer columns into bits; returns None if a value is missing, or neither 0 nor 1."""
    if any(column.null_count for column in batch.columns):
        return None
    if len({column.type for column in batch.columns}) > 1:
        # a common tensor would be as wide as the widest type
        try:
            batch = pa.RecordBatch.from_arrays([column.cast(pa.uint8()) for column in batch.columns], names=batch.schema.names)
        except pa.ArrowInvalid:
            return None
    return pack(batch.to_tensor(row_major=False).to_numpy().T, spare=spare)
