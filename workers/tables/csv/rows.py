"""Reads rows from csv text."""

import codecs
import contextlib
import csv
import functools
import io
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from shared.errors import TableError
from workers.tables.arrow_columns import NO_ENTITIES, from_arrow, objects
from workers.tables.csv.dialects import COMMAS, Dialect
from workers.tables.csv.records import joins_rows
from workers.tables.packed_flags import extract_flags
from workers.tables.rows import MAX_LINE_BYTES, Reject, Rows, check_rows
from workers.tables.schema import DEVICE, ENTITY, TableSchema
from workers.tables.values import Values, device_code, parse_entity_id, read_floats, read_number, read_whole, short

MAX_SWALLOWED_LINES = 1000
"""A broken record over more lines than this, which were rows before a quote broke them, makes the table unreadable."""

_CSV_BLOCK_BYTES = 2 << 20
_LONE_RETURNS = re.compile(r"(?<!\r)\r++(?!\n|\Z)")
"""Carriage returns that do not end a line. The possessive quantifier keeps the search linear in the length of a run of them."""


def read_csv_rows(data: bytes, table_schema: TableSchema, first_line: int, dialect: Dialect = COMMAS) -> Rows:
    """Reads and checks a piece of a csv file that holds whole records and no header.

    Raises:
        TableError: a quote that closes far too late swallows more than ``MAX_SWALLOWED_LINES`` lines.
    """
    piece = _Piece(data=data, first_line=first_line, dialect=dialect)
    has_quote = b'"' in data
    values = None if has_quote else _extract_flag_block(data, table_schema, piece)
    if values is not None:
        # each line is a row: finding the ends of the lines again takes as long as everything else that an index needs
        lines = functools.partial(np.arange, first_line, first_line + values.count)
    else:
        # quotes with text columns always take the slow path, so that the reading of a row does not depend on its neighbours
        is_plain = _is_plain(data) and not (has_quote and table_schema.texts)
        table = _parse(data, table_schema, dialect, pa.int8(), pa.float64()) if is_plain else None
        # a multi-line record may be two rows that a stray quote joins
        if table is None or (has_quote and table.num_rows < piece.records):
            return _read_records(data, table_schema, first_line, dialect)
        values = from_arrow(table, table_schema, piece.shown(table_schema))
        lines = functools.partial(piece.lines, values.count)
    return check_rows(values, table_schema, lines, [])


def _extract_flag_block(data: bytes, table_schema: TableSchema, piece: "_Piece") -> "Values | None":
    """Reads rows by extracting the longest run of binary columns, the fastest path; returns None if a line has another form."""
    run = table_schema.run
    lifted = extract_flags(data, run, spare=len(table_schema.flags), separator=piece.dialect.byte) if run else None
    if run is None or lifted is None:
        return None
    binary, text = lifted
    rest = table_schema.without(run.columns)
    table = _parse(text, rest, piece.dialect, pa.int8(), pa.float64()) if _is_plain(text) else None
    if table is None or table.num_rows != len(binary):
        return None
    return replace(from_arrow(table, rest, piece.shown(table_schema)), run=run.columns, binary=binary)


def _parse(data: bytes, table_schema: TableSchema, dialect: Dialect, *binaries: pa.DataType) -> pa.Table | None:
    """Parses the columns with Arrow, using the first type for binary columns that fits; returns None if none does.

    Clicks are read as text if one of them is not a number.
    """
    for binary, clicks in itertools.product(binaries, (pa.float64(), pa.binary()) if table_schema.clicks else (None,)):
        types = {column.name: binary if column.type == "binary" else pa.float64() for column in table_schema.numbers}
        types |= dict.fromkeys(table_schema.clicks, clicks)
        types |= dict.fromkeys(table_schema.ids, pa.int64()) | dict.fromkeys(table_schema.texts, pa.string())
        if table_schema.has_device:
            types[DEVICE] = pa.dictionary(pa.int32(), pa.string())
        with contextlib.suppress(pa.ArrowInvalid):
            return pa_csv.read_csv(
                pa.BufferReader(data),
                read_options=pa_csv.ReadOptions(
                    column_names=_distinct(table_schema.columns), block_size=_CSV_BLOCK_BYTES, use_threads=False
                ),
                parse_options=pa_csv.ParseOptions(delimiter=dialect.separator, newlines_in_values=b'"' in data),
                convert_options=pa_csv.ConvertOptions(column_types=types, include_columns=list(types)),
            )
    return None


def _distinct(columns: list[str]) -> list[str]:
    """Replaces repeated names: Arrow does not accept a requested column whose name is repeated, and repeated columns are never needed."""
    if len(set(columns)) == len(columns):
        return columns
    seen: set[str] = set()
    return [f"\0{place}" if name in seen or seen.add(name) else name for place, name in enumerate(columns)]  # type: ignore[func-returns-value]


def _read_records(data: bytes, table_schema: TableSchema, first_line: int, dialect: Dialect) -> Rows:
    """Reads record by record, the slow path for chunks with an invalid value or a broken record."""
    place = {name: index for index, name in enumerate(table_schema.columns)}
    names = [column.name for column in table_schema.numbers]
    needed = [place[name] for name in table_schema.needed]
    checks = _checks(table_schema, place)
    kept: list[list[str]] = []
    lines: list[int] = []
    rejects: list[Reject] = []
    width = len(table_schema.columns)

    def broken_reason(record: list[str], own_lines: list[str]) -> str:
        """Returns why a record is no row; empty if it is one."""
        below = len(own_lines) - 1
        if len(record) != width:
            return f"the record has {len(record)} values, the header {width}"
        if below and (any("\n" in record[index] for index in needed) or not _is_strict(own_lines, dialect)):
            return f"a value runs over its line into the {below} below it; perhaps a quote is never closed"
        by_themselves = _cut_at_returns(own_lines)
        if len(by_themselves) > 1 and joins_rows(by_themselves, width, checks, dialect):
            others = f"this line with the {below} below it" if below else "lines that end in a carriage return alone"
            return f"quotes join {others}, which are rows by themselves; perhaps a quote is stray"
        return ""

    for line, own_lines, record in _records(data, dialect):
        is_too_long = len(own_lines) == 1 and sum(map(len, record)) > MAX_LINE_BYTES
        reason = f"the line is longer than {MAX_LINE_BYTES:,} bytes" if is_too_long else broken_reason(record, own_lines)
        if reason:
            value = record[0] if is_too_long else dialect.separator.join(record)
            rejects += _broken(table_schema.path, first_line + line, own_lines, short(value), reason)
        else:
            kept.append(record)
            lines.append(first_line + line)
    entity, not_whole = read_whole([record[place[ENTITY]] for record in kept]) if table_schema.ids else NO_ENTITIES
    values = Values(
        count=len(kept),
        entity=entity,
        not_whole=not_whole,
        numbers={name: read_floats([record[place[name]] for record in kept]) for name in names},
        device=np.array([device_code(record[place[DEVICE]]) for record in kept] if table_schema.has_device else [], dtype=np.int8),
        texts={name: objects([record[place[name]] for record in kept]) for name in table_schema.texts},
        shown=lambda row, name: kept[row][place[name]],
        clicks=read_floats([record[place[name]] for name in table_schema.clicks for record in kept]) if table_schema.clicks else None,
    )
    return check_rows(values, table_schema, lambda: np.array(lines, dtype=np.int64), rejects)


def _checks(table_schema: TableSchema, place: Mapping[str, int]) -> dict[int, Callable[[str], bool]]:
    """Returns, by column index, the functions that check whether a text fits; columns that accept any text have none."""
    checks: dict[int, Callable[[str], bool]] = {place[name]: lambda text: parse_entity_id(text) is not None for name in table_schema.ids}
    if table_schema.has_device:
        checks[place[DEVICE]] = lambda text: device_code(text) >= 0
    for column in table_schema.numbers:
        is_binary = column.type == "binary"
        checks[place[column.name]] = (
            (lambda text: read_number(text) in (0, 1)) if is_binary else (lambda text: math.isfinite(read_number(text)))
        )
    return checks


def _records(data: bytes, dialect: Dialect) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yields every record that is not blank: the index of its first line from 0, its raw lines, its values."""
    # undecodable bytes and carriage returns that do not end a line become U+FFFD, which no number contains
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in io.StringIO(data.decode("utf-8", errors="replace"), newline="\n"):
            taken.append(line)
            yield _marked(line)

    at = 0
    for record in csv.reader(lines(), delimiter=dialect.separator):
        if record:
            yield at, taken.copy(), record
        at += len(taken)
        taken.clear()


def _marked(line: str) -> str:
    return _LONE_RETURNS.sub(lambda found: "\ufffd" * len(found[0]), line) if "\r" in line else line


def _cut_at_returns(lines: list[str]) -> list[str]:
    """Splits the lines of a record also at carriage returns without a line feed."""
    if not any("\r" in line and _LONE_RETURNS.search(line) for line in lines):
        return lines
    text = _LONE_RETURNS.sub(lambda found: "\n" * len(found[0]), "".join(lines))
    return list(io.StringIO(text, newline="\n"))


def _is_strict(lines: list[str], dialect: Dialect) -> bool:
    """Returns False if text follows a closing quote: then it was not a closing quote but another stray one."""
    try:
        return bool(list(csv.reader(map(_marked, lines), strict=True, delimiter=dialect.separator)))
    except csv.Error:
        return False


def _broken(path: str, line: int, lines: Sequence[str], value: str, reason: str) -> list[Reject]:
    """Returns the rejects for a broken record: one per line that is not blank, because each was a row before a quote broke it."""
    count = len(lines)
    if count > MAX_SWALLOWED_LINES:
        raise TableError(
            f"{path} has a record of {count:,} lines on line {line}; perhaps a quote is never closed",
            next_step="Correct that line and score the table again.",
        )
    swallowed = f"part of the record on line {line}; perhaps a quote is never closed there"
    first = Reject(line=line, column="", value=value, reason=reason)
    others = [more for more in range(1, count) if lines[more].strip("\r\n")]
    return [first, *(Reject(line=line + more, column="", value="", reason=swallowed) for more in others)]


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """The lines of a piece of csv in which each record is one line; computed only when a row has to be shown."""

    data: bytes
    first_line: int
    dialect: Dialect

    @functools.cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The indexes of the lines that are not blank, from 0, and the offsets at which they start and end."""
        text = np.frombuffer(self.data + b"\n", dtype=np.uint8)
        ends = np.flatnonzero(text == 10)
        starts = np.append(0, ends[:-1] + 1)
        ends -= text[ends - 1] == 13
        full = np.flatnonzero(starts < ends)
        return full, starts[full], ends[full]

    @property
    def records(self) -> int:
        """The number of records."""
        return len(self._places[0])

    def lines(self, records: int) -> np.ndarray:
        """Returns the line of each record; ``records`` is their number. Without blank lines they are only counted, which is faster."""
        if self.data.count(b"\n") + (not self.data.endswith(b"\n")) == records:
            return np.arange(self.first_line, self.first_line + records)
        return self._places[0] + self.first_line

    def shown(self, table_schema: TableSchema) -> Callable[[int, str], str]:
        """Returns a function that gives a value as it is in the file."""

        def value(row: int, name: str) -> str:
            _, starts, ends = self._places
            line = self.data[starts[row] : ends[row]].decode("utf-8", errors="replace")
            (record,) = csv.reader([line], delimiter=self.dialect.separator)
            return record[table_schema.columns.index(name)]

        return value


def _is_plain(data: bytes) -> bool:
    """Returns False for text that Arrow reads differently from Python: a byte order mark, lone carriage returns, hex, very long lines."""
    if data.startswith(codecs.BOM_UTF8):
        return False
    if b"\r" in data and data.count(b"\r") != data.count(b"\r\n"):
        return False
    # searching for one byte costs a tenth of searching for two
    if (b"x" in data and b"0x" in data) or (b"X" in data and b"0X" in data):
        return False
    return not _has_long_line(data)


def _has_long_line(data: bytes) -> bool:
    start = 0
    while len(data) - start > MAX_LINE_BYTES:
        end = data.rfind(b"\n", start, start + MAX_LINE_BYTES + 1)
        if end < 0:
            return True
        start = end + 1
    return False
