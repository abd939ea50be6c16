"""Prints lists of records at the width of a terminal: all text of a record is shown, and no id is folded."""

import textwrap
from collections.abc import Collection, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from producers.display.consoles import cell, print_line
from shared.text.plain import plain

GAP = 2
LEAST_FOLDED = 40
"""The smallest width of a column that may be folded; in less, prose becomes a column of single words."""
INDENT = "  "


def print_list(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], *, whole: Collection[str] = ()) -> None:
    """Prints a line for each record under the column names; columns in ``whole`` are never folded.

    If the terminal is too narrow, the widest columns of a record are printed below its line, each with its name.
    """
    cells = [[plain(value) for value in row] for row in rows]
    widths = [max(map(cell_len, [name, *(row[index] for row in cells)])) for index, name in enumerate(columns)]
    foldable = [index for index, name in enumerate(columns) if name not in whole]
    room = console.width - _width([width for index, width in enumerate(widths) if index not in foldable]) - GAP * len(foldable)
    if _width(widths) <= console.width or (len(foldable) == 1 and room >= LEAST_FOLDED):
        console.print(_table(columns, cells, whole))
    else:
        _print_blocks(console, columns, cells, widths)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], whole: Collection[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(cell(name), overflow="fold", no_wrap=name in whole)
    for row in rows:
        table.add_row(*map(cell, row))
    return table


def _print_blocks(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> None:
    beside = _fitting(widths, console.width)
    below = [index for index in range(len(columns)) if index not in beside]
    print_line(console, _line(columns, beside, widths), style="bold")
    for row in rows:
        print_line(console, _line(row, beside, widths))
        for index in below:
            if row[index]:
                _print_below(console, columns[index], row[index])


def _fitting(widths: Sequence[int], room: int) -> list[int]:
    """The columns on the line of a record: the first one, and as many of the others as fit, the narrowest first."""
    beside = list(range(len(widths)))
    while len(beside) > 1 and _width([widths[index] for index in beside]) > room:
        beside.remove(max(beside[1:], key=lambda index: (widths[index], index)))
    return beside


def _line(row: Sequence[str], columns: Sequence[int], widths: Sequence[int]) -> str:
    padded = (row[index] + " " * (widths[index] - cell_len(row[index])) for index in columns)
    return (" " * GAP).join(padded).rstrip()


def _print_below(console: Console, name: str, value: str) -> None:
    """Prints a value with its column name; long words, such as ids and paths, are left whole for the terminal to wrap."""
    text = f"{name}: {value}" if name else value
    width = max(console.width - len(INDENT), 1)
    for line in textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False, subsequent_indent=INDENT):
        print_line(console, f"{INDENT}{line}")


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * max(len(widths) - 1, 0)
