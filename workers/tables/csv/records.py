"""Finds the ends of csv records, and distinguishes multi-line values from rows that a stray quote joins.

A record ends at a line break outside quotes. A quote opens a value only at the start of a field; a doubled quote inside a quoted value is
a character; what follows a closing quote up to the next separator belongs to the value. Arrow and Python read csv by the same rules.

An unintended quote can follow these rules as well: it opens a value on one row, and another stray quote closes it some rows below.
``joins_rows`` examines such a record line by line.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.text.csv_lines import fields_of_line, value_of
from workers.tables.csv.dialects import COMMAS, Dialect

LINE_BREAK, QUOTE = b'\n"'

LOOKED_AT_ONCE = 1 << 18
"""Bytes that are scanned together: they stay in the CPU cache, and the offsets of their quotes take little memory."""

TOLERATED_SHARE = 8
"""A line counts as a row if it lacks at most one in this many of its hidden fields."""


def record_ends(block: bytes, dialect: Dialect = COMMAS, *, final: bool) -> np.ndarray:
    """Returns the offset after every record of a block that starts with a record; if ``final``, the last line needs no line break."""
    ends = _ends_beside_quotes(block, dialect) if b'"' in block else np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == LINE_BREAK) + 1
    if final and block and (not len(ends) or ends[-1] != len(block)):
        ends = np.append(ends, len(block))
    return ends


def _ends_beside_quotes(block: bytes, dialect: Dialect) -> np.ndarray:
    """Finds record ends by counting quotes piece by piece: a line break after an even number of quotes ends a record.

    This holds while every quote opens or closes a value. A piece with a quote inside plain text (``24" tv``) is parsed record by record.
    """
    text = np.frombuffer(block, dtype=np.uint8)
    found: list[np.ndarray] = []
    at, is_open = 0, 0
    while at < len(text):
        end = min(at + LOOKED_AT_ONCE, len(text))
        quotes = np.flatnonzero(text[at:end] == QUOTE) + at
        breaks = np.flatnonzero(text[at:end] == LINE_BREAK) + at
        literal = _first_literal(text, quotes[is_open::2], dialect.byte)
        if literal is not None:
            breaks = breaks[breaks < literal]
        outside = (np.searchsorted(quotes, breaks) + is_open) % 2 == 0
        found.append(breaks[outside] + 1)
        if literal is None:
            at, is_open = end, (is_open + len(quotes)) % 2
            continue
        start = next((int(ends[-1]) for ends in reversed(found) if len(ends)), 0)
        found.append(_ends_one_by_one(block, start, end, dialect))
        at, is_open = (int(found[-1][-1]) if len(found[-1]) else len(text)), 0
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)


def _first_literal(text: np.ndarray, opening: np.ndarray, separator: int) -> int | None:
    """Returns the first of these quotes that neither opens a value nor is the second of a doubled quote; None if there is none."""
    if not len(opening):
        return None
    before = text[opening - 1]
    opens: np.ndarray = (before == separator) | (before == LINE_BREAK) | (before == QUOTE) | (opening == 0)
    return None if opens.all() else int(opening[opens.argmin()])


def _ends_one_by_one(block: bytes, start: int, enough: int, dialect: Dialect) -> np.ndarray:
    """Returns the ends of the records from ``start`` to the first end at or after ``enough``; an incomplete record has no end."""
    ends = array("q")
    while start < enough and (match := dialect.record.match(block, start)) and match[1]:
        start = match.end()
        ends.append(start)
    return np.array(ends, dtype=np.int64)


def open_quote(block: bytes, dialect: Dialect = COMMAS) -> int | None:
    """Returns the offset of a quote that never closes and so swallows whole lines; None if there is none."""
    start = int(record_ends(block, dialect, final=False)[-1:].sum())
    last = None
    for last in dialect.quoted.finditer(block[start:]) if block.find(b'"', start) >= 0 else ():  # noqa: B007 - only the last one counts
        pass
    if last is None or last[1] is None or b"\n" not in last[0].rstrip(b"\r\n"):
        return None
    return start + last.start()


def joins_rows(lines: Sequence[str], width: int, checks: Mapping[int, Callable[[str], bool]], dialect: Dialect = COMMAS) -> bool:
    """Returns True if quotes join lines that are rows by themselves into one record.

    ``width`` is the number of columns; ``checks`` maps the index of a column that is read to a function that says whether a text fits. Only
    fields that the quotes hide are examined: the hidden fields of a real multi-line value, such as a note, do not fit a row.
    """
    text = "".join(lines)
    hidden = [match.span() for match in dialect.value_of_lines.finditer(text) if "\n" in match[0]]
    if not any(dialect.separator in text[start:end] for start, end in hidden):
        return False
    pieces = list(_hidden_pieces(lines, hidden, width, dialect))
    if not checks:
        return all(piece.count == width for piece in pieces)
    if any(piece.is_row(checks) for piece in pieces):
        return True
    fitting = Counter[tuple[int, int]]()
    for piece in pieces:
        fitting[piece.span] += piece.fitting(checks)
    return 2 * max(fitting.values(), default=0) >= len(checks)


def _hidden_pieces(lines: Sequence[str], hidden: Sequence[tuple[int, int]], width: int, dialect: Dialect) -> Iterator["_HiddenPiece"]:
    """Yields the part of each line that these values hide, in one pass over both: in a line at most one value ends and another starts."""
    first = offset = 0
    for line in lines:
        end = offset + len(line)
        while first < len(hidden) and hidden[first][1] <= offset:
            first += 1
        at = first
        while line.strip() and at < len(hidden) and hidden[at][0] < end:
            yield _HiddenPiece.of(line.rstrip("\r\n"), offset, hidden[at], width, dialect)
            at += 1
        offset = end


@dataclass(frozen=True, kw_only=True)
class _HiddenPiece:
    """The part of one line that quotes hide: the fields of the line that start inside a multi-line value."""

    span: tuple[int, int]
    count: int
    """The number of fields of the whole line when it is parsed by itself."""
    width: int
    fields: list[tuple[int, str]]
    """The hidden fields, each with its index in the line."""

    @classmethod
    def of(cls, line: str, offset: int, span: tuple[int, int], width: int, dialect: Dialect) -> "_HiddenPiece":
        """Returns the part of a line starting at ``offset`` that is inside the value at ``span``."""
        fields = fields_of_line(line, dialect.separator)
        hidden = [(place, field) for place, (start, field) in enumerate(fields) if span[0] < offset + start < span[1]]
        return cls(span=span, count=len(fields), width=width, fields=hidden)

    @property
    def _may_be_row(self) -> bool:
        """True unless the line lacks too many of the fields that a row would have in the hidden part."""
        separators = sum(place > 0 for place, _ in self.fields)
        lacking = self.width - self.count
        return separators + lacking > 0 and lacking <= (separators + lacking) // TOLERATED_SHARE

    def _checked(self, checks: Mapping[int, Callable[[str], bool]], shift: int) -> list[bool]:
        return [checks[place - shift](value_of(field)) for place, field in self.fields if place - shift in checks]

    def fitting(self, checks: Mapping[int, Callable[[str], bool]]) -> int:
        """Counts the hidden fields that fit their columns, aligned to the start or to the end of the line."""
        shifts = {0, self.count - self.width}
        return max(sum(self._checked(checks, shift)) for shift in shifts) if self._may_be_row else 0

    def is_row(self, checks: Mapping[int, Callable[[str], bool]]) -> bool:
        """Returns True if the line has as many fields as a row and at least two hidden ones, which all fit: one may fit by chance."""
        checked = self._checked(checks, 0) if self.count == self.width else []
        return len(checked) > 1 and all(checked)
