"""Decides which columns are numbers and reads them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.errors import TableError
from shared.exports.known_names import COUNTS, NUMBERS, Concept
from shared.exports.options import DecimalMark
from shared.exports.table import RawTable
from shared.exports.values.cells import NOT_AVAILABLE, clean, first_place
from shared.exports.values.decimal_marks import find_decimal_mark
from shared.exports.values.numbers import NumberTexts, as_whole_numbers, number_texts

_TEXTS = frozenset(Concept) - NUMBERS
_SHOWN_CHARACTERS = 60
_MOSTLY = 0.5
_LOST_DIGITS = 2.0**53


@dataclass(frozen=True, kw_only=True)
class TypedColumns:
    """The columns of a table with their values read."""

    columns: list[pa.ChunkedArray]
    decimal: DecimalMark
    notes: list[str]


def read_columns(raw: RawTable, concepts: Mapping[str, Concept], path: str, decimal: DecimalMark | None) -> TypedColumns:
    """Reads the values of all columns.

    Args:
        raw: the rows without totals, with cleaned cells.
        concepts: the known names among the columns.
        path: the name of the file for messages.
        decimal: the decimal mark that a person named; None finds it.

    Raises:
        TableError: the file has two decimal marks, or a known column of numbers holds something else.
    """
    candidates = {}
    for name, texts in zip(raw.names, raw.texts, strict=True):
        if concepts.get(name) in _TEXTS:
            continue
        column = number_texts(_without_words(texts) if _words_are_missing(concepts.get(name)) else texts)
        if concepts.get(name) in NUMBERS or column.are_numbers:
            candidates[name] = column
    stated = decimal is not None
    mark: DecimalMark = decimal or find_decimal_mark(candidates, concepts, raw.lines, path)
    notes: list[str] = []
    columns = []
    for place, name in enumerate(raw.names):
        reading = _Column(raw, place, concepts.get(name), path, notes)
        columns.append(reading.read(candidates.get(name), mark, is_stated=stated))
    return TypedColumns(columns=columns, decimal=mark, notes=notes)


def _words_are_missing(concept: Concept | None) -> bool:
    return concept in NUMBERS and concept not in COUNTS


def _without_words(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    words = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(NOT_AVAILABLE))
    return pc.if_else(words, pa.scalar(None, pa.string()), texts)


class _Column:
    """One column that is read."""

    def __init__(self, raw: RawTable, place: int, concept: Concept | None, path: str, notes: list[str]) -> None:
        self._name, self._texts, self._numbers = raw.names[place], raw.texts[place], raw.numbers[place]
        self._lines, self._concept, self._path, self._notes = raw.lines, concept, path, notes
        self._is_known = concept in NUMBERS

    def read(self, candidate: NumberTexts | None, mark: DecimalMark, *, is_stated: bool) -> pa.ChunkedArray:
        has_texts = self._texts.null_count < len(self._texts)
        if candidate is None and (has_texts or self._numbers is None or self._concept in _TEXTS):
            return self._as_texts()
        numbers = self._numbers
        if candidate is not None and has_texts:
            parsed = self._parsed(candidate, mark, is_stated=is_stated)
            if parsed is None:
                return self._as_texts()
            numbers = parsed if numbers is None else pc.coalesce(numbers, parsed)
        if numbers is None:
            numbers = pa.chunked_array([pa.nulls(len(self._texts), pa.float64())])
        return self._checked(numbers)

    def _parsed(self, column: NumberTexts, mark: DecimalMark, *, is_stated: bool) -> pa.ChunkedArray | None:
        """Returns the numbers of the texts; None for a column that is not one of numbers."""
        valid = pc.fill_null(column.valid(mark), False)
        bad = first_place(pc.invert(valid))
        if bad >= 0:
            if self._is_known:
                raise self._error(column, bad, "which is not a number")
            self._notes.append(f"{self._name} is read as text: {_quoted(column.distinct[bad].as_py())} is not a number.")
            return None
        if not self._is_known and column.are_ids:
            return None
        wrong = None if is_stated else column.wrong_form(mark)
        if wrong is not None:
            raise self._error(column, wrong[0], f"but {wrong[1]}")
        return column.cells(column.values(mark))

    def _error(self, column: NumberTexts, place: int, reason: str) -> TableError:
        line = int(self._lines[column.row_of(place)])
        return TableError(
            f"line {line:,} of {self._path} has {_quoted(column.distinct[place].as_py())} in {self._name}, {reason}",
            next_step="Correct that line, or export the file again; two tables in one file, or a header in two lines, must be divided.",
        )

    def _checked(self, numbers: pa.ChunkedArray) -> pa.ChunkedArray:
        whole = as_whole_numbers(numbers)
        if self._concept in COUNTS and not pa.types.is_integer(whole.type) and whole.null_count < len(whole):
            values = numbers.to_numpy()
            place = int(np.flatnonzero(~np.isnan(values) & (values != np.rint(values)) | (np.abs(values) >= _LOST_DIGITS))[0])
            raise TableError(
                f"line {int(self._lines[place]):,} of {self._path} has {values[place]:g} in {self._name}, which must be a whole number",
                next_step='Correct that line, or say the decimal mark of the file: `decimal: ","` under `read:` of the roles file.',
            )
        return whole

    def _as_texts(self) -> pa.ChunkedArray:
        """Returns the column as texts; numbers of a workbook are written out."""
        if self._numbers is None or self._numbers.null_count == len(self._numbers):
            return self._texts
        values = self._numbers.to_numpy(zero_copy_only=False)
        if np.any(np.abs(values) >= _LOST_DIGITS):
            self._notes.append(f"{self._name} holds numbers of more than 15 digits, of which Excel has lost some: they must be text.")
        written = pa.array([None if np.isnan(value) else _written(value) for value in values], pa.string())
        return pc.coalesce(self._texts, pa.chunked_array([written]))


def _written(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...")


def cleaned(columns: Iterable[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """Returns the columns with their cells cleaned."""
    return [clean(column) for column in columns]
