"""Rows that come as JSON objects: converted to the values that a table with the same cells has, and checked as those are.

A number is read as its text in a csv file would be, ``true`` as ``True``, and ``null`` as an empty cell. Columns that the release does not
need are ignored, as in a table.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from shared.catalog.manifests import KEYS, Column
from workers.tables.arrow_columns import NO_ENTITIES, objects
from workers.tables.rows import Reject, Rows, check_rows
from workers.tables.schema import DEVICE, ENTITY, FLAGS, TableSchema, table_schema_for
from workers.tables.values import Values, device_code, read_number, read_whole

JsonRow = Mapping[str, Any]

_EXACT_FLOATS = float(1 << 53)
"""A larger number with a decimal point may have lost digits of an id."""

FLAGS_OF_DEVICE = ((1, 0), (0, 1), (0, 0))
"""``computer`` and ``smartphone`` of each device."""
_DEVICE_OF_FLAGS: dict[tuple[float, float], int] = {flags: device for device, flags in enumerate(FLAGS_OF_DEVICE)}


class JsonRows:
    """Checks rows against the columns of a release; made once for each release.

    Args:
        columns: the features of the release, in the order of its manifest.
        keys: its key columns.
    """

    def __init__(self, columns: Sequence[Column], keys: tuple[str, ...] = KEYS) -> None:
        features = [column.name for column in columns if column.name not in FLAGS]
        own = [name for name in keys if name != DEVICE]
        names = list(dict.fromkeys([*own, *features]))
        self.with_device = _Layout(table_schema_for("the request", [*names, DEVICE], columns, keys=keys))
        """Of rows with a column ``device``."""
        self.with_flags = _Layout(table_schema_for("the request", [*names, *FLAGS], columns, keys=keys))
        """Of rows with ``computer`` and ``smartphone`` instead."""
        self.keys_alone = _Layout(table_schema_for("the request", [*own, DEVICE], (), keys=keys))
        """Of the keys of rows, without any feature."""
        self.keys_with_flags = _Layout(table_schema_for("the request", [*own, *FLAGS], (), keys=keys))
        """The same of rows with flags."""
        self._features = frozenset(features) - set(own) or frozenset(names)

    def has_features(self, row: JsonRow) -> bool:
        """Returns True if a row brings a feature besides its keys and its device, so that its rate is to be computed."""
        return not self._features.isdisjoint(row)

    def layout(self, row: JsonRow) -> "_Layout":
        """Returns the layout of a row; rows of one layout can be checked together."""
        return self.with_flags if _has_flags(row) else self.with_device

    def key_rejects(self, rows: Sequence[JsonRow]) -> "list[Reject | None]":
        """Returns for each row why its keys cannot be those of a table, or None."""
        found: list[Reject | None] = [None] * len(rows)
        for has_flags, layout in ((False, self.keys_alone), (True, self.keys_with_flags)):
            places = [place for place, row in enumerate(rows) if _has_flags(row) is has_flags]
            if places:
                for reject in layout.rows([rows[place] for place in places]).rejects:
                    found[places[reject.line - 1]] = reject
        return found


def _has_flags(row: JsonRow) -> bool:
    """Returns True for a row with the device as ``computer`` and ``smartphone``."""
    return DEVICE not in row and FLAGS[0] in row and FLAGS[1] in row


class _Layout:
    """Rows that have the device in the same form."""

    def __init__(self, table_schema: TableSchema) -> None:
        self.table_schema = table_schema
        self._run = tuple(column.name for column in table_schema.wanted if column.type == "binary")
        self._flags_of = operator.itemgetter(*self._run) if len(self._run) > 1 else None
        self._names: list[str] = []
        self._index: pd.Index = pd.Index([], dtype=object)
        self._without_run = table_schema.without(self._run)

    def rows(self, rows: Sequence[JsonRow]) -> Rows:
        """Checks rows; the line of a row is its position, from 1."""
        binary = self._binary(rows)
        rest = self.table_schema if binary is None else self._without_run

        def lines() -> np.ndarray:
            return np.arange(1, len(rows) + 1)

        entity, not_whole = read_whole([_text(row.get(ENTITY)) for row in rows]) if rest.ids else NO_ENTITIES
        not_whole = _with_lost_digits(rows, not_whole) if rest.ids else not_whole
        device = [device_code(_text(row.get(DEVICE))) for row in rows] if rest.has_device else []
        values = Values(
            count=len(rows),
            entity=entity,
            not_whole=not_whole,
            numbers={column.name: _numbers(rows, column.name) for column in rest.numbers},
            device=np.array(device, dtype=np.int8),
            texts={name: objects([_text(row.get(name)) for row in rows]) for name in rest.texts},
            shown=lambda row, name: _text(rows[row].get(name)) or "",
            run=() if binary is None else self._run,
            binary=binary,
        )
        checked = check_rows(values, self.table_schema, lines, [])
        if (names := checked.frame.columns.tolist()) != self._names:
            # pandas looks names up in an index of objects, which is kept, in a third of the time that one of Arrow's texts takes
            self._names, self._index = names, pd.Index(names, dtype=object)
        checked.frame.columns = self._index
        return checked

    def _binary(self, rows: Sequence[JsonRow]) -> np.ndarray | None:
        """Returns the binary columns as one block if every value is 0 or 1, the form of nearly all requests; None otherwise."""
        if self._flags_of is None:
            return None
        packed = pack_binary(self._flags_of, rows)
        if packed is None:
            return None
        spare = len(self.table_schema.flags)
        binary = np.empty((len(rows), spare + len(self._run)), dtype=np.int8)
        binary[:, spare:] = np.frombuffer(packed, dtype=np.int8).reshape(len(rows), -1)
        return binary


def pack_binary(values_of: Callable[[JsonRow], tuple[Any, ...]], rows: Sequence[JsonRow]) -> bytes | None:
    """Returns binary values of rows, row after row, a byte each; None if one of them is missing or is not the number 0 or 1."""
    try:
        # bytes() takes whole numbers from 0 to 255 and refuses texts, floats and None
        packed = b"".join([bytes(values_of(row)) for row in rows])
    except (KeyError, TypeError, ValueError):
        return None
    return None if packed.translate(None, b"\0\1") else packed


def _text(value: object) -> str | None:
    """Returns the text that a table would hold in place of a value."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return f"({'an object' if isinstance(value, dict) else 'a list'})"
    return str(value)


def _numbers(rows: Sequence[JsonRow], name: str) -> np.ndarray:
    return np.array([_number(row.get(name)) for row in rows], dtype=np.float64)


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return read_number(_text(value))


def _with_lost_digits(rows: Sequence[JsonRow], not_whole: np.ndarray | None) -> np.ndarray | None:
    """Adds the rows whose id is a number with a decimal point beyond the whole numbers that it can represent."""
    lost = [isinstance(row.get(ENTITY), float) and abs(row[ENTITY]) >= _EXACT_FLOATS for row in rows]
    if not any(lost):
        return not_whole
    return np.array(lost) if not_whole is None else not_whole | np.array(lost)


def whole_key(value: object) -> int | None:
    """Returns the id in a JSON value; None if it is none, as ``read_whole`` and the check of lost digits decide."""
    if type(value) is int:
        return value if -(2**63) <= value < 2**63 else None
    if isinstance(value, float) and abs(value) >= _EXACT_FLOATS:
        return None
    numbers, missing = read_whole([_text(value)])
    return None if missing is not None else int(numbers[0])


def device_key(row: JsonRow) -> int:
    """Returns the device code of a row, from either form; -1 if it has none."""
    value = row.get(DEVICE)
    if type(value) is int:
        return value if 0 <= value < 3 else -1
    if _has_flags(row):
        computer, smartphone = (_number(row[name]) for name in FLAGS)
        return _DEVICE_OF_FLAGS.get((computer, smartphone), -1)
    return device_code(_text(value))


def text_key(value: object) -> str | None:
    """Returns a text key as a table would hold it; None if it is missing."""
    return _text(value) or None
