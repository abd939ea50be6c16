"""The border between files and numbers: reads a chunk, checks every value, writes a part, joins parts.

A chunk is read with the types that the release's manifest states. The fast way converts whole columns; where that fails, the same
chunk is read as floats, and where that fails too, record by record, so that one bad row is found and set aside as a reject with its
line, column, value and reason, and never fails its neighbours. All three ways give the same numbers for good rows.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
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
from workers.planning import open_parquet

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

_CSV_BLOCK_BYTES = 2 << 20
_ATTRIBUTE = re.compile(r"att\d+")
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
    """Read a piece of a csv file that holds whole records and no header."""
    for binary in () if _has_long_line(data) else (pa.int8(), pa.float64()):
        try:
            table = _parse(data, layout, binary)
        except pa.ArrowInvalid:
            continue
        lines: Callable[[], np.ndarray] = lambda: _record_lines(data) + first_line  # noqa: E731 - only reckoned when it is needed
        return _checked(_from_arrow(table, layout), layout, lines, [])
    return _read_records(data, layout, first_line)


def read_parquet_rows(raw: IO[bytes], layout: Layout, start: int, end: int) -> Rows:
    """Read the rows ``start`` to ``end`` (from 0, the last one left out) of a Parquet file."""
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
        for batch in file.iter_batches(batch_size=65536, row_groups=groups, columns=names):
            low, high = max(start - at, 0), min(end - at, batch.num_rows)
            if low < high:
                batches.append(batch.slice(low, high - low))
            at += batch.num_rows
    table = pa.Table.from_batches(batches)
    return _checked(_from_arrow(table, layout), layout, lambda: np.arange(table.num_rows), [])


@dataclass(frozen=True, kw_only=True)
class _Values:
    """Columns as they were read, before any check: NaN marks what is missing or no number."""

    numbers: dict[str, np.ndarray]
    """int8 (known to be complete) or float64, by name; ``entity_id`` is int64 or float64."""
    device: np.ndarray
    """Codes, int8; -1 where the value is no device; empty for flags."""
    shown: Callable[[int, str], str]
    """The value of (row, column) as people will see it."""


def _parse(data: bytes, layout: Layout, binary: pa.DataType) -> pa.Table:
    types = {column.name: binary if column.type == "binary" else pa.float64() for column in layout.numbers}
    types[ENTITY] = pa.int64()
    if layout.has_device:
        types[DEVICE] = pa.dictionary(pa.int32(), pa.string())
    return pa_csv.read_csv(
        pa.BufferReader(data),
        read_options=pa_csv.ReadOptions(column_names=layout.columns, block_size=_CSV_BLOCK_BYTES, use_threads=False),
        parse_options=pa_csv.ParseOptions(newlines_in_values=b'"' in data),
        convert_options=pa_csv.ConvertOptions(column_types=types, include_columns=list(types)),
    )


def _from_arrow(table: pa.Table, layout: Layout) -> _Values:
    numbers = {name: _as_numbers(table.column(name)) for name in [ENTITY, *(column.name for column in layout.numbers)]}
    device = _device_codes(table.column(DEVICE)) if layout.has_device else np.empty(0, dtype=np.int8)

    def shown(row: int, name: str) -> str:
        value = table.column(name)[row].as_py()
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # the file says 2, only this way of reading makes 2.0 of it
        return "" if value is None else str(value)

    return _Values(numbers=numbers, device=device, shown=shown)


def _as_numbers(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_dictionary(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _floats([str(value) for value in column.to_pylist()])
    if pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return np.full(len(column), np.nan)
    if column.null_count:
        column = column.cast(pa.float64(), safe=False)
    return (
        column.combine_chunks().to_numpy(zero_copy_only=False) if column.num_chunks != 1 else column.chunk(0).to_numpy(zero_copy_only=False)
    )


def _device_codes(column: pa.ChunkedArray) -> np.ndarray:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries()
    if not column.num_chunks:
        return np.empty(0, dtype=np.int8)
    names = column.chunk(0).dictionary.to_pylist()
    codes = np.array([_CODES.get(str(name).strip().lower(), -1) for name in names] + [-1], dtype=np.int8)
    indices = pc.fill_null(pa.chunked_array([chunk.indices for chunk in column.chunks]), len(names))
    return codes[indices.to_numpy()]


def _read_records(data: bytes, layout: Layout, first_line: int) -> Rows:
    """The slow way: every record by itself, for chunks that hold a value which is no number, or a broken record."""
    csv.field_size_limit(len(data) + 1)
    place = {name: index for index, name in enumerate(layout.columns)}
    kept: list[list[str]] = []
    lines: list[int] = []
    rejects: list[Reject] = []
    # newline="" keeps line breaks inside quotes; bytes that are not text become a mark that no number contains
    reader = csv.reader(io.StringIO(data.decode("utf-8", errors="replace"), newline=""))
    line = first_line
    for record in reader:
        at, line = line, first_line + reader.line_num
        if not record:
            continue
        if sum(map(len, record)) > MAX_LINE_BYTES and reader.line_num == at - first_line + 1:
            reason = f"the line is longer than {MAX_LINE_BYTES:,} bytes"
            rejects.append(Reject(line=at, column="", value=_short(record[0]), reason=reason))
        elif len(record) != len(layout.columns):
            reason = f"the record has {len(record)} values, the header {len(layout.columns)}"
            rejects.append(Reject(line=at, column="", value=_short(",".join(record)), reason=reason))
        else:
            kept.append(record)
            lines.append(at)
    names = [ENTITY, *(column.name for column in layout.numbers)]
    numbers = {name: _floats([record[place[name]] for record in kept]) for name in names}
    numbers[ENTITY] = _whole(numbers[ENTITY], [record[place[ENTITY]] for record in kept])
    device = (
        np.array([_CODES.get(record[place[DEVICE]].strip().lower(), -1) for record in kept], dtype=np.int8) if layout.has_device else None
    )
    values = _Values(
        numbers=numbers,
        device=np.empty(0, dtype=np.int8) if device is None else device,
        shown=lambda row, name: kept[row][place[name]],
    )
    return _checked(values, layout, lambda: np.array(lines, dtype=np.int64), rejects)


def _floats(texts: list[str]) -> np.ndarray:
    def number(text: str) -> float:
        try:
            # Python reads 1_000 as a number; a table does not
            return float(text) if "_" not in text else np.nan
        except ValueError:
            return np.nan

    return np.fromiter(map(number, texts), dtype=np.float64, count=len(texts))


def _whole(floats: np.ndarray, texts: list[str]) -> np.ndarray:
    """int64 where all texts are whole numbers, so that long ids keep every digit; else the floats."""
    try:
        return np.array([int(text) for text in texts], dtype=np.int64)
    except (ValueError, OverflowError):
        return floats


# --- checking ----------------------------------------------------------------------------------------------------------------


def _checked(values: _Values, layout: Layout, lines: Callable[[], np.ndarray], rejects: list[Reject]) -> Rows:
    count = len(values.numbers[ENTITY])
    bad = np.zeros(count, dtype=bool)
    found: list[tuple[np.ndarray, str, str]] = []

    def refuse(where: np.ndarray | None, column: str, reason: str) -> None:
        if where is not None and where.any():
            found.append((where & ~bad, column, reason))
            np.logical_or(bad, where, out=bad)

    refuse(_not_whole(values.numbers[ENTITY]), ENTITY, "not a whole number")
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

    columns: dict[str, np.ndarray] = {ENTITY: kept(values.numbers[ENTITY]).astype(np.int64, copy=False)}
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


def _not_whole(array: np.ndarray) -> np.ndarray | None:
    if array.dtype.kind in "iu":
        return None
    with np.errstate(invalid="ignore"):
        return ~(np.isfinite(array) & (np.floor(array) == array) & (np.abs(array) < 2.0**53))


def _not_binary(array: np.ndarray) -> np.ndarray | None:
    if array.dtype == np.int8:
        # one pass over one byte a row: -1 reads as 255
        unsigned = array.view(np.uint8)
        return unsigned > 1 if len(unsigned) and unsigned.max() > 1 else None
    return ~((array == 0) | (array == 1))


def _record_lines(data: bytes) -> np.ndarray:
    """The line on which each record starts, from 0; blank lines are no records."""
    if b'"' not in data:
        lengths = np.diff(np.flatnonzero(np.frombuffer(b"\n" + data.rstrip(b"\r\n") + b"\n", dtype=np.uint8) == 10))
        blank = lengths == 1
        if b"\r\n" in data:
            blank |= [line in (b"\r", b"") for line in data.rstrip(b"\r\n").split(b"\n")]
        return np.flatnonzero(~blank)
    lines, line = [], 0
    reader = csv.reader(io.StringIO(data.decode("utf-8", errors="replace"), newline=""))
    for record in reader:
        if record:
            lines.append(line)
        line = reader.line_num
    return np.array(lines, dtype=np.int64)


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
