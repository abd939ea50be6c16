"""Reads the records of a text."""

import csv
import itertools
from collections.abc import Iterator

from shared.errors import TableError
from shared.exports.text.separators import Layout

Record = tuple[int, list[str]]
"""The line on which a record starts, from 1, and its cells."""


def read_records(text: str, layout: Layout, path: str) -> Iterator[Record]:
    """Yields the records of a text that are not empty lines.

    Raises:
        TableError: a quote never closes, or a cell is longer than 131,072 characters.
    """
    lines = itertools.islice(_lines(text), layout.first, None)
    reader = csv.reader(lines, delimiter=layout.separator, strict=True)
    before = layout.first
    try:
        for cells in reader:
            if cells:
                yield before + 1, cells
            before = layout.first + reader.line_num
    except csv.Error as error:
        raise TableError(
            f"line {before + 1:,} of {path} cannot be divided into cells: {error}", next_step="Correct that line, or export it again."
        ) from None


def _lines(text: str) -> Iterator[str]:
    """Yields the lines of a text; a file object over it would take four bytes for each character."""
    end = "\n" if "\n" in text else "\r"
    start = 0
    while start < len(text):
        after = text.find(end, start) + 1 or len(text)
        yield text[start:after]
        start = after
