"""Reads an export into one table of texts and numbers."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import TableError
from shared.exports.known_names import COUNTS, Concept, concept_of
from shared.exports.options import DecimalMark, ReadOptions
from shared.exports.remarks import without_remarks
from shared.exports.table import ExportTable, RawTable, Totals
from shared.exports.text.reading import read_text
from shared.exports.totals import check_row_count, compare_totals, find_totals, refuse_hidden_total
from shared.exports.values import devices, match_types
from shared.exports.values.cells import clean
from shared.exports.values.columns import TypedColumns, read_columns
from shared.exports.workbooks.files import is_workbook, refuse_other_formats
from shared.exports.workbooks.reading import read_workbook

MOST_BYTES = 256 << 20
"""The longest export that is read; reading takes about five times its size in memory."""
ENDINGS = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm", ".xls")


def read_export(path: Path, options: ReadOptions = ReadOptions()) -> ExportTable:  # noqa: B008 - frozen
    """Reads the export of a platform.

    Args:
        path: a text (csv, tsv, txt) or an Excel workbook (xlsx, xls); its content decides, not its name.
        options: what a person said about the reading; all else is found.

    Raises:
        TableError: the file cannot be read without doubt; the message says what is wrong, where, and what to do.
    """
    try:
        size = path.stat().st_size
        _check_size(size, path.name)
        data = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}", next_step="Check the path and its permissions.") from error
    return read_export_bytes(data, path.name, options)


def read_export_bytes(data: bytes, path: str, options: ReadOptions = ReadOptions()) -> ExportTable:  # noqa: B008 - frozen
    """Reads the bytes of an export; ``path`` names it in messages. Raises TableError like ``read_export``."""
    _check_size(len(data), path)
    if not data.strip():
        raise TableError(f"{path} is empty", next_step="Export it again.")
    refuse_other_formats(data, path)
    raw, found = read_workbook(data, path, options) if is_workbook(data) else read_text(data, path, options)
    return _table(raw, path, found)


def _check_size(size: int, path: str) -> None:
    if size > MOST_BYTES:
        raise TableError(
            f"{path} has {size >> 20:,} MB, more than the {MOST_BYTES >> 20} MB of an export that is read",
            next_step="Export it in parts, each a table of its own.",
        )


def _table(raw: RawTable, path: str, found: ReadOptions) -> ExportTable:
    raw = without_remarks(_without_empty(replace(raw, texts=[clean(column) for column in raw.texts])), path)
    _refuse_second_header(raw, path)
    concepts = {name: concept for name, cell in zip(raw.names, raw.header.cells, strict=True) if (concept := concept_of(cell))}
    are_totals = np.zeros(len(raw.lines), dtype=bool) if found.totals == "keep" else find_totals(raw, concepts)
    rows, totals = raw.only(~are_totals), raw.only(are_totals)
    if not len(rows.lines):
        what = "only rows of totals" if len(totals.lines) else "a header but no rows"
        raise TableError(f"{path} has {what}", next_step="Export it again with its rows.")
    typed = read_columns(rows, concepts, path, found.decimal)
    table = pa.Table.from_arrays(typed.columns, names=rows.names)
    _refuse_header_of_two_lines(rows, table, concepts, path)
    check_row_count(rows, len(totals.lines), path)
    if found.totals == "drop":
        refuse_hidden_total(table, rows.lines, concepts, path)
    compared = _compared(table, totals, concepts, path, found, typed.decimal)
    table, concepts = _with_categories(table, concepts)
    return ExportTable(
        path=path,
        table=table,
        lines=rows.lines,
        concepts=concepts,
        read=found.model_copy(update={"decimal": typed.decimal}),
        totals=compared,
        notes=[*_repeated_names(rows), *typed.notes],
    )


def _without_empty(raw: RawTable) -> RawTable:
    """Returns the rows that have a cell."""
    filled = np.zeros(len(raw.lines), dtype=bool)
    for column in raw.columns():
        filled |= pc.is_valid(column).to_numpy(zero_copy_only=False)
    return raw if filled.all() else raw.only(filled)


def _refuse_second_header(raw: RawTable, path: str) -> None:
    same = np.ones(len(raw.lines), dtype=bool)
    for cell, column in zip(raw.header.cells, raw.texts, strict=True):
        if cell and same.any():
            same &= pc.fill_null(pc.equal(column, cell), False).to_numpy(zero_copy_only=False)
    if same.any():
        raise TableError(
            f"line {int(raw.lines[same.argmax()]):,} of {path} repeats the header: the file holds more than one table",
            next_step="Divide it into one file for each table, or remove the repeated header if the rows belong together.",
        )


def _refuse_header_of_two_lines(rows: RawTable, table: pa.Table, concepts: Mapping[str, Concept], path: str) -> None:
    """Raises TableError if the first row has none of the counts that other rows have: it is the second line of the header."""
    counts = [name for name in rows.names if concepts.get(name) in COUNTS and table[name].null_count < len(table)]
    if counts and not any(table[name][0].is_valid for name in counts):
        raise TableError(
            f"line {int(rows.lines[0]):,} of {path} has no number in {counts[0]}: it looks like the second line of a header",
            next_step="Put the names of the columns into one line.",
        )


def _compared(
    table: pa.Table, totals: RawTable, concepts: Mapping[str, Concept], path: str, found: ReadOptions, decimal: DecimalMark
) -> Totals:
    lines = totals.lines.tolist()
    if not lines or found.totals != "drop":
        return Totals(lines=lines)
    numeric = [place for place, name in enumerate(table.column_names) if not pa.types.is_string(table.schema.field(name).type)]
    typed: TypedColumns = read_columns(totals.of_columns(numeric), concepts, path, decimal)
    read = pa.Table.from_arrays(typed.columns, names=[totals.names[place] for place in numeric])
    return compare_totals(table.select(numeric), read, lines, concepts, path)


def _with_categories(table: pa.Table, concepts: Mapping[str, Concept]) -> tuple[pa.Table, dict[str, Concept]]:
    """Returns the table with categories of devices, plain keywords, and a match type if only the marks of keywords tell it."""
    known = dict(concepts)
    for name in table.column_names:
        if not pa.types.is_string(table.schema.field(name).type):
            continue
        place = table.column_names.index(name)
        if known.get(name) == Concept.DEVICE or (name not in known and _looks_like_devices(table[name])):
            table = table.set_column(place, name, devices.as_categories(table[name]))
            known[name] = Concept.DEVICE
        elif known.get(name) == Concept.KEYWORD:
            plain, types = match_types.without_marks(table[name])
            table = table.set_column(place, name, plain)
            if types is not None and Concept.MATCH_TYPE not in known.values() and match_types.COLUMN not in table.column_names:
                table = table.add_column(place + 1, match_types.COLUMN, types)
                known[match_types.COLUMN] = Concept.MATCH_TYPE
    return table, known


def _looks_like_devices(values: pa.ChunkedArray) -> bool:
    return values.null_count < len(values) and devices.are_devices(values)


def _repeated_names(raw: RawTable) -> list[str]:
    return [
        f"{cell} is the name of more than one column: the later one is called {name}."
        for name, cell in zip(raw.names, raw.header.cells, strict=True)
        if cell and name != cell and name.startswith(f"{cell} (")
    ]
