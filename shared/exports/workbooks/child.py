"""The process that reads a workbook: the workbook on standard input, the rows of one sheet as lines of JSON on standard output.

A workbook of a few kB can name a cell in the last row and column, whose sheet would take 400 GB, so the process has limits on memory and
time. It imports neither numpy nor pyarrow, which reserve more address space than it may use.
"""

import io
import json
import resource
import sys
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from enum import IntEnum

MOST_MEMORY_BYTES = 4 << 30
MOST_SECONDS = 120
MOST_CELLS = 100_000_000
_FEWEST_ROWS = 2


class Exit(IntEnum):
    """The exit codes; standard error holds the rest of the message."""

    DONE = 0
    DAMAGED = 10
    PASSWORD = 11
    NO_SUCH_SHEET = 12
    NO_TABLE = 13
    MANY_TABLES = 14
    TOO_LARGE = 15


def main() -> int:
    """Reads the workbook; the first argument is the name of the sheet, or empty."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    data = sys.stdin.buffer.read()
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError  # noqa: PLC0415 - only once the limits are set

    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        return _write_sheet(workbook, sys.argv[1])
    except PasswordError:
        return Exit.PASSWORD
    except MemoryError:
        return Exit.TOO_LARGE
    except (CalamineError, OSError, ValueError, IndexError) as error:
        sys.stderr.write(" ".join(str(error).split())[:200])
        return Exit.DAMAGED


def _write_sheet(workbook: "object", wanted: str) -> int:
    names: list[str] = workbook.sheet_names  # type: ignore[attr-defined]
    if wanted and wanted not in names:
        sys.stderr.write(json.dumps(names))
        return Exit.NO_SUCH_SHEET
    found = []
    for name in [wanted] if wanted else names:
        sheet = workbook.get_sheet_by_name(name)  # type: ignore[attr-defined]
        if sheet.total_height * sheet.total_width > MOST_CELLS:
            return Exit.TOO_LARGE
        if sheet.height >= _FEWEST_ROWS and sheet.width >= 2:
            found.append((name, sheet))
    if len(found) != 1:
        sys.stderr.write(json.dumps([name for name, _ in found] or names))
        return Exit.MANY_TABLES if found else Exit.NO_TABLE
    name, sheet = found[0]
    print(json.dumps(name))  # noqa: T201
    for row in _rows(sheet):
        print(json.dumps(row, ensure_ascii=False))  # noqa: T201
    return Exit.DONE


def _rows(sheet: "object") -> Iterator[list[str | float | None]]:
    for row in sheet.to_python(skip_empty_area=False):  # type: ignore[attr-defined]
        yield [_cell(value) for value in row]


def _cell(value: object) -> str | float | None:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return value
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    return str(value).replace("\r\n", "\n") or None


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.exit(main())
