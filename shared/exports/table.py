"""The table that an export is read into."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shared.exports.headers import Header
from shared.exports.known_names import Concept
from shared.exports.options import ReadOptions

ROW_GROUP_ROWS = 50_000


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """The cells of an export before their values are read; every column has as many cells as ``lines``."""

    header: Header
    texts: list[pa.ChunkedArray]
    """The cells as texts; null is an empty cell."""
    numbers: list[pa.ChunkedArray | None]
    """The cells that a workbook stores as numbers, null elsewhere; None for a column without such cells."""
    lines: np.ndarray
    """The line of the file on which each row starts, from 1."""
    above: list[list[str]] = field(default_factory=list)
    """The records above the header."""

    @property
    def names(self) -> list[str]:
        """The unique names of the columns, in file order."""
        return self.header.names

    def columns(self) -> Iterator[pa.ChunkedArray]:
        """Yields all columns that hold cells: of a column of a workbook its texts and its numbers."""
        yield from self.texts
        yield from (column for column in self.numbers if column is not None)

    def first_text(self, row: int) -> str:
        """Returns the first text of a row, empty if it has none."""
        return next((text for column in self.texts if (text := column[row].as_py()) is not None), "")

    def of_columns(self, places: Sequence[int]) -> "RawTable":
        """Returns the columns at these places."""
        header = replace(self.header, cells=[self.header.cells[n] for n in places], names=[self.names[n] for n in places])
        return replace(self, header=header, texts=[self.texts[n] for n in places], numbers=[self.numbers[n] for n in places])

    def only(self, mask: np.ndarray) -> "RawTable":
        """Returns the rows of a mask."""
        kept = pa.array(mask)
        texts = [column.filter(kept) for column in self.texts]
        numbers = [None if column is None else column.filter(kept) for column in self.numbers]
        return replace(self, texts=texts, numbers=numbers, lines=self.lines[mask])


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The rows of totals that were left out."""

    lines: list[int]
    agreeing: Mapping[str, float] = field(default_factory=dict)
    """Name of a column -> its sum over the rows, which is also what a row of totals says."""


@dataclass(frozen=True, kw_only=True)
class ExportTable:
    """An export as one table: texts are strings, numbers are doubles or whole numbers, missing values are null."""

    path: str
    table: pa.Table
    lines: np.ndarray
    """The line of the file on which each row starts, from 1."""
    concepts: Mapping[str, Concept]
    """Name of a column -> what the platforms call so; only known names."""
    read: ReadOptions
    """How the file was read; the same options read it again without looking for them."""
    totals: Totals
    notes: Sequence[str] = ()
    """What a person should know, one sentence each."""

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return list(self.table.column_names)

    def named(self, concept: Concept) -> list[str]:
        """Returns the columns with a known meaning, in file order."""
        return [name for name in self.names if self.concepts.get(name) == concept]

    def write_parquet(self, file: IO[bytes]) -> None:
        """Writes the table as Parquet; equal tables give equal bytes."""
        pq.write_table(self.table, file, compression="zstd", row_group_size=ROW_GROUP_ROWS)
