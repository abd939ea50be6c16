"""The border between files and numbers: reads a chunk, checks every value, writes a part, joins parts.

A chunk is read with the types that the release's manifest states. The fast way converts whole columns; where that fails, the same
chunk is read as floats, and where that fails too, record by record, so that one bad row is found and set aside as a reject with its
line, column, value and reason, and never fails its neighbours. All three ways give the same numbers for good rows.
"""

import csv
import functools
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from isal import igzip

from shared.errors import TableError
from shared.manifests import Column
from workers.planning import bad_parquet, open_parquet

DEVICES = ("Computer", "Smartphone", "Tablet")
"""Device names; the place in this tuple is the code in the output."""

FLAGS = ("computer", "smartphone")
"""The device in the prepared layout; a tablet is neither."""

ENTITY, DEVICE = "entity_id", "device"
LABELS = ("cr", "Clicks", "Conversions", "week")
"""Columns of a training table that are no features."""

OUTPUT_HEADER = b"entity_id,device,cr\n"
REJECTS_HEADER = b"file,line,column,value,reason\n"
GZIP_LEVEL = 1

MAX_VALUE_SHOWN = 80
MAX_LINE_BYTES = 1 << 20
"""A longer line is a reject: no row of a keyword table comes near."""

MAX_SWALLOWED_LINES = 1000
"""A broken record over more lines than this, which were rows before a quote went wrong, makes the table one that cannot be read."""

_CSV_BLOCK_BYTES = 2 << 20
_ATTRIBUTE = re.compile(r"att\d+")
_LONE_RETURN = re.compile(r"\r(?!\r*(?:\n|\Z))")
_CODES = {name.lower(): code for code, name in enumerate(DEVICES)} | {f"{code}{zero}": code for code in range(3) for zero in ("", ".0")}


@dataclass(frozen=True, kw_only=True)
class Reject:
    """An input row that cannot be scored, and why."""

    line: int
    column: str
    value: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The good rows of a chunk, checked, and the rejects among them."""

    frame: pd.DataFrame
    """``entity_id`` (int64), ``computer``, ``smartphone`` (int8), then the wanted columns (int8 or float64), one row each."""
    device: np.ndarray
    """Device codes, int8, one a row."""
    lines: "_LazyLines"
    """Line of each row in its file, int64."""
    rejects: list[Reject]

    @property
    def entity_id(self) -> np.ndarray:
        """Entity ids, int64, one a row."""
        return self.frame[ENTITY].to_numpy()


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which columns of a file are read, and as what."""

    path: str
    columns: list[str]
    """All columns of the file, in its order."""
    wanted: list[Column]
    """The features, in the order of the frame."""
    extra: list[Column] = field(default_factory=list)
    """Labels to read beside the features when training."""

    @property
    def has_device(self) -> bool:
        """True for the raw layout with one device column, False for flags."""
        return DEVICE in self.columns

    @property
    def numbers(self) -> list[Column]:
        """Every column that is read as numbers besides the entity id."""
        flags = [] if self.has_device else [Column(name=name, type="binary") for name in FLAGS]
        return [*flags, *self.wanted, *self.extra]


def layout_for(path: str, columns: list[str], wanted: Sequence[Column], extra: Sequence[Column] = ()) -> Layout:
    """The layout of a file for these features.

    Raises:
        TableError: the file lacks a column that is needed; the sentence names it.
    """
    features = [column for column in wanted if column.name not in FLAGS]
    layout = Layout(path=path, columns=columns, wanted=features, extra=list(extra))
    missing = [name for name in [ENTITY, *(column.name for column in [*features, *extra])] if name not in columns]
    if not layout.has_device and not all(flag in columns for flag in FLAGS):
        missing.append(f"{DEVICE} (or {' and '.join(FLAGS)})")
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        shown = ", ".join(columns[:6]) + (", ..." if len(columns) > 6 else "")
        raise TableError(
            f"{path} lacks the column {missing[0]}{more}; it has {shown}", next_step="Add what is missing, or choose another model."
        )
    return layout


def feature_columns(columns: Sequence[str]) -> list[Column]:
    """What a training table offers as features: every column that is neither key nor label; ``att<n>`` holds 0 and 1."""
    taken = {ENTITY, DEVICE, *FLAGS, *LABELS}
    flags = [Column(name=name, type="binary") for name in FLAGS]
    return flags + [Column(name=name, type="binary" if _ATTRIBUTE.fullmatch(name) else "number") for name in columns if name not in taken]


# --- reading -----------------------------------------------------------------------------------------------------------------


def read_csv_rows(data: bytes, layout: Layout, first_line: int) -> Rows:
    """Read a piece of a csv file that holds whole records and no header.

    Raises:
        TableError: a quote that closes far too late has swallowed more lines than may be lost.
    """
    table = _parse(data, layout, pa.int8(), pa.float64()) if _is_plain(data) else None
    if table is None:
        return _read_records(data, layout, first_line)
    piece = _Piece(data=data, first_line=first_line)
    values = _from_arrow(table, layout, lambda row, name: piece.value(row, layout.columns.index(name)))
    return _checked(values, layout, lambda: piece.lines, [])


def read_parquet_rows(raw: IO[bytes], layout: Layout, start: int, end: int) -> Rows:
    """Read the rows ``start`` to ``end`` (from 0, the last one left out) of a Parquet file; its lines are rows, counted from 1.

    Raises:
        TableError: a page of the file is damaged.
    """
    first_line = start + 1
    names = [ENTITY, *([DEVICE] if layout.has_device else []), *(column.name for column in layout.numbers)]
    batches, at = [], 0
    with open_parquet(raw, layout.path) as file:
        groups = []
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if at < end and at + count > start:
                groups.append(group)
            elif at + count <= start:
                start, end = start - count, end - count
                continue
            at += count
        at = 0
        try:
            for batch in file.iter_batches(batch_size=65536, row_groups=groups, columns=names):
                low, high = max(start - at, 0), min(end - at, batch.num_rows)
                if low < high:
                    batches.append(batch.slice(low, high - low))
                at += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            if getattr(error, "errno", None):
                raise  # the storage failed, not the file
            raise bad_parquet(layout.path, error) from error
    table = pa.Table.from_batches(batches)

    def shown(row: int, name: str) -> str:
        value = table.column(name)[row].as_py()
        return "" if value is None else str(value)

    return _checked(_from_arrow(table, layout, shown), layout, lambda: np.arange(table.num_rows) + first_line, [])


@dataclass(frozen=True, kw_only=True)
class _Values:
    """Columns as they were read, before any check: NaN marks what is missing or no number."""

    entity: np.ndarray
    """int64, one a row; each id keeps every digit, whatever stands in the other rows."""
    not_whole: np.ndarray | None
    """Where the entity id is no whole number; None if nowhere."""
    numbers: dict[str, np.ndarray]
    """int8 (known to be complete) or float64, by name."""
    device: np.ndarray
    """Codes, int8; -1 where the value is no device; empty for flags."""
    shown: Callable[[int, str], str]
    """The value of (row, column) as people will see it."""


def _parse(data: bytes, layout: Layout, *binaries: pa.DataType) -> pa.Table | None:
    """The columns as Arrow reads them, with the first type for binary ones that fits; None when a record or value must be looked at."""
    for binary in binaries:
        types = {column.name: binary if column.type == "binary" else pa.float64() for column in layout.numbers}
        types[ENTITY] = pa.int64()
        if layout.has_device:
            types[DEVICE] = pa.dictionary(pa.int32(), pa.string())
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(data),
                read_options=pa_csv.ReadOptions(column_names=layout.columns, block_size=_CSV_BLOCK_BYTES, use_threads=False),
                parse_options=pa_csv.ParseOptions(newlines_in_values=b'"' in data),
                convert_options=pa_csv.ConvertOptions(column_types=types, include_columns=list(types)),
            )
        except pa.ArrowInvalid:
            continue
        # a device over several lines is a broken record
        broken = layout.has_device and b'"' in data and any("\n" in name for name in _device_names(table.column(DEVICE)))
        return None if broken else table
    return None


def _from_arrow(table: pa.Table, layout: Layout, shown: Callable[[int, str], str]) -> _Values:
    entity, not_whole = _entities(table.column(ENTITY))
    numbers = {column.name: _as_numbers(table.column(column.name)) for column in layout.numbers}
    device = _device_codes(table.column(DEVICE)) if layout.has_device else np.empty(0, dtype=np.int8)
    return _Values(entity=entity, not_whole=not_whole, numbers=numbers, device=device, shown=shown)


def _entities(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids as int64, and where there is none (None if nowhere)."""
    if pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type):
        missing = column.is_null().to_numpy() if column.null_count else None
        return _to_numpy(column.fill_null(0) if column.null_count else column).astype(np.int64, copy=False), missing
    if pa.types.is_floating(column.type):
        floats = _as_numbers(column).astype(np.float64, copy=False)
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(floats) & (np.floor(floats) == floats) & (np.abs(floats) < 2.0**53)
        return np.where(whole, floats, 0).astype(np.int64), None if whole.all() else ~whole
    return _whole([str(value) for value in column.to_pylist()])


def _as_numbers(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_dictionary(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _floats([str(value) for value in column.to_pylist()])
    if pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return np.full(len(column), np.nan)
    if column.null_count:
        column = column.cast(pa.float64(), safe=False)
    return _to_numpy(column)


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    array: np.ndarray = whole.to_numpy(zero_copy_only=False)
    return array


def _device_names(column: pa.ChunkedArray) -> list[str]:
    return [name for chunk in column.chunks for name in chunk.dictionary.to_pylist()]


def _device_codes(column: pa.ChunkedArray) -> np.ndarray:
    if not pa.types.is_dictionary(column.type):
        try:
            column = column.dictionary_encode()
        except pa.ArrowNotImplementedError:  # lists and other things that name no device
            return np.full(len(column), -1, dtype=np.int8)
    column = column.unify_dictionaries()
    if not column.num_chunks:
        return np.empty(0, dtype=np.int8)
    names = column.chunk(0).dictionary.to_pylist()
    codes = np.array([_CODES.get(str(name).strip().lower(), -1) for name in names] + [-1], dtype=np.int8)
    indices = pc.fill_null(pa.chunked_array([chunk.indices for chunk in column.chunks]), len(names))
    return codes[indices.to_numpy()]


def _read_records(data: bytes, layout: Layout, first_line: int) -> Rows:
    """The slow way: every record by itself, for chunks that hold a value which is no number, or a broken record."""
    place = {name: index for index, name in enumerate(layout.columns)}
    names = [column.name for column in layout.numbers]
    needed = [place[name] for name in [ENTITY, *([DEVICE] if layout.has_device else []), *names]]
    kept: list[list[str]] = []
    lines: list[int] = []
    rejects: list[Reject] = []
    for line, count, record in _records(data):
        if count == 1 and sum(map(len, record)) > MAX_LINE_BYTES:
            broken, value = f"the line is longer than {MAX_LINE_BYTES:,} bytes", record[0]
        elif len(record) != len(layout.columns):
            broken, value = f"the record has {len(record)} values, the header {len(layout.columns)}", ",".join(record)
        elif count > 1 and any("\n" in record[index] for index in needed):
            broken, value = f"one of its values runs over {count} lines", ",".join(record)
        else:
            kept.append(record)
            lines.append(first_line + line)
            continue
        rejects += _broken(layout.path, first_line + line, count, _short(value), broken)
    entity, not_whole = _whole([record[place[ENTITY]] for record in kept])
    values = _Values(
        entity=entity,
        not_whole=not_whole,
        numbers={name: _floats([record[place[name]] for record in kept]) for name in names},
        device=np.array([_device_code(record[place[DEVICE]]) for record in kept] if layout.has_device else [], dtype=np.int8),
        shown=lambda row, name: kept[row][place[name]],
    )
    return _checked(values, layout, lambda: np.array(lines, dtype=np.int64), rejects)


def _records(data: bytes) -> Iterator[tuple[int, int, list[str]]]:
    """Every record but the blank ones: its first line (from 0), how many lines it has, its values."""
    csv.field_size_limit(len(data) + 1)
    # bytes that are not text, and carriage returns that end no line, become a mark that no number contains
    text = _LONE_RETURN.sub("\ufffd", data.decode("utf-8", errors="replace"))
    reader = csv.reader(io.StringIO(text, newline="\n"))
    line = 0
    for record in reader:
        if record:
            yield line, reader.line_num - line, record
        line = reader.line_num


def _broken(path: str, line: int, count: int, value: str, reason: str) -> list[Reject]:
    """The rejects for a broken record: one for each line, since each was a row before a quote went wrong."""
    if count > MAX_SWALLOWED_LINES:
        raise TableError(
            f"{path} has a record of {count:,} lines on line {line}, and {reason}; perhaps a quote is never closed",
            next_step="Mend that line and score the table again.",
        )
    swallowed = f"part of the record on line {line}; perhaps a quote is never closed there"
    first = Reject(line=line, column="", value=value, reason=reason)
    return [first, *(Reject(line=line + more, column="", value="", reason=swallowed) for more in range(1, count))]


def _device_code(text: str) -> int:
    return _CODES.get(text.strip().lower(), -1)


def _number(text: str) -> float:
    try:
        # Python also reads 1_000 and digits of other scripts; a table does not
        return float(text) if text.isascii() and "_" not in text else np.nan
    except ValueError:
        return np.nan


def _floats(texts: list[str]) -> np.ndarray:
    return np.fromiter(map(_number, texts), dtype=np.float64, count=len(texts))


def _whole(texts: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids as int64, and where there is none (None if nowhere)."""
    numbers = [_id(text) for text in texts]
    missing = np.array([number is None for number in numbers], dtype=bool)
    return np.array([number or 0 for number in numbers], dtype=np.int64), missing if missing.any() else None


def _id(text: str) -> int | None:
    number = _number(text)
    try:
        # not from the float: a long id keeps every digit
        whole = int(text) if number.is_integer() else None
    except ValueError:
        whole = int(number) if abs(number) < 2.0**53 else None
    return whole if whole is not None and -(2**63) <= whole < 2**63 else None


# --- checking ----------------------------------------------------------------------------------------------------------------


def _checked(values: _Values, layout: Layout, lines: Callable[[], np.ndarray], rejects: list[Reject]) -> Rows:
    count = len(values.entity)
    bad = np.zeros(count, dtype=bool)
    found: list[tuple[np.ndarray, str, str]] = []

    def refuse(where: np.ndarray | None, column: str, reason: str) -> None:
        if where is not None and where.any():
            found.append((where & ~bad, column, reason))
            np.logical_or(bad, where, out=bad)

    refuse(values.not_whole, ENTITY, "not a whole number")
    if layout.has_device:
        refuse(values.device < 0, DEVICE, f"not one of {', '.join(DEVICES)}, 0, 1, 2")
    for column in layout.numbers:
        array = values.numbers[column.name]
        if column.type == "binary":
            refuse(_not_binary(array), column.name, "not 0 or 1")
        else:
            refuse(None if array.dtype.kind in "iu" else ~np.isfinite(array), column.name, "not a finite number")
    if not layout.has_device:
        refuse((values.numbers[FLAGS[0]] == 1) & (values.numbers[FLAGS[1]] == 1), FLAGS[0], "computer and smartphone are both 1")

    where_lines = lines() if found or rejects else None
    for where, name, reason in found:
        rejects += [
            Reject(line=int(where_lines[row]), column=name, value=_short(values.shown(row, name)), reason=reason)  # type: ignore[index]
            for row in np.flatnonzero(where).tolist()
        ]
    return _good_rows(values, layout, ~bad if bad.any() else None, lines, sorted(rejects, key=lambda reject: reject.line))


def _good_rows(values: _Values, layout: Layout, good: np.ndarray | None, lines: Callable[[], np.ndarray], rejects: list[Reject]) -> Rows:
    def kept(array: np.ndarray) -> np.ndarray:
        return array if good is None else array[good]

    columns: dict[str, np.ndarray] = {ENTITY: kept(values.entity)}
    if layout.has_device:
        device = kept(values.device)
        columns[FLAGS[0]], columns[FLAGS[1]] = (device == 0).view(np.int8), (device == 1).view(np.int8)
    else:
        for flag in FLAGS:
            columns[flag] = kept(values.numbers[flag]).astype(np.int8, copy=False)
        device = (2 - 2 * columns[FLAGS[0]] - columns[FLAGS[1]]).astype(np.int8)
    for column in [*layout.wanted, *layout.extra]:
        kind = np.int8 if column.type == "binary" else np.float64
        columns[column.name] = kept(values.numbers[column.name]).astype(kind, copy=False)
    return Rows(frame=pd.DataFrame(columns, copy=False), device=device, lines=_LazyLines(lines, good), rejects=rejects)


def reject_rows(rows: Rows, where: np.ndarray, values: np.ndarray, reason: str) -> Rows:
    """The rows without those ``where`` is true, which become rejects of the column ``cr`` with their value and this reason."""
    found = np.flatnonzero(where)
    numbers = zip(rows.lines[found].tolist(), values[found].tolist(), strict=True)
    more = [Reject(line=line, column="cr", value=str(value), reason=reason) for line, value in numbers]
    return Rows(
        frame=rows.frame[~where].reset_index(drop=True),
        device=rows.device[~where],
        lines=rows.lines.only(~where),
        rejects=sorted([*rows.rejects, *more], key=lambda reject: reject.line),
    )


class _LazyLines:
    """Line numbers that cost nothing until one is asked for."""

    def __init__(self, lines: Callable[[], np.ndarray], good: np.ndarray | None) -> None:
        self._lines, self._good = lines, good

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        lines = self._lines()
        return lines[rows] if self._good is None else lines[self._good][rows]

    def only(self, kept: np.ndarray) -> "_LazyLines":
        """The lines of the rows where ``kept`` is true."""
        return _LazyLines(lambda: self[np.flatnonzero(kept)], None)


def _not_binary(array: np.ndarray) -> np.ndarray | None:
    if array.dtype == np.int8:
        # one pass over one byte a row: -1 reads as 255
        unsigned = array.view(np.uint8)
        return unsigned > 1 if len(unsigned) and unsigned.max() > 1 else None
    return ~((array == 0) | (array == 1))


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """Where the records of a piece of csv are that was read whole; reckoned only when a row has to be shown."""

    data: bytes
    first_line: int

    @functools.cached_property
    def _quoted(self) -> list[tuple[int, list[str]]]:
        return [(line, record) for line, _, record in _records(self.data)] if b'"' in self.data else []

    @functools.cached_property
    def _plain(self) -> tuple[np.ndarray, np.ndarray]:
        """Offsets at which the records start and end."""
        text = np.frombuffer(self.data + b"\n", dtype=np.uint8)
        ends = np.flatnonzero(text == 10)
        starts = np.append(0, ends[:-1] + 1)
        return starts, ends - (text[ends - 1] == 13)

    @functools.cached_property
    def _plain_rows(self) -> np.ndarray:
        """The lines, from 0, that are not blank."""
        starts, ends = self._plain
        return np.flatnonzero(starts < ends)

    @functools.cached_property
    def lines(self) -> np.ndarray:
        """The line on which each record starts."""
        return self.first_line + (np.array([line for line, _ in self._quoted], dtype=np.int64) if self._quoted else self._plain_rows)

    def value(self, row: int, column: int) -> str:
        """The value as it stands in the file."""
        if self._quoted:
            return self._quoted[row][1][column]
        starts, ends = self._plain
        line = self._plain_rows[row]
        return self.data[starts[line] : ends[line]].decode("utf-8", errors="replace").split(",")[column]


def _is_plain(data: bytes) -> bool:
    """False for what Arrow reads otherwise than record by record: lone carriage returns, 0x1F, endless lines."""
    if b"\r" in data and data.count(b"\r") != data.count(b"\r\n"):
        return False
    # one byte is looked for at a tenth of the cost of two
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


def _short(text: str) -> str:
    return text if len(text) <= MAX_VALUE_SHOWN else text[: MAX_VALUE_SHOWN - 3] + "..."


# --- writing -----------------------------------------------------------------------------------------------------------------


def prediction_text(entity_id: np.ndarray, device: np.ndarray, cr: np.ndarray) -> bytes:
    """The lines ``entity_id,device,cr`` without a header; ``cr`` as the shortest digits that read back to the same double."""
    out = pa.BufferOutputStream()
    table = pa.table({ENTITY: entity_id, DEVICE: device, "cr": cr})
    pa_csv.write_csv(table, out, pa_csv.WriteOptions(include_header=False, quoting_style="none"))
    return out.getvalue().to_pybytes()


def rejects_text(path: str, rejects: Sequence[Reject]) -> bytes:
    """The lines ``file,line,column,value,reason`` without a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows((path, reject.line, reject.column, reject.value, reject.reason) for reject in rejects)
    return out.getvalue().encode()


def compress(text: bytes) -> bytes:
    """One gzip member without a time in it: the same text gives the same bytes; members put end to end are one gzip file."""
    compressed: bytes = igzip.compress(text, compresslevel=GZIP_LEVEL, mtime=0)
    return compressed


def decompress(data: bytes) -> bytes:
    """The text of a gzip file of one or more members."""
    text: bytes = igzip.decompress(data)
    return text
