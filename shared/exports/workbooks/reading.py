"""Reads the cells of a workbook in a process of its own."""

import itertools
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from shared.errors import TableError
from shared.exports.headers import MOST_LINES_ABOVE, find_header
from shared.exports.options import ReadOptions
from shared.exports.table import RawTable
from shared.exports.workbooks.child import MOST_SECONDS, Exit
from shared.exports.workbooks.files import check_workbook, damaged_error, password_error

ROWS_AT_ONCE = 20_000
_ROOT = Path(__file__).resolve().parents[3]
_EXPORT_AS_CSV = "Export the report as csv."

Cells = list[str | float | None]


def read_workbook(data: bytes, path: str, options: ReadOptions) -> tuple[RawTable, ReadOptions]:
    """Reads the cells of the sheet with a table, and returns them with the options that read it.

    Raises:
        TableError: the workbook is damaged, protected, too large, or has no sheet or several sheets with a table.
    """
    check_workbook(data, path)
    with tempfile.TemporaryFile() as written:
        _run(data, path, options.sheet or "", written)
        written.seek(0)
        sheet = json.loads(written.readline())
        rows = ((number, json.loads(line)) for number, line in enumerate(written, 1))
        raw = _table(rows, path, options)
    return raw, options.model_copy(update={"sheet": sheet, "header_line": raw.header.line})


def _run(data: bytes, path: str, sheet: str, written: IO[bytes]) -> None:
    command = [sys.executable, "-m", "shared.exports.workbooks.child", sheet]
    try:
        done = subprocess.run(command, input=data, stdout=written, stderr=subprocess.PIPE, cwd=_ROOT, timeout=2 * MOST_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise _too_large(path) from None
    said = done.stderr.decode(errors="replace")
    if done.returncode == Exit.DONE:
        return
    if done.returncode in (-signal.SIGABRT, -signal.SIGXCPU, -signal.SIGKILL, -signal.SIGSEGV, Exit.TOO_LARGE):
        raise _too_large(path)
    if done.returncode == Exit.PASSWORD:
        raise password_error(path)
    if done.returncode in (Exit.NO_SUCH_SHEET, Exit.NO_TABLE, Exit.MANY_TABLES):
        raise _wrong_sheet(Exit(done.returncode), json.loads(said), path, sheet)
    raise damaged_error(path, said.strip().splitlines()[-1] if said.strip() else f"its reader ended with {done.returncode}")


def _too_large(path: str) -> TableError:
    return TableError(f"{path} is a workbook whose sheet is too large to read", next_step=_EXPORT_AS_CSV)


def _wrong_sheet(code: Exit, names: Sequence[str], path: str, wanted: str) -> TableError:
    quoted = ", ".join(map(repr, names))
    if code == Exit.NO_SUCH_SHEET:
        return TableError(f"{path} has no sheet {wanted!r}; it has {quoted}", next_step="Name one of them with --sheet.")
    if code == Exit.NO_TABLE:
        what = f"the sheet {wanted!r} of {path} holds no table" if wanted else f"no sheet of {path} holds a table: {quoted}"
        return TableError(what, next_step="Export it again with its rows.")
    return TableError(f"{path} has {len(names)} sheets with a table: {quoted}", next_step="Name one of them with --sheet.")


def _table(rows: Iterator[tuple[int, Cells]], path: str, options: ReadOptions) -> RawTable:
    head = list(itertools.islice(rows, MOST_LINES_ABOVE))
    records = [(line, [_as_text(cell) for cell in cells]) for line, cells in head]
    filled = [(line, cells) for line, cells in records if any(cells)]
    header = find_header(filled, path, options.header_line)
    width = len(header.cells)
    lines: list[int] = []
    texts: list[list[pa.Array]] = [[] for _ in header.names]
    numbers: list[list[pa.Array]] = [[] for _ in header.names]
    below = itertools.chain((row for row in head if row[0] > header.line), rows)
    while some := list(itertools.islice(below, ROWS_AT_ONCE)):
        for line, cells in some:
            lines.append(line)
            if any(cell is not None for cell in cells[width:]):
                raise TableError(
                    f"row {line:,} of {path} has a cell to the right of the last column of its header, which is on row {header.line}",
                    next_step="Name that column in the header, or remove the cell.",
                )
        for place, column in zip(range(width), zip(*(row for _, row in some), strict=True), strict=False):
            texts[place].append(pa.array([cell if isinstance(cell, str) else None for cell in column], pa.string()))
            numbers[place].append(pa.array([cell if isinstance(cell, int | float) else None for cell in column], pa.float64()))
    of_numbers = [pa.chunked_array(chunks, pa.float64()) for chunks in numbers]
    return RawTable(
        header=header,
        texts=[pa.chunked_array(chunks, pa.string()) for chunks in texts],
        numbers=[column if column.null_count < len(column) else None for column in of_numbers],
        lines=np.array(lines, dtype=np.int64),
        above=[cells for line, cells in filled if line < header.line],
    )


def _as_text(cell: str | float | None) -> str:
    """A cell as the search for a header sees it."""
    return "" if cell is None else cell if isinstance(cell, str) else f"{cell:g}"
