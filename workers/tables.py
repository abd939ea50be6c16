"""The border between files and numbers: reads a chunk, checks every value, writes a part, joins parts.

A chunk is read with the types that the release's manifest states. The fast way converts whole columns; where that fails, the same
chunk is read as floats, and where that fails too, record by record, so that one bad row is found and set aside as a reject with its
line, column, value and reason, and never fails its neighbours. All three ways give the same numbers for good rows.
"""

import codecs
import contextlib
import csv
import functools
import io
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from isal import igzip

from shared.catalog.manifests import KEYS, Column, ColumnType
from shared.errors import TableError
from workers.csv_records import joins_rows
from workers.flag_runs import Run, find_run, lift, pack, unpack
from workers.headers import missing_columns, refuse_doubled
from workers.planning import bytes_of_row, open_parquet, refusing_bad_parquet

DEVICES = ("Computer", "Smartphone", "Tablet")
"""Device names; the place in this tuple is the code in the output."""

OTHER_DEVICES = {
    **dict.fromkeys(["computers", "desktop", "desktops", "pc", "desktop computers", "laptop"], "Computer"),
    **dict.fromkeys(
        ["mobile", "mobiles", "mobile phone", "mobile phones", "mobile devices with full browsers", "phone", "phones", "smartphones"],
        "Smartphone",
    ),
    **dict.fromkeys(["tablets", "tablets with full browsers", "ipad"], "Tablet"),
}
"""What advertising platforms call the devices; a reject says which name to write, since none of these is taken for one."""

OTHER_NUMBERS = ("3", "4", "5", "6")
"""Numbers of Google Ads beside its 2, which is a mobile phone there and a tablet here."""

FLAGS = ("computer", "smartphone")
"""The device in the prepared layout; a tablet is neither."""

ENTITY, DEVICE = "entity_id", "device"
RATE = "cr"
LABELS = (RATE, "Clicks", "Conversions", "week")
"""Columns of a training table that are no features."""

BOUNDS = ("cr_low", "cr_high")
"""Between what the rate lies, where that was asked for."""

REJECTS_HEADER = b"file,line,column,value,reason\n"
GZIP_LEVEL = 1

REJECTS_QUOTED = 3
"""How many rejects an error quotes."""

MAX_VALUE_SHOWN = 80
MAX_LINE_BYTES = 1 << 20
"""A longer line is a reject: no row of a keyword table comes near."""

MAX_SWALLOWED_LINES = 1000
"""A broken record over more lines than this, which were rows before a quote went wrong, makes the table one that cannot be read."""

_CSV_BLOCK_BYTES = 2 << 20
PARQUET_ROWS_AT_ONCE, PARQUET_BYTES_AT_ONCE = 16384, 10 << 20
"""What Arrow decodes together, whichever is reached first: of more it needs several times the size, and of less more time."""

SPARE_OF_MEAN = 4
"""So many times the mean length of the texts of a row group is reckoned for each."""

WRITTEN_AT_ONCE = 8192
"""Rows that Arrow turns into text together; its own 1024 take a tenth longer."""

_ATTRIBUTE = re.compile(r"att\d+")
_WHOLE = re.compile(r"([+-]?[0-9]+)(?:\.0*)?")
_EXPONENT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?[eE][+-]?[0-9]+")
_TRUTHS = {"true": 1.0, "false": 0.0}
"""Words for 1 and 0, in any case: a boolean of a Parquet file, and what a spreadsheet writes for one."""
_NOT_ONE_LINE = re.compile("[\r\n\ufffd]")
_LONE_RETURNS = re.compile(r"(?<!\r)\r++(?!\n|\Z)")
"""Carriage returns that end no line. A run of them is looked at once: at each of its characters would take the square of its length."""
_CODES = {name.lower(): code for code, name in enumerate(DEVICES)} | {f"{code}{zero}": code for code in range(3) for zero in ("", ".0")}


@dataclass(frozen=True, kw_only=True)
class Reject:
    """An input row that cannot be scored, and why."""

    line: int
    column: str
    value: str
    reason: str

    def __str__(self) -> str:
        column = f", column {self.column}: {self.value!r} is {self.reason}" if self.column else f": {self.reason}"
        return f"line {self.line}{column}"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The good rows of a chunk, checked, and the rejects among them."""

    frame: pd.DataFrame
    """The keys but the device (``entity_id`` int64, others text), ``computer``, ``smartphone`` (int8) where the device is read, then the
    wanted columns (int8, float64 or text), one row each."""
    device: np.ndarray
    """Device codes, int8, one a row; all 0 where the device is not read."""
    lines: "_LazyLines"
    """Line of each row in its file, int64."""
    rejects: list[Reject]

    def keys(self, names: Sequence[str]) -> list[np.ndarray]:
        """The columns that name a row, as they are written."""
        return [self.device if name == DEVICE else self.frame[name].to_numpy() for name in names]


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
    keys: tuple[str, ...] = KEYS
    """The columns that name a row."""
    flags: tuple[str, ...] = FLAGS
    """The device as features; empty where nobody asks for it."""

    @property
    def has_device(self) -> bool:
        """True for the raw layout with one device column, False for flags, or where the device is not read."""
        return bool(self.flags) and DEVICE in self.columns

    @property
    def ids(self) -> list[str]:
        """The entity id, where it is a key."""
        return [ENTITY] if ENTITY in self.keys else []

    @functools.cached_property
    def texts(self) -> list[str]:
        """The columns that are read as text: keys of a definition's own, and features."""
        own_keys = [name for name in self.keys if name not in KEYS]
        return list(dict.fromkeys([*own_keys, *(column.name for column in self.wanted if column.type == "text")]))

    @functools.cached_property
    def run(self) -> Run | None:
        """The run of binary columns that is worth to be lifted out of csv text."""
        return find_run(self.columns, {column.name for column in [*self.wanted, *self.extra] if column.type == "binary"})

    def without(self, names: Collection[str]) -> "Layout":
        """The layout of the same file once these columns were taken out of it."""
        out = set(names)
        return replace(
            self,
            columns=[name for name in self.columns if name not in out],
            wanted=[column for column in self.wanted if column.name not in out],
            extra=[column for column in self.extra if column.name not in out],
        )

    @property
    def numbers(self) -> list[Column]:
        """Every column that is read as numbers besides the entity id."""
        flags = [] if self.has_device else [Column(name=name, type="binary") for name in self.flags]
        return [*flags, *(column for column in self.wanted if column.type != "text"), *self.extra]

    @property
    def needed(self) -> list[str]:
        """The names of all columns that are read."""
        return [*self.ids, *([DEVICE] if self.has_device else []), *self.texts, *(column.name for column in self.numbers)]


def layout_for(
    path: str, columns: list[str], wanted: Sequence[Column], extra: Sequence[Column] = (), *, keys: tuple[str, ...] = KEYS
) -> Layout:
    """The layout of a file for these features and keys; the device is read where it is a key or a feature.

    Raises:
        TableError: the file lacks a column that is needed, or has it twice; the sentence names it.
    """
    features = [column for column in wanted if column.name not in FLAGS]
    flags = FLAGS if DEVICE in keys or len(features) < len(wanted) else ()
    layout = Layout(path=path, columns=columns, wanted=features, extra=list(extra), keys=keys, flags=flags)
    needed = dict.fromkeys([*layout.ids, *layout.texts, *(column.name for column in [*features, *extra])])
    there = set(columns)
    missing = [name for name in needed if name not in there]
    if flags and not layout.has_device and not there.issuperset(FLAGS):
        missing.append(f"{DEVICE} (or {' and '.join(FLAGS)})")
    if missing:
        raise missing_columns(missing, columns, path)
    refuse_doubled(layout.needed, columns, path)
    return layout


def feature_columns(columns: Sequence[str], keys: Collection[str] = KEYS, text: Collection[str] = ()) -> list[Column]:
    """What a training table offers as features: every named column that is neither key nor label, and the device if it is there or a key.

    Those named in ``text`` are text, keys among them as well; ``att<n>`` holds 0 and 1, and the others are numbers.
    """
    taken = {"", ENTITY, DEVICE, *FLAGS, *LABELS, *keys} - set(text)
    has_device = DEVICE in keys or DEVICE in columns or all(flag in columns for flag in FLAGS)
    flags = [Column(name=name, type="binary") for name in FLAGS if has_device]
    return flags + [Column(name=name, type=_type_of(name, text)) for name in columns if name not in taken]


def _type_of(name: str, text: Collection[str]) -> ColumnType:
    return "text" if name in text else "binary" if _ATTRIBUTE.fullmatch(name) else "number"


# --- reading -----------------------------------------------------------------------------------------------------------------


def read_csv_rows(data: bytes, layout: Layout, first_line: int) -> Rows:
    """Read a piece of a csv file that holds whole records and no header.

    Raises:
        TableError: a quote that closes far too late has swallowed more lines than may be lost.
    """
    piece = _Piece(data=data, first_line=first_line)
    has_quote = b'"' in data
    values = None if has_quote else _lift_run(data, layout, piece)
    if values is None:
        # where a quote begins and ends must not depend on the way that the neighbours made the text go
        is_plain = _is_plain(data) and not (has_quote and layout.texts)
        table = _parse(data, layout, pa.int8(), pa.float64()) if is_plain else None
        # a record over several lines may be two rows that a stray quote made one
        if table is None or (has_quote and table.num_rows < len(piece.lines)):
            return _read_records(data, layout, first_line)
        values = _from_arrow(table, layout, piece.shown(layout))
    return _checked(values, layout, lambda: piece.lines, [])


def _lift_run(data: bytes, layout: Layout, piece: "_Piece") -> "_Values | None":
    """The quickest way: the longest run of binary columns is lifted out; None where not every line is as it must be for that."""
    run = layout.run
    lifted = lift(data, run, spare=len(layout.flags)) if run else None
    if run is None or lifted is None:
        return None
    binary, text = lifted
    rest = layout.without(run.columns)
    table = _parse(text, rest, pa.int8(), pa.float64()) if _is_plain(text) else None
    if table is None or table.num_rows != len(binary):
        return None
    return replace(_from_arrow(table, rest, piece.shown(layout)), run=run.columns, binary=binary)


class ParquetReader:
    """Reads the rows of a Parquet file before row ``end``, range by range; its lines are rows, counted from 1.

    Arrow decodes a row group from its start; a range that begins where the one before ended is decoded on from there. What is ``known``
    of the file need not be read again from its end.
    """

    def __init__(self, raw: IO[bytes], layout: Layout, end: int, known: pq.FileMetaData | None = None) -> None:
        self._layout, self._end = layout, end
        known = known or open_parquet(raw, layout.path).metadata
        with refusing_bad_parquet(layout.path):
            kinds = known.schema.to_arrow_schema()
            kind_of = dict(zip(kinds.names, kinds.types, strict=True))
            texts = [name for name in layout.needed if name in kind_of and _is_text(kind_of[name])]
        self._file = open_parquet(raw, layout.path, known, texts=texts)
        schema = self._file.schema_arrow
        self._run = tuple(
            column.name
            for column in [*layout.wanted, *layout.extra]
            if column.type == "binary" and pa.types.is_integer(schema.field(column.name).type)
        )
        """Columns that go into one block at once."""
        self._decoded: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None
        """What was decoded of the next range."""
        self._at: int | None = None

    def text_bytes_of_row(self, start: int, end: int) -> int:
        """What texts that are kept as texts may take in a row: the longest of a dictionary, or the mean of the others with room to spare.

        Raises:
            TableError: a page of the file is damaged.
        """
        with refusing_bad_parquet(self._layout.path):
            return sum(self._longest_text(name, start, end) for name in self._layout.texts)

    def _longest_text(self, name: str, start: int, end: int) -> int:
        found, longest, at = self._file.metadata, 0, 0
        for group in range(found.num_row_groups):
            rows = found.row_group(group).num_rows
            if at < end and start < at + rows:
                mean = _bytes_of_column(found.row_group(group), name) // max(rows, 1)
                longest = max(longest, SPARE_OF_MEAN * mean, self._longest_in_dictionary(name, group))
            at += rows
        return longest

    def _longest_in_dictionary(self, name: str, group: int) -> int:
        batch = next(self._file.iter_batches(batch_size=1, row_groups=[group], columns=[name], use_threads=False), None)
        column = batch.column(0) if batch is not None else None
        if not isinstance(column, pa.DictionaryArray) or not _is_text(column.type.value_type):
            return 0
        return pc.max(pc.binary_length(column.dictionary)).as_py() or 0

    def rows(self, start: int, end: int) -> Rows:
        """The rows ``start`` to ``end`` (from 0, the last one left out), checked.

        Raises:
            TableError: a page of the file is damaged, or not all of these rows are there.
        """
        with refusing_bad_parquet(self._layout.path):
            values = self._read(start, end)
            if values is None and self._run:
                # not only 0 and 1: read as any column is, here and in what follows
                self._run, self._at = (), None
                values = self._read(start, end)
        if values is None or values.count != end - start:
            raise TableError(f"{self._layout.path} holds fewer rows than it says", next_step="Write it again; it may have been damaged.")
        return _checked(values, self._layout, lambda: np.arange(start, end) + 1, [])

    def _read(self, start: int, end: int) -> "_Values | None":
        """The rows as they are read. None where there are none, or a column of the run holds more than 0 and 1."""
        layout, run = self._layout, self._run
        rest = layout.without(run)
        spare = len(layout.flags)
        packed: list[np.ndarray] = []
        batches: list[pa.RecordBatch] = []
        for batch in self._batches(start, end):
            if run:
                flags = _packed(batch.select([*run]), spare)
                if flags is None:
                    return None
                packed.append(flags)
            batches.append(batch.select(rest.needed))
        if not batches:
            return None
        table = pa.Table.from_batches(batches)

        def shown(row: int, name: str) -> str:
            column = table.column(name).slice(row, 1)
            (text,) = _texts(column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column)
            return text or ""

        values = _from_arrow(table, rest, shown)
        return replace(values, run=run, binary=unpack(packed, spare + len(run))) if run else values

    def _batches(self, start: int, end: int) -> Iterator[pa.RecordBatch]:
        """The rows ``start`` to ``end``, a few at a time."""
        if start != self._at:
            self._decoded, self._rest, self._at = self._decode(start), None, start
        while self._at < end:
            batch = next(self._decoded, None) if self._rest is None else self._rest
            if batch is None:
                return
            count = min(end - self._at, batch.num_rows)
            self._rest = batch.slice(count) if count < batch.num_rows else None
            self._at += count
            yield batch.slice(0, count)
        if end >= self._end:
            # what the decoder holds is not needed while the rows are scored
            self._decoded, self._rest = iter(()), None

    def _decode(self, start: int) -> Iterator[pa.RecordBatch]:
        """All that stands behind ``start``; only the row groups that hold some of it are read."""
        groups, at, skipped = [], 0, 0
        for group in range(self._file.metadata.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            if at + count <= start:
                skipped += count
            elif at < self._end:
                groups.append(group)
            at += count
        names = [*self._layout.without(self._run).needed, *self._run]
        at_once = min(PARQUET_ROWS_AT_ONCE, max(PARQUET_BYTES_AT_ONCE // bytes_of_row(self._file.metadata), 1))
        for batch in self._file.iter_batches(batch_size=at_once, row_groups=groups, columns=names, use_threads=False):
            _check_dictionaries(batch)
            behind = max(start - skipped, 0)
            if behind < batch.num_rows:
                yield batch.slice(behind)
            skipped += batch.num_rows


def _check_dictionaries(batch: pa.RecordBatch) -> None:
    """Raises ArrowInvalid when a row names a text that its dictionary does not have: Arrow itself does not look."""
    for column in batch.columns:
        if isinstance(column, pa.DictionaryArray):
            places = pc.min_max(column.indices)
            least, most = places["min"].as_py(), places["max"].as_py()
            if least is not None and not 0 <= least <= most < len(column.dictionary):
                raise pa.ArrowInvalid("a page of it is damaged")


def _bytes_of_column(group: pq.RowGroupMetaData, name: str) -> int:
    columns = (group.column(place) for place in range(group.num_columns))
    return next((column.total_uncompressed_size for column in columns if column.path_in_schema == name), 0)


def _packed(batch: pa.RecordBatch, spare: int) -> np.ndarray | None:
    """Columns of whole numbers as bits; None when a value is missing, or neither 0 nor 1."""
    if any(column.null_count for column in batch.columns):
        return None
    if len({column.type for column in batch.columns}) > 1:
        # together they would all become as wide as the widest
        try:
            batch = pa.RecordBatch.from_arrays([column.cast(pa.uint8()) for column in batch.columns], names=batch.schema.names)
        except pa.ArrowInvalid:
            return None
    return pack(batch.to_tensor(row_major=False).to_numpy().T, spare=spare)


@dataclass(frozen=True, kw_only=True)
class _Values:
    """Columns as they were read, before any check: NaN marks what is missing or no number, None what is missing of text."""

    count: int
    """Rows."""
    entity: np.ndarray
    """int64, one a row; each id keeps every digit, whatever stands in the other rows. Empty where it is no key."""
    not_whole: np.ndarray | None
    """Where the entity id is no whole number; None if nowhere."""
    numbers: dict[str, np.ndarray]
    """int8 (known to be complete) or float64, by name."""
    device: np.ndarray
    """Codes, int8; -1 where the value is no device; empty for flags."""
    texts: dict[str, np.ndarray]
    """Objects (str or None), by name."""
    shown: Callable[[int, str], str]
    """The value of (row, column) as people will see it."""
    run: tuple[str, ...] = ()
    """Columns that were lifted out together, and are known to hold 0 and 1 alone."""
    binary: np.ndarray | None = None
    """Their values, int8, one row each, with two spare columns before them for the flags."""


def _parse(data: bytes, layout: Layout, *binaries: pa.DataType) -> pa.Table | None:
    """The columns as Arrow reads them, with the first type for binary ones that fits; None when none does."""
    for binary in binaries:
        types = {column.name: binary if column.type == "binary" else pa.float64() for column in layout.numbers}
        types |= dict.fromkeys(layout.ids, pa.int64()) | dict.fromkeys(layout.texts, pa.string())
        if layout.has_device:
            types[DEVICE] = pa.dictionary(pa.int32(), pa.string())
        with contextlib.suppress(pa.ArrowInvalid):
            return pa_csv.read_csv(
                pa.BufferReader(data),
                read_options=pa_csv.ReadOptions(column_names=_distinct(layout.columns), block_size=_CSV_BLOCK_BYTES, use_threads=False),
                parse_options=pa_csv.ParseOptions(newlines_in_values=b'"' in data),
                convert_options=pa_csv.ConvertOptions(column_types=types, include_columns=list(types)),
            )
    return None


def _distinct(columns: list[str]) -> list[str]:
    """The names with those changed that are there again: no such column is needed, but Arrow takes none of a name that is there twice."""
    if len(set(columns)) == len(columns):
        return columns
    seen: set[str] = set()
    return [f"\0{place}" if name in seen or seen.add(name) else name for place, name in enumerate(columns)]  # type: ignore[func-returns-value]


def _from_arrow(table: pa.Table, layout: Layout, shown: Callable[[int, str], str]) -> _Values:
    entity, not_whole = _entities(table.column(ENTITY)) if layout.ids else _NO_ENTITIES
    return _Values(
        count=table.num_rows,
        entity=entity,
        not_whole=not_whole,
        numbers={column.name: _as_numbers(table.column(column.name)) for column in layout.numbers},
        device=_device_codes(table.column(DEVICE)) if layout.has_device else np.empty(0, dtype=np.int8),
        texts={name: _objects(_texts(table.column(name))) for name in layout.texts},
        shown=shown,
    )


_NO_ENTITIES: tuple[np.ndarray, None] = np.empty(0, dtype=np.int64), None


def _objects(texts: Sequence[str | None]) -> np.ndarray:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def _entities(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids as int64, and where there is none (None if nowhere)."""
    if pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type):
        missing = column.is_null().to_numpy() if column.null_count else None
        return _to_numpy(column.fill_null(0) if column.null_count else column).astype(np.int64, copy=False), missing
    if pa.types.is_floating(column.type):
        # beyond that the type cannot hold each whole number, so the id may have been another one
        exact_below = 2.0 ** (np.finfo(column.type.to_pandas_dtype()).nmant + 1)
        floats = _as_numbers(column).astype(np.float64, copy=False)
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(floats) & (np.floor(floats) == floats) & (np.abs(floats) < exact_below)
        return np.where(whole, floats, 0).astype(np.int64), None if whole.all() else ~whole
    return _whole(_texts(column))


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """Values as a csv file would show them; bytes that are not text become a mark that no number or device contains."""
    if pa.types.is_dictionary(column.type):
        return [text for chunk in column.chunks for text in _texts_of_dictionary(chunk)]
    if _is_text(column.type):
        column = column.cast(pa.large_binary())  # Arrow does not look whether text is text
    if pa.types.is_nested(column.type) or pa.types.is_temporal(column.type):
        return [f"({column.type})"] * len(column)
    return [_text(value) for value in column.to_pylist()]


def _texts_of_dictionary(array: pa.DictionaryArray) -> list[str | None]:
    """The same text is the same object in every row: as often as it stands there it might fill the memory."""
    texts = [*_texts(pa.chunked_array([array.dictionary])), None]
    return [texts[-1 if place is None else place] for place in array.indices.to_pylist()]


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    # a decimal number without an exponent
    return None if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)


def _is_text(kind: pa.DataType) -> bool:
    return any(fits(kind) for fits in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary))


def _as_numbers(column: pa.ChunkedArray) -> np.ndarray:
    if _is_text(column.type) or pa.types.is_dictionary(column.type):
        return _floats(_texts(column))
    if pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return np.full(len(column), np.nan)
    if column.null_count:
        column = column.cast(pa.float64(), safe=False)
    return _to_numpy(column)


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    arrays = [chunk.to_numpy(zero_copy_only=False) for chunk in column.chunks]
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=column.type.to_pandas_dtype())


def _device_codes(column: pa.ChunkedArray) -> np.ndarray:
    if not pa.types.is_dictionary(column.type):
        try:
            column = column.dictionary_encode()
        except pa.ArrowNotImplementedError:  # lists and other things that name no device
            return np.full(len(column), -1, dtype=np.int8)
    column = column.unify_dictionaries()
    if not column.num_chunks:
        return np.empty(0, dtype=np.int8)
    names = _texts(pa.chunked_array([column.chunk(0).dictionary]))
    codes = np.array([_device_code(name) for name in names] + [-1], dtype=np.int8)
    indices = pc.fill_null(pa.chunked_array([chunk.indices for chunk in column.chunks]), len(names))
    return codes[indices.to_numpy()]


def _read_records(data: bytes, layout: Layout, first_line: int) -> Rows:
    """The slow way: every record by itself, for chunks that hold a value which is no number, or a broken record."""
    place = {name: index for index, name in enumerate(layout.columns)}
    names = [column.name for column in layout.numbers]
    needed = [place[name] for name in layout.needed]
    checks = _checks(layout, place)
    kept: list[list[str]] = []
    lines: list[int] = []
    rejects: list[Reject] = []
    for line, own_lines, record in _records(data):
        count = len(own_lines)
        if count == 1 and sum(map(len, record)) > MAX_LINE_BYTES:
            broken, value = f"the line is longer than {MAX_LINE_BYTES:,} bytes", record[0]
        elif len(record) != len(layout.columns):
            broken, value = f"the record has {len(record)} values, the header {len(layout.columns)}", ",".join(record)
        elif count > 1 and (any("\n" in record[index] for index in needed) or not _is_strict(own_lines)):
            broken, value = f"a value runs over its line into the {count - 1} below it; perhaps a quote is never closed", ",".join(record)
        elif len(apart := _cut_at_returns(own_lines)) > 1 and joins_rows(apart, len(layout.columns), checks):
            others = f"this line with the {count - 1} below it" if count > 1 else "lines that end in a carriage return alone"
            broken = f"quotes join {others}, which are rows by themselves; perhaps a quote is stray"
            value = ",".join(record)
        else:
            kept.append(record)
            lines.append(first_line + line)
            continue
        rejects += _broken(layout.path, first_line + line, own_lines, _short(value), broken)
    entity, not_whole = _whole([record[place[ENTITY]] for record in kept]) if layout.ids else _NO_ENTITIES
    values = _Values(
        count=len(kept),
        entity=entity,
        not_whole=not_whole,
        numbers={name: _floats([record[place[name]] for record in kept]) for name in names},
        device=np.array([_device_code(record[place[DEVICE]]) for record in kept] if layout.has_device else [], dtype=np.int8),
        texts={name: _objects([record[place[name]] for record in kept]) for name in layout.texts},
        shown=lambda row, name: kept[row][place[name]],
    )
    return _checked(values, layout, lambda: np.array(lines, dtype=np.int64), rejects)


def _checks(layout: Layout, place: Mapping[str, int]) -> dict[int, Callable[[str], bool]]:
    """For the columns that not any text fits, by their place: whether a text does."""
    checks: dict[int, Callable[[str], bool]] = {place[name]: lambda text: _id(text) is not None for name in layout.ids}
    if layout.has_device:
        checks[place[DEVICE]] = lambda text: _device_code(text) >= 0
    for column in layout.numbers:
        is_binary = column.type == "binary"
        checks[place[column.name]] = (lambda text: _number(text) in (0, 1)) if is_binary else (lambda text: math.isfinite(_number(text)))
    return checks


def _records(data: bytes) -> Iterator[tuple[int, list[str], list[str]]]:
    """Every record but the blank ones: its first line counted from 0, its lines as they stand, its values."""
    # bytes that are not text, and carriage returns that end no line, become a mark that no number contains
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in io.StringIO(data.decode("utf-8", errors="replace"), newline="\n"):
            taken.append(line)
            yield _marked(line)

    at = 0
    for record in csv.reader(lines()):
        if record:
            yield at, taken.copy(), record
        at += len(taken)
        taken.clear()


def _marked(line: str) -> str:
    return _LONE_RETURNS.sub(lambda found: "\ufffd" * len(found[0]), line) if "\r" in line else line


def _cut_at_returns(lines: list[str]) -> list[str]:
    """The lines of a record, those included that end in a carriage return alone."""
    if not any("\r" in line and _LONE_RETURNS.search(line) for line in lines):
        return lines
    text = _LONE_RETURNS.sub(lambda found: "\n" * len(found[0]), "".join(lines))
    return list(io.StringIO(text, newline="\n"))


def _is_strict(lines: list[str]) -> bool:
    """False when something stands behind a closing quote: then it was no closing quote, but the next stray one."""
    try:
        return bool(list(csv.reader(map(_marked, lines), strict=True)))
    except csv.Error:
        return False


def _broken(path: str, line: int, lines: Sequence[str], value: str, reason: str) -> list[Reject]:
    """The rejects for a broken record: one for each line that is not blank, since each was a row before a quote went wrong."""
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


def _device_code(text: str | None) -> int:
    return -1 if text is None else _CODES.get(text.strip().lower(), -1)


def _number(text: str | None) -> float:
    try:
        # Python also reads 1_000 and digits of other scripts; a table does not
        return float(text) if text is not None and text.isascii() and "_" not in text else np.nan
    except ValueError:
        return _TRUTHS.get((text or "").strip().lower(), np.nan)


def _floats(texts: Sequence[str | None]) -> np.ndarray:
    return np.fromiter(map(_number, texts), dtype=np.float64, count=len(texts))


def _whole(texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids as int64, and where there is none (None if nowhere)."""
    numbers = [_id(text) for text in texts]
    missing = np.array([number is None for number in numbers], dtype=bool)
    return np.array([number or 0 for number in numbers], dtype=np.int64), missing if missing.any() else None


def _id(text: str | None) -> int | None:
    """An id is digits: a number that was written with an exponent or a fraction may have lost some."""
    found = _WHOLE.fullmatch(text.strip()) if text is not None else None
    # Python refuses to read thousands of digits at once
    whole = int(found[1]) if found and len(found[1]) <= MAX_VALUE_SHOWN else None
    return whole if whole is not None and -(2**63) <= whole < 2**63 else None


# --- checking ----------------------------------------------------------------------------------------------------------------


def _checked(values: _Values, layout: Layout, lines: Callable[[], np.ndarray], rejects: list[Reject]) -> Rows:
    bad = np.zeros(values.count, dtype=bool)
    found: list[tuple[np.ndarray, str, Callable[[str], str]]] = []

    def refuse(where: np.ndarray | None, column: str, reason: Callable[[str], str]) -> None:
        if where is not None and where.any():
            found.append((where & ~bad, column, reason))
            np.logical_or(bad, where, out=bad)

    refuse(values.not_whole, ENTITY, _why_no_id)
    if layout.has_device:
        refuse(values.device < 0, DEVICE, _why_no_device)
    for name, texts in values.texts.items():
        refuse(_missing(texts) if name in layout.keys else None, name, _always("missing, and it names the row"))
        refuse(_too_long(texts), name, _always(f"longer than {MAX_LINE_BYTES:,} bytes"))
        refuse(_not_one_line(texts), name, _always("not text on one line, in UTF-8"))
    for column in layout.numbers:
        array = values.numbers.get(column.name)
        if array is None:
            continue  # in the run
        if column.type == "binary":
            refuse(_not_binary(array), column.name, _missing_or("not 0 or 1"))
        else:
            refuse(None if array.dtype.kind in "iu" else ~np.isfinite(array), column.name, _missing_or("not a finite number"))
    if layout.flags and not layout.has_device:
        both: np.ndarray = (values.numbers[FLAGS[0]] == 1) & (values.numbers[FLAGS[1]] == 1)
        refuse(both, FLAGS[0], _always("computer and smartphone are both 1"))

    where_lines = lines() if found or rejects else None
    for where, name, reason in found:
        for row in np.flatnonzero(where).tolist():
            value = values.shown(row, name)
            rejects.append(Reject(line=int(where_lines[row]), column=name, value=_short(value), reason=reason(value)))  # type: ignore[index]
    return _good_rows(values, layout, ~bad if bad.any() else None, lines, sorted(rejects, key=lambda reject: reject.line))


def _always(reason: str) -> Callable[[str], str]:
    return lambda _: reason


def _missing_or(reason: str) -> Callable[[str], str]:
    return lambda value: reason if value.strip() else "missing"


def _why_no_id(value: str) -> str:
    text = value.strip()
    if _WHOLE.fullmatch(text):
        return "too large for an id"
    if _EXPONENT.fullmatch(text):
        return "not a whole number: written with an exponent, it has lost digits"
    return "not a whole number" if text else "missing"


def _why_no_device(value: str) -> str:
    text = value.strip().lower()
    known = f"not one of {', '.join(DEVICES)}, 0, 1, 2"
    if text in OTHER_DEVICES:
        return f"{known}; write {OTHER_DEVICES[text]}"
    if text.removesuffix(".0") in OTHER_NUMBERS:
        return f"{known}; other systems number devices in another way, so write their names"
    return known if text else "missing"


def _good_rows(values: _Values, layout: Layout, good: np.ndarray | None, lines: Callable[[], np.ndarray], rejects: list[Reject]) -> Rows:
    def kept(array: np.ndarray) -> np.ndarray:
        # what Arrow made cannot be written to, and a definition may change the table that it is given
        return array[good] if good is not None else array if array.flags.writeable else array.copy()

    if layout.has_device:
        device = kept(values.device)
        flags = [(device == code).view(np.int8) for code in range(len(FLAGS))]
    elif layout.flags:
        flags = [kept(values.numbers[flag]).astype(np.int8, copy=False) for flag in FLAGS]
        device = (2 - 2 * flags[0] - flags[1]).astype(np.int8)
    else:
        flags = []
        device = np.zeros(values.count if good is None else np.count_nonzero(good), dtype=np.int8)
    columns: dict[str, Any] = dict(zip(layout.flags, flags, strict=True))
    for column in [*layout.wanted, *layout.extra]:
        if column.name in values.numbers:
            kind = np.int8 if column.type == "binary" else np.float64
            columns[column.name] = kept(values.numbers[column.name]).astype(kind, copy=False)
    texts = {name: pd.array(kept(texts), dtype="str") for name, texts in values.texts.items()}
    keys = {name: kept(values.entity) if name == ENTITY else texts.pop(name) for name in layout.keys if name != DEVICE}
    features = [column.name for column in [*layout.wanted, *layout.extra] if column.name not in keys]
    binary = None if values.binary is None else kept(values.binary)
    frame = _frame(keys, columns | texts, values.run, binary, [*keys, *layout.flags, *features])
    return Rows(frame=frame, device=device, lines=_LazyLines(lines, good), rejects=rejects)


def _frame(keys: dict[str, Any], columns: dict[str, Any], run: Sequence[str], binary: np.ndarray | None, names: list[str]) -> pd.DataFrame:
    """One table of all columns; flags and run stay one block of memory, row after row, as a model wants them."""
    if binary is None:
        frame = pd.DataFrame({**keys, **columns}, copy=False)
        return frame if frame.columns.tolist() == names else frame[names]
    flags = [flag for flag in FLAGS if flag in columns]
    for place, flag in enumerate(flags):
        binary[:, place] = columns.pop(flag)
    block = pd.DataFrame(binary, columns=[*flags, *run], copy=False)
    pieces = [pd.DataFrame(piece, copy=False) for piece in (keys, columns) if piece]
    frame = pd.concat([*pieces[: bool(keys)], block, *pieces[bool(keys) :]], axis=1)
    return frame if frame.columns.tolist() == names else frame[names]


def deadly_reject(line: int, record: str) -> Reject:
    """What a record becomes that kills the process which scores it."""
    return Reject(line=line, column="", value=_short(record), reason="scoring this row killed the worker process or never ended")


def reject_rows(rows: Rows, where: np.ndarray, values: np.ndarray, reason: str) -> Rows:
    """The rows without those ``where`` is true, which become rejects of the column ``cr`` with their value and this reason."""
    found = np.flatnonzero(where)
    numbers = zip(rows.lines[found].tolist(), values[found].tolist(), strict=True)
    more = [Reject(line=line, column=RATE, value=str(value), reason=reason) for line, value in numbers]
    return Rows(
        frame=rows.frame[~where].reset_index(drop=True),
        device=rows.device[~where],
        lines=rows.lines.only(~where),
        rejects=sorted([*rows.rejects, *more], key=lambda reject: reject.line),
    )


def without_lines(rows: Rows, lines: Collection[int]) -> Rows:
    """The rows and rejects that stand on none of these lines."""
    kept = ~np.isin(rows.lines[np.arange(len(rows.frame))], list(lines))
    rejects = [reject for reject in rows.rejects if reject.line not in lines]
    return Rows(frame=rows.frame[kept], device=rows.device[kept], lines=rows.lines.only(kept), rejects=rejects)


def moved(rows: Rows, lines: np.ndarray) -> Rows:
    """The rows that were read from line ``n`` of a piece as if they stood on ``lines[n - 1]``."""
    now = lines[rows.lines[np.arange(len(rows.frame))] - 1]
    rejects = [replace(reject, line=int(lines[reject.line - 1])) for reject in rows.rejects]
    return Rows(frame=rows.frame, device=rows.device, lines=_LazyLines(lambda: now, None), rejects=rejects)


def merged(one: Rows, other: Rows, more: Sequence[Reject]) -> Rows:
    """The rows and rejects of both, and more rejects, in the order of their lines."""
    lines = np.concatenate([rows.lines[np.arange(len(rows.frame))] for rows in (one, other)])
    order = np.argsort(lines, kind="stable")
    return Rows(
        frame=pd.concat([one.frame, other.frame], ignore_index=True).iloc[order].reset_index(drop=True),
        device=np.concatenate([one.device, other.device])[order],
        lines=_LazyLines(lambda: lines[order], None),
        rejects=sorted([*one.rejects, *other.rejects, *more], key=lambda reject: reject.line),
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


def _missing(texts: np.ndarray) -> np.ndarray:
    return np.array([not text for text in texts], dtype=bool)


def _too_long(texts: np.ndarray) -> np.ndarray:
    return np.array([text is not None and len(text) > MAX_LINE_BYTES for text in texts], dtype=bool)


def _not_one_line(texts: np.ndarray) -> np.ndarray:
    return np.array([text is not None and _NOT_ONE_LINE.search(text) is not None for text in texts], dtype=bool)


def _not_binary(array: np.ndarray) -> np.ndarray | None:
    if array.dtype == np.int8:
        # one pass over one byte a row: -1 reads as 255
        unsigned = array.view(np.uint8)
        return unsigned > 1 if len(unsigned) and unsigned.max() > 1 else None
    return ~((array == 0) | (array == 1))


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """Where the records of a piece of csv are, each on a line of its own; reckoned only when a row has to be shown."""

    data: bytes
    first_line: int

    @functools.cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The lines that are not blank, from 0, and the offsets at which they start and end."""
        text = np.frombuffer(self.data + b"\n", dtype=np.uint8)
        ends = np.flatnonzero(text == 10)
        starts = np.append(0, ends[:-1] + 1)
        ends -= text[ends - 1] == 13
        full = np.flatnonzero(starts < ends)
        return full, starts[full], ends[full]

    @property
    def lines(self) -> np.ndarray:
        """The line on which each record stands."""
        return self._places[0] + self.first_line

    def shown(self, layout: Layout) -> Callable[[int, str], str]:
        """Gives a value as it stands in the file."""

        def value(row: int, name: str) -> str:
            _, starts, ends = self._places
            (record,) = csv.reader([self.data[starts[row] : ends[row]].decode("utf-8", errors="replace")])
            return record[layout.columns.index(name)]

        return value


def _is_plain(data: bytes) -> bool:
    """False for what Arrow reads otherwise than record by record: a byte order mark first, lone carriage returns, 0x1F, endless lines."""
    if data.startswith(codecs.BOM_UTF8):
        return False
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


def output_header(keys: Sequence[str], *, interval: bool) -> bytes:
    """The first line of a result."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([*keys, RATE, *(BOUNDS if interval else ())])
    return out.getvalue().encode()


def prediction_text(*columns: np.ndarray) -> bytes:
    """The lines of a result without a header: keys, then rates, each as the shortest digits that read back to the same double."""
    if any(column.dtype.kind not in "iuf" for column in columns):
        return _lines_with_text(columns)
    out = pa.BufferOutputStream()
    table = pa.table(list(columns), names=[str(place) for place in range(len(columns))])
    pa_csv.write_csv(table, out, pa_csv.WriteOptions(include_header=False, quoting_style="none", batch_size=WRITTEN_AT_ONCE))
    return out.getvalue().to_pybytes()


def _lines_with_text(columns: Sequence[np.ndarray]) -> bytes:
    """The same where a key is text: Arrow's writer would put quotes around every text, or refuse what needs them."""
    cells = [pa.array(column).cast(pa.string()) if column.dtype.kind in "iuf" else _quoted(column) for column in columns]
    lines = pc.binary_join_element_wise(*cells, ",").to_pylist()
    return "".join(f"{line}\n" for line in lines).encode()


def _quoted(texts: np.ndarray) -> pa.Array:
    """Texts as a csv file has them: in quotes where they hold a comma or a quote; no line break is in them."""
    array = pa.array(texts, pa.string(), from_pandas=True)
    in_quotes = pc.binary_join_element_wise('"', pc.replace_substring(array, '"', '""'), '"', "")
    return pc.if_else(pc.match_substring_regex(array, '[,"]'), in_quotes, array)


def rejects_text(path: str, rejects: Sequence[Reject]) -> bytes:
    """The lines ``file,line,column,value,reason`` without a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows((path, reject.line, reject.column, reject.value.replace("\r", " "), reject.reason) for reject in rejects)
    return out.getvalue().encode()


def read_rejects(text: bytes) -> list[Reject]:
    """What ``rejects_text`` wrote of one file."""
    records = csv.reader(io.StringIO(text.decode(), newline=""))
    return [Reject(line=int(line), column=column, value=value, reason=reason) for _, line, column, value, reason in records]


def compress(text: bytes) -> bytes:
    """One gzip member without a time in it: the same text gives the same bytes; members put end to end are one gzip file."""
    compressed: bytes = igzip.compress(text, compresslevel=GZIP_LEVEL, mtime=0)
    return compressed


def decompress(data: bytes) -> bytes:
    """The text of a gzip file of one or more members."""
    text: bytes = igzip.decompress(data)
    return text
