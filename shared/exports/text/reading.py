"""Reads the cells of a text export."""

import itertools
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from shared.errors import TableError
from shared.exports.headers import MOST_LINES_ABOVE, Header, find_header
from shared.exports.options import ReadOptions
from shared.exports.table import RawTable
from shared.exports.text.encodings import decode
from shared.exports.text.records import Record, read_records
from shared.exports.text.separators import find_layout
from shared.exports.totals import is_total_label

ROWS_AT_ONCE = 20_000


def read_text(data: bytes, path: str, options: ReadOptions) -> tuple[RawTable, ReadOptions]:
    """Reads the cells of a text, and returns them with the options that read it.

    Raises:
        TableError: it is not text, has no columns or no header, or a line has another number of cells than the header.
    """
    text, encoding = decode(data, path, options.encoding)
    layout = find_layout(text, path, options.separator)
    records = read_records(text, layout, path)
    head = list(itertools.islice(records, MOST_LINES_ABOVE))
    header = find_header(head, path, options.header_line)
    columns = _Columns(header, path)
    columns.add(itertools.chain(head[header.place + 1 :], records))
    found = options.model_copy(update={"encoding": encoding, "separator": layout.separator, "header_line": header.line})
    return columns.table([cells for _, cells in head[: header.place]]), found


class _Columns:
    """The columns of a table, filled with records."""

    def __init__(self, header: Header, path: str) -> None:
        self._header, self._path, self._width = header, path, len(header.cells)
        self._chunks: list[list[pa.Array]] = [[] for _ in header.names]
        self._lines = array("q")
        self._rows: list[Sequence[str]] = []

    def add(self, records: Iterable[Record]) -> None:
        """Adds the records below the header."""
        for line, record in records:
            cells = record if len(record) == self._width else self._fitted(line, record)
            if cells is None:
                continue
            self._rows.append(cells)
            self._lines.append(line)
            if len(self._rows) == ROWS_AT_ONCE:
                self._flush()
        self._flush()

    def _fitted(self, line: int, record: Sequence[str]) -> Sequence[str] | None:
        """Returns a record with as many cells as the header, or None for an empty line."""
        filled = [place for place, cell in enumerate(record) if cell.strip()]
        if not filled:
            return None
        if filled[-1] < self._width < len(record):
            return record[: self._width]
        # a line of totals, or a remark below the table, may be short
        if len(record) < self._width and (len(filled) == 1 or is_total_label(record[filled[0]])):
            return [*record, *[""] * (self._width - len(record))]
        raise TableError(
            f"line {line:,} of {self._path} has {len(record)} cells, but its header on line {self._header.line} has {self._width}",
            next_step="Export it again, or correct that line: a cell that holds the separator stands in quotes.",
        )

    def _flush(self) -> None:
        for chunks, cells in zip(self._chunks, zip(*self._rows, strict=True), strict=False):
            chunks.append(pa.array(cells, pa.string()))
        self._rows.clear()

    def table(self, above: list[list[str]]) -> RawTable:
        """Returns the table; ``above`` are the records above its header."""
        texts = [pa.chunked_array(chunks, pa.string()) for chunks in self._chunks]
        lines = np.frombuffer(self._lines, dtype=np.int64) if self._lines else np.zeros(0, dtype=np.int64)
        return RawTable(header=self._header, texts=texts, numbers=[None] * len(texts), lines=lines, above=above)
