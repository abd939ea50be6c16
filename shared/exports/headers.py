"""Finds the header of an export: its first full line without numbers, below any title."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import TableError
from shared.exports.text.records import Record

MOST_LINES_ABOVE = 100
"""Records that are looked at to find the header."""
MOST_COLUMNS = 1_000
LONGEST_NAME = 200
_SHARE_OF_NAMES = 0.8
"""The share of the cells of a header that have a name, when no line is full."""
_NUMBER = re.compile(r"[<>]?\s*[-−+(]?\s*[^\w\s]{0,2}\s*[-−]?\d[\d.,'’\s]*([eE][-+]?\d+)?\s*(%|[^\w\s]{1,2}|[A-Z]{3})?\)?")
_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}\.?([T ].*)?")
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of an export."""

    place: int
    """The index of the record that is the header."""
    line: int
    cells: list[str]
    """The cells as they stand in the file, without empty ones at the end."""
    names: list[str]
    """A unique name for each column: ``Clicks (2)`` for the second column of that name."""


def is_number(cell: str) -> bool:
    """Returns True for a cell that could be a number or a date, whatever its decimal mark, currency and unit."""
    text = cell.strip()
    return _NUMBER.fullmatch(text) is not None or _DATE.fullmatch(text) is not None


def find_header(records: Sequence[Record], path: str, line: int | None = None) -> Header:
    """Finds the header among the first records of an export.

    Args:
        records: the first records, at most ``MOST_LINES_ABOVE``.
        path: the name of the file for messages.
        line: the line that a person named.

    Raises:
        TableError: there is no header, or it has too many columns.
    """
    stripped = [(at, _without_end(cells)) for at, cells in records]
    place = _stated_place(stripped, path, line) if line is not None else _found_place(stripped, path)
    at, cells = stripped[place]
    if len(cells) > MOST_COLUMNS:
        raise TableError(
            f"{path} has {len(cells):,} columns, more than the {MOST_COLUMNS:,} that are read",
            next_step="Export it again with the columns that you need.",
        )
    return Header(place=place, line=at, cells=cells, names=_unique([_name(cell, number) for number, cell in enumerate(cells, 1)]))


def _without_end(cells: Sequence[str]) -> list[str]:
    end = len(cells)
    while end and not cells[end - 1].strip():
        end -= 1
    return [cell.strip() for cell in cells[:end]]


def _stated_place(records: Sequence[Record], path: str, line: int) -> int:
    place = next((place for place, (at, cells) in enumerate(records) if at == line and len(cells) > 1), None)
    if place is None:
        raise TableError(f"line {line:,} of {path} is not a header", next_step="Correct `header_line:` in the roles file, or remove it.")
    return place


def _found_place(records: Sequence[Record], path: str) -> int:
    widths = Counter(len(cells) for _, cells in records if len(cells) > 1)
    if not widths:
        raise TableError(f"{path} is empty" if not records else f"{path} has no table", next_step="Export it again with its rows.")
    width = max(widths, key=lambda one: (widths[one], one))
    for share in (1.0, _SHARE_OF_NAMES):
        for place, (at, cells) in enumerate(records):
            if _is_header(cells, width, share):
                return place
            if 2 * len(cells) > width and sum(map(is_number, cells)) > 1:
                if share == 1.0:
                    break
                raise TableError(
                    f"{path} has no header: line {at:,} is the first row, and no line above it names all {width} columns",
                    next_step="Put one line with the names of the columns above the rows, or export the file again.",
                )
    raise TableError(
        f"{path} has no header: none of its first {len(records)} lines names all {width} columns",
        next_step="Put one line with the names of the columns above the rows, or say `header_line:` in the roles file.",
    )


def _is_header(cells: Sequence[str], width: int, share: float) -> bool:
    """Returns True for a line that could name the columns; the rows may have more of them at the end of which the header names none."""
    named = [cell for cell in cells if cell]
    if len(cells) < 2 or 2 * len(cells) <= width or len(named) < share * max(len(cells), width if share == 1.0 else 0):
        return False
    return not any(is_number(cell) for cell in named)


def _name(cell: str, number: int) -> str:
    return _SPACES.sub(" ", cell).strip()[:LONGEST_NAME] or f"column {number}"


def _unique(names: Sequence[str]) -> list[str]:
    """Returns the names, each repeated one with its number in brackets."""
    taken: set[str] = set()
    unique = []
    for name in names:
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name} ({number})", number + 1
        taken.add(candidate)
        unique.append(candidate)
    return unique
