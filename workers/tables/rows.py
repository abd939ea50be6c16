"""Checks the values of rows: which rows can be scored, and which are rejected for which reason."""

import functools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.internals import create_dataframe_from_blocks

from shared.index_format import DEVICES
from workers.tables.schema import CLICKS, DEVICE, ENTITY, FLAGS, OTHER_DEVICES, OTHER_NUMBERS, RATE, TableSchema
from workers.tables.values import EXPONENT, WHOLE, Values, short

MAX_LINE_BYTES = 1 << 20
"""A longer line is rejected: no row of a keyword table comes near this length."""
_NOT_ONE_LINE = re.compile("[\r\n\ufffd]")


@dataclass(frozen=True, kw_only=True)
class Reject:
    """An input row that cannot be scored, with the reason."""

    line: int
    column: str
    value: str
    reason: str

    def __str__(self) -> str:
        column = f", column {self.column}: {self.value!r} is {self.reason}" if self.column else f": {self.reason}"
        return f"line {self.line}{column}"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The valid rows of a chunk and its rejects."""

    frame: pd.DataFrame
    """One row per table row.

    The columns are the keys except the device (``entity_id`` int64, others text), ``computer`` and ``smartphone`` (int8) if the device is
    read, and the wanted columns (int8, float64 or text).
    """
    device: np.ndarray
    """Device codes, int8, one per row; all 0 if the device is not read."""
    lines: "_LazyLines"
    """The line of each row in its file, int64."""
    rejects: list[Reject]
    clicks: np.ndarray | None = None
    """Clicks, float64, one per row: 0 where the table has no number that is above 0; None if they are not read."""

    def keys(self, names: Sequence[str]) -> list[np.ndarray]:
        """Returns the key columns, as they are written to the result."""
        return [self.device if name == DEVICE else self.frame[name].to_numpy() for name in names]


def check_rows(values: Values, table_schema: TableSchema, lines: Callable[[], np.ndarray], rejects: list[Reject]) -> Rows:
    """Splits decoded values into valid rows and rejects with line, column, value and reason; a row is rejected for its first bad value.

    ``lines`` returns the line of each row, and is called when a row is rejected; ``rejects`` are those found before.
    """
    is_bad = np.zeros(values.count, dtype=bool)
    bad_values: list[tuple[np.ndarray, str, Callable[[str], str]]] = []

    def refuse(where: np.ndarray | None, column: str, reason: Callable[[str], str]) -> None:
        if where is not None and where.any():
            bad_values.append((where & ~is_bad, column, reason))
            np.logical_or(is_bad, where, out=is_bad)

    refuse(values.not_whole, ENTITY, _why_no_id)
    if table_schema.has_device:
        refuse(values.device < 0, DEVICE, _why_no_device)
    for name, texts in values.texts.items():
        refuse(_missing(texts) if name in table_schema.keys else None, name, _always("missing, and it names the row"))
        refuse(_too_long(texts), name, _always(f"longer than {MAX_LINE_BYTES:,} bytes"))
        refuse(_not_one_line(texts), name, _always("not text on one line, in UTF-8"))
    for column in table_schema.numbers:
        array = values.numbers.get(column.name)
        if array is None:
            continue  # part of the flag block, already checked
        if column.type == "binary":
            refuse(_not_binary(array), column.name, _missing_or("not 0 or 1"))
        else:
            refuse(None if array.dtype.kind in "iu" else ~np.isfinite(array), column.name, _missing_or("not a finite number"))
    if table_schema.flags and not table_schema.has_device:
        both: np.ndarray = (values.numbers[FLAGS[0]] == 1) & (values.numbers[FLAGS[1]] == 1)
        refuse(both, FLAGS[0], _always("computer and smartphone are both 1"))

    line_of = lines() if bad_values or rejects else None
    for where, name, reason in bad_values:
        for row in np.flatnonzero(where).tolist():
            value = values.shown(row, name)
            rejects.append(Reject(line=int(line_of[row]), column=name, value=short(value), reason=reason(value)))  # type: ignore[index]
    return _good_rows(values, table_schema, ~is_bad if is_bad.any() else None, lines, sorted(rejects, key=lambda reject: reject.line))


def _always(reason: str) -> Callable[[str], str]:
    return lambda _: reason


def _missing_or(reason: str) -> Callable[[str], str]:
    return lambda value: reason if value.strip() else "missing"


def _why_no_id(value: str) -> str:
    text = value.strip()
    if WHOLE.fullmatch(text):
        return "too large for an id"
    if EXPONENT.fullmatch(text):
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


def _good_rows(
    values: Values, table_schema: TableSchema, good: np.ndarray | None, lines: Callable[[], np.ndarray], rejects: list[Reject]
) -> Rows:
    def kept(array: np.ndarray) -> np.ndarray:
        # Arrow's arrays are read-only, and a definition may modify the frame that it receives
        return array[good] if good is not None else array if array.flags.writeable else array.copy()

    if table_schema.has_device:
        device = kept(values.device)
        flags = [(device == code).view(np.int8) for code in range(len(FLAGS))]
    elif table_schema.flags:
        flags = [kept(values.numbers[flag]).astype(np.int8, copy=False) for flag in FLAGS]
        device = (2 - 2 * flags[0] - flags[1]).astype(np.int8)
    else:
        flags = []
        device = np.zeros(values.count if good is None else np.count_nonzero(good), dtype=np.int8)
    columns: dict[str, Any] = dict(zip(table_schema.flags, flags, strict=True))
    for column in [*table_schema.wanted, *table_schema.extra]:
        if column.name in values.numbers:
            kind = np.int8 if column.type == "binary" else np.float64
            columns[column.name] = kept(values.numbers[column.name]).astype(kind, copy=False)
    texts = {name: pd.array(kept(texts), dtype="str") for name, texts in values.texts.items()}
    keys = {name: kept(values.entity) if name == ENTITY else texts.pop(name) for name in table_schema.keys if name != DEVICE}
    features = [column.name for column in [*table_schema.wanted, *table_schema.extra] if column.name not in keys]
    binary = None if values.binary is None else kept(values.binary)
    frame = _frame(keys, columns | texts, values.run, binary, [*keys, *table_schema.flags, *features])
    clicks = values.numbers.get(CLICKS) if values.clicks is None else values.clicks
    return Rows(
        frame=frame,
        device=device,
        lines=_LazyLines(lines, good),
        rejects=rejects,
        clicks=None if clicks is None or table_schema.extra else _valid_clicks(kept(clicks)),
    )


def _valid_clicks(clicks: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        is_valid = np.isfinite(clicks) & (clicks > 0)
    return np.where(is_valid, clicks, 0.0)


def _frame(keys: dict[str, Any], columns: dict[str, Any], run: Sequence[str], binary: np.ndarray | None, names: list[str]) -> pd.DataFrame:
    """Builds one frame of all columns; flags and run stay one row-major block of memory, which models predict from fastest."""
    if binary is None:
        frame = pd.DataFrame({**keys, **columns}, copy=False)
        return frame if frame.columns.tolist() == names else frame[names]
    flags = [flag for flag in FLAGS if flag in columns]
    for place, flag in enumerate(flags):
        binary[:, place] = columns.pop(flag)
    if not columns and all(isinstance(values, np.ndarray) for values in keys.values()):
        return _frame_of_blocks(keys, [*flags, *run], binary, names)
    block = pd.DataFrame(binary, columns=[*flags, *run], copy=False)
    pieces = [pd.DataFrame(piece, copy=False) for piece in (keys, columns) if piece]
    frame = pd.concat([*pieces[: bool(keys)], block, *pieces[bool(keys) :]], axis=1)
    return frame if frame.columns.tolist() == names else frame[names]


def _frame_of_blocks(keys: dict[str, np.ndarray], columns: Sequence[str], binary: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Builds the frame of keys and one block from their memory: for a single row, ten times as fast as joining frames."""
    blocks = [(values.reshape(1, -1), np.array([place])) for place, values in enumerate(keys.values())]
    blocks.append((binary.T, np.arange(len(keys), len(keys) + len(columns))))
    there = (*keys, *columns)
    frame = create_dataframe_from_blocks(blocks, index=pd.RangeIndex(len(binary)), columns=_index_of(there))
    return frame if [*there] == names else frame[names]


@functools.lru_cache(maxsize=32)
def _index_of(names: tuple[str, ...]) -> pd.Index:
    return pd.Index(names)


def poison_reject(line: int, record: str) -> Reject:
    """Returns the reject for a record that kills the process which scores it."""
    return Reject(line=line, column="", value=short(record), reason="scoring this row killed the worker process or never ended")


def reject_rows(rows: Rows, where: np.ndarray, values: np.ndarray, reason: str) -> Rows:
    """Returns the rows where ``where`` is False; the others become rejects of the column ``cr`` with their value and this reason."""
    found = np.flatnonzero(where)
    numbers = zip(rows.lines[found].tolist(), values[found].tolist(), strict=True)
    more = [Reject(line=line, column=RATE, value=str(value), reason=reason) for line, value in numbers]
    return Rows(
        frame=rows.frame[~where].reset_index(drop=True),
        device=rows.device[~where],
        lines=rows.lines.only(~where),
        rejects=sorted([*rows.rejects, *more], key=lambda reject: reject.line),
        clicks=None if rows.clicks is None else rows.clicks[~where],
    )


def without_lines(rows: Rows, lines: Collection[int]) -> Rows:
    """Returns the rows and rejects that are on none of these lines."""
    kept = ~np.isin(rows.lines.all(), list(lines))
    rejects = [reject for reject in rows.rejects if reject.line not in lines]
    clicks = None if rows.clicks is None else rows.clicks[kept]
    return Rows(frame=rows.frame[kept], device=rows.device[kept], lines=rows.lines.only(kept), rejects=rejects, clicks=clicks)


def moved(rows: Rows, lines: np.ndarray) -> Rows:
    """Renumbers rows: the rows read from line ``n`` of a piece are now on ``lines[n - 1]``."""
    now = lines[rows.lines.all() - 1]
    rejects = [replace(reject, line=int(lines[reject.line - 1])) for reject in rows.rejects]
    return replace(rows, lines=_LazyLines(lambda: now, None), rejects=rejects)


def merged(one: Rows, other: Rows, more: Sequence[Reject]) -> Rows:
    """Merges the rows and rejects of both, and ``more`` rejects, in the order of their lines."""
    lines = np.concatenate([rows.lines.all() for rows in (one, other)])
    order = np.argsort(lines, kind="stable")
    return Rows(
        frame=pd.concat([one.frame, other.frame], ignore_index=True).iloc[order].reset_index(drop=True),
        device=np.concatenate([one.device, other.device])[order],
        lines=_LazyLines(lambda: lines[order], None),
        rejects=sorted([*one.rejects, *other.rejects, *more], key=lambda reject: reject.line),
        clicks=None if one.clicks is other.clicks is None else np.concatenate([_clicks(one), _clicks(other)])[order],
    )


def _clicks(rows: Rows) -> np.ndarray:
    return np.zeros(len(rows.frame)) if rows.clicks is None else rows.clicks


class _LazyLines:
    """Line numbers that are computed when they are first used."""

    def __init__(self, lines: Callable[[], np.ndarray], good: np.ndarray | None) -> None:
        self._lines, self._good = lines, good

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.all()[rows]

    def all(self) -> np.ndarray:
        """Returns the lines of all rows."""
        lines = self._lines()
        return lines if self._good is None else lines[self._good]

    def only(self, kept: np.ndarray) -> "_LazyLines":
        """Returns the lines of the rows where ``kept`` is true."""
        return _LazyLines(lambda: self[np.flatnonzero(kept)], None)


def _missing(texts: np.ndarray) -> np.ndarray:
    return np.array([not text for text in texts], dtype=bool)


def _too_long(texts: np.ndarray) -> np.ndarray:
    return np.array([text is not None and len(text) > MAX_LINE_BYTES for text in texts], dtype=bool)


def _not_one_line(texts: np.ndarray) -> np.ndarray:
    return np.array([text is not None and _NOT_ONE_LINE.search(text) is not None for text in texts], dtype=bool)


def _not_binary(array: np.ndarray) -> np.ndarray | None:
    if array.dtype == np.int8:
        # one pass with one byte per row: -1 reads as 255
        unsigned = array.view(np.uint8)
        return unsigned > 1 if len(unsigned) and unsigned.max() > 1 else None
    return ~((array == 0) | (array == 1))
