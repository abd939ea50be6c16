"""Finds the one decimal mark of a file from all its numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.errors import TableError
from shared.exports.known_names import COUNTS, NUMBERS, Concept
from shared.exports.options import DecimalMark
from shared.exports.values.cells import first_place
from shared.exports.values.numbers import NumberTexts

_MARKS: tuple[DecimalMark, DecimalMark] = (".", ",")


@dataclass(frozen=True, kw_only=True)
class _Example:
    column: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.text!r} in {self.column} on line {self.line:,}"


def find_decimal_mark(columns: Mapping[str, NumberTexts], concepts: Mapping[str, Concept], lines: np.ndarray, path: str) -> DecimalMark:
    """Finds the decimal mark of a file.

    Args:
        columns: the columns that may hold numbers.
        concepts: the known names among them; their numbers decide before those of other columns.
        lines: the line of each row.
        path: the name of the file for messages.

    Raises:
        TableError: numbers of both marks, or only numbers like ``1,234`` that have two meanings.
    """
    known = [name for name in columns if concepts.get(name) in NUMBERS]
    counts = [name for name in known if concepts[name] in COUNTS]
    others = [name for name in columns if name not in known]
    for names in (known, others):
        mark = _decided(_examples(columns, names, lines), path)
        if mark:
            return mark
        if names is known:
            # clicks are whole: the mark in 1,234 clicks is that of thousands
            thousands = {mark: _example(columns, counts, lines, mark, is_evidence=False) for mark in _MARKS}
            mark = _decided({".": thousands[","], ",": thousands["."]}, path)
            if mark:
                return mark
    for mark in _MARKS:
        doubt = _example(columns, [*known, *others], lines, mark, is_evidence=False)
        if doubt is not None:
            raise TableError(
                f"{doubt} of {path} can be read in two ways, and no other number of the file says which",
                next_step='Say which mark is the decimal mark: `decimal: "."` or `decimal: ","` under `read:` of the roles file.',
            )
    return "."


def _examples(columns: Mapping[str, NumberTexts], names: Sequence[str], lines: np.ndarray) -> dict[DecimalMark, _Example | None]:
    return {mark: _example(columns, names, lines, mark, is_evidence=True) for mark in _MARKS}


def _example(
    columns: Mapping[str, NumberTexts], names: Sequence[str], lines: np.ndarray, mark: DecimalMark, *, is_evidence: bool
) -> _Example | None:
    """Returns the first number in these columns that is one under this mark only, or that holds this mark and has two meanings."""
    for name in names:
        column = columns[name]
        place = first_place(column.evidence(mark) if is_evidence else column.ambiguous(mark))
        if place >= 0:
            return _Example(column=name, text=column.distinct[place].as_py(), line=int(lines[column.row_of(place)]))
    return None


def _decided(examples: Mapping[DecimalMark, _Example | None], path: str) -> DecimalMark | None:
    found = [mark for mark in _MARKS if examples[mark] is not None]
    if len(found) == 2:
        raise TableError(
            f"{path} has numbers of two decimal marks: {examples['.']}, and {examples[',']}",
            next_step="Export it again with one number format; a file has one decimal mark.",
        )
    return found[0] if found else None
