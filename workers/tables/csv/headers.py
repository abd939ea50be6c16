"""Parses the header of a csv table and explains what is wrong with a line that is not a header."""

import codecs
import csv
import math
import re
from collections import Counter
from collections.abc import Collection, Sequence

from shared.errors import TableError
from shared.table_files import CHOICE
from workers.tables.csv.dialects import COMMAS, Dialect

MAX_HEADER_BYTES = 1 << 20
SHOWN_COLUMNS = 120

_SAVE_AS = "Save it again as text in UTF-8, in Excel as: CSV UTF-8 (comma delimited)."
_COMPRESSED = {b"\x1f\x8b": ("gzip", ".gz", "gunzip"), b"\x28\xb5\x2f\xfd": ("zstd", ".zst", "unzstd")}
"""The first bytes of compressed files: the name of the compression, the file extension, and the command that unpacks it."""
_IS_EXCEL = ("is an Excel workbook or a zip archive, not a csv table", "Save the sheet as: CSV UTF-8 (comma delimited).")
_OTHER_FORMATS = {
    b"PK\x03\x04": _IS_EXCEL,
    b"\xd0\xcf\x11\xe0": _IS_EXCEL,
    b"PAR1": ("is a Parquet file, but its name does not say so", "Rename it so that it ends in .parquet"),
}
"""The first bytes of files in other formats: what the file is, and what to do."""
_SEPARATOR_LINE = re.compile(r'"?sep=(.?)"?[,;\t|]*', re.IGNORECASE)
_DEVICES = frozenset(["computer", "smartphone", "tablet"])
_LOOKED_AT_BYTES = 4096


def parse_header(line: bytes, path: str, dialect: Dialect = COMMAS) -> list[str]:
    """Returns the column names of a csv file; some may be empty or duplicated, which matters only if they are needed.

    Raises:
        TableError: the line is not text, has no columns, or is a row of values.
    """
    try:
        text = line.decode("utf-8-sig").strip("\r\n")
        names = [name.strip() for name in next(csv.reader([text], delimiter=dialect.separator), [])]
    except (UnicodeDecodeError, csv.Error):
        text, names = "\0", []
    if any(ord(char) < 32 and char != "\t" for char in text) or len(line) >= MAX_HEADER_BYTES:
        raise _no_text(line, path)
    if not any(names):
        raise TableError(f"{path} has no columns: its first line is blank", next_step="Give a table that starts with its header.")
    _refuse_separator_line(text, path, dialect)
    if all(map(_is_value, filter(None, names))):
        raise _no_header(names, path)
    if dialect != COMMAS and len(names) == 1:
        raise TableError(f"{path} has one column, {_shown(names)}", next_step=f"Its columns must be separated by {dialect.separators}.")
    return names


def _no_text(line: bytes, path: str) -> TableError:
    """Returns the error for a first line that is not text."""
    start = line[:_LOOKED_AT_BYTES]
    encoding = _wide_encoding(start)
    if encoding:
        return TableError(f"{path} is text in {encoding}, and a csv table is text in UTF-8", next_step=_SAVE_AS)
    for mark, (name, ending, command) in _COMPRESSED.items():
        if start.startswith(mark) and path.lower().endswith(ending):
            return TableError(
                f"{path} is compressed with {name} twice", next_step=f"Unpack it once with {command}, and score what comes out."
            )
        if start.startswith(mark):
            return TableError(
                f"{path} is compressed with {name}, but its name does not say so", next_step=f"Rename it so that it ends in .csv{ending}"
            )
    found = next((sentence for mark, sentence in _OTHER_FORMATS.items() if start.startswith(mark)), None)
    if found is not None:
        return TableError(f"{path} {found[0]}", next_step=found[1])
    return _not_one_line_of_text(line, path)


def _not_one_line_of_text(line: bytes, path: str) -> TableError:
    is_binary = any(byte < ord(" ") and byte not in b"\t\r\n" for byte in line[:_LOOKED_AT_BYTES])
    within = line.strip(b"\r\n")
    if is_binary or not (line.endswith(b"\n") or len(line) < MAX_HEADER_BYTES):
        return TableError(f"{path} is not a csv table: its first line is not text", next_step=CHOICE)
    if b"\r" in within and b"\n" not in within:
        return TableError(f"{path} has lines that end in a carriage return alone, without a line feed", next_step=_SAVE_AS)
    if b"\n" in within:
        return TableError(f"{path} has a quote in its header that does not close on its line", next_step="Remove the quote, or close it.")
    return TableError(f"{path} is not a csv table: its first line is not text in UTF-8", next_step=_SAVE_AS)


def _wide_encoding(start: bytes) -> str:
    """Returns the name of an encoding that uses two or four bytes per letter; empty for any other."""
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)) or _has_zeros_beside(start, 4):
        return "UTF-32"  # checked first: the byte order mark of UTF-32 begins with that of UTF-16
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or _has_zeros_beside(start, 2):
        return "UTF-16"
    return ""


def _has_zeros_beside(start: bytes, width: int) -> bool:
    """Returns True for plain letters of ``width`` bytes each, of which all but one are zero."""
    letters = len(start) // width
    *most, least = sorted((start[place::width].count(0) for place in range(width)), reverse=True)
    return letters > 1 and 10 * least < letters and 10 * min(most) > 9 * letters


def _refuse_separator_line(text: str, path: str, dialect: Dialect) -> None:
    found = _SEPARATOR_LINE.fullmatch(text.strip())
    if found:
        also = "" if found[1] in ("", dialect.separator) else f", and separate the columns by {dialect.separators}"
        raise TableError(f"{path} starts with the line {text.strip()!r}, which only Excel reads", next_step=f"Remove that line{also}.")


def _is_value(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return text.lower() in _DEVICES


def _no_header(names: Sequence[str], path: str) -> TableError:
    return TableError(
        f"{path} has no header: its first line is a row of values, {_shown(names)}",
        next_step="Put a line with the names of the columns before it.",
    )


def _shown(names: Sequence[str]) -> str:
    return (", ".join(names[:6]) + (", ..." if len(names) > 6 else ""))[:SHOWN_COLUMNS]


def is_title(columns: Sequence[str]) -> bool:
    """Returns True for a first line that looks like a title above the header: a single cell, or mostly empty cells."""
    return len(columns) == 1 or 2 * sum(map(bool, columns)) < len(columns)


def missing_columns(
    missing: Sequence[str], columns: Sequence[str], path: str, otherwise: str = "Add what is missing, or choose another model."
) -> TableError:
    """Returns the error for a table that lacks these columns; it explains why the first line is not a header, if it is not.

    ``otherwise`` is the advice if the first line is a header.
    """
    named = [name for name in columns if name]
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        return _lacking(missing, columns, path, "Its columns must be separated by commas.")
    if 2 * sum(map(_is_value, named)) > len(named):
        return _no_header(columns, path)
    if is_title(columns):
        return _lacking(missing, columns, path, "Remove what stands above the header: it must be the first line.")
    name = missing[0].partition(" (")[0]
    alike = next((column for column in columns if column != name and column.lower() == name.lower()), None)
    if alike is not None:
        rule = ": names are written in lower case" if name == name.lower() else ""
        return _lacking(missing, columns, path, f"Rename {alike} to {name}{rule}.")
    return _lacking(missing, columns, path, otherwise)


def _lacking(missing: Sequence[str], columns: Sequence[str], path: str, next_step: str) -> TableError:
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return TableError(f"{path} lacks the column {missing[0]}{more}; it has {_shown(columns)}", next_step=next_step)


def refuse_doubled(needed: Collection[str], columns: Sequence[str], path: str) -> None:
    """Raises TableError when a needed column exists more than once, because the choice between them is ambiguous."""
    counts = Counter(columns)
    doubled = [name for name in needed if counts[name] > 1]
    if doubled:
        raise TableError(f"{path} has the column {doubled[0]!r} more than once", next_step="Keep one of them, or rename the others.")
