"""Converts Arrow columns to values that can be checked."""

from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workers.tables.schema import DEVICE, ENTITY, TableSchema
from workers.tables.values import Values, device_code, read_floats, read_whole


def from_arrow(table: pa.Table, table_schema: TableSchema, shown: Callable[[int, str], str]) -> Values:
    entity, not_whole = _entities(table.column(ENTITY)) if table_schema.ids else NO_ENTITIES
    return Values(
        count=table.num_rows,
        entity=entity,
        not_whole=not_whole,
        numbers={column.name: _as_numbers(table.column(column.name)) for column in table_schema.numbers},
        device=_device_codes(table.column(DEVICE)) if table_schema.has_device else np.empty(0, dtype=np.int8),
        texts={name: objects(read_texts(table.column(name))) for name in table_schema.texts},
        shown=shown,
        clicks=_clicks(table.column(*table_schema.clicks)) if table_schema.clicks else None,
    )


NO_ENTITIES: tuple[np.ndarray, None] = np.empty(0, dtype=np.int64), None


def objects(texts: Sequence[str | None]) -> np.ndarray:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def _entities(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the ids as int64, and a mask of the rows without a valid id (None if every row has one)."""
    if pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type):
        missing = column.is_null().to_numpy() if column.null_count else None
        return _to_numpy(column.fill_null(0) if column.null_count else column).astype(np.int64, copy=False), missing
    if pa.types.is_floating(column.type):
        # above this limit the float type cannot represent every whole number, so digits of the id may have been lost
        exact_below = 2.0 ** (np.finfo(column.type.to_pandas_dtype()).nmant + 1)
        floats = _as_numbers(column).astype(np.float64, copy=False)
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(floats) & (np.floor(floats) == floats) & (np.abs(floats) < exact_below)
        return np.where(whole, floats, 0).astype(np.int64), None if whole.all() else ~whole
    return read_whole(read_texts(column))


def read_texts(column: pa.ChunkedArray) -> list[str | None]:
    """Returns the values as csv text would show them. Undecodable bytes become U+FFFD, which no number or device name contains."""
    if pa.types.is_dictionary(column.type):
        return [text for chunk in column.chunks for text in _texts_of_dictionary(chunk)]
    if is_text(column.type):
        column = column.cast(pa.large_binary())  # Arrow does not validate that text is UTF-8
    if pa.types.is_nested(column.type) or pa.types.is_temporal(column.type):
        return [f"({column.type})"] * len(column)
    return [_text(value) for value in column.to_pylist()]


def _texts_of_dictionary(array: pa.DictionaryArray) -> list[str | None]:
    """Shares one str object among all rows with the same text; a copy per row could exhaust the memory."""
    texts = [*read_texts(pa.chunked_array([array.dictionary])), None]
    return [texts[-1 if place is None else place] for place in array.indices.to_pylist()]


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    # a decimal number without an exponent
    return None if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)


def is_text(kind: pa.DataType) -> bool:
    return any(fits(kind) for fits in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary))


def _as_numbers(column: pa.ChunkedArray) -> np.ndarray:
    if is_text(column.type) or pa.types.is_dictionary(column.type):
        return read_floats(read_texts(column))
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
        except pa.ArrowNotImplementedError:  # lists and other types that cannot hold a device name
            return np.full(len(column), -1, dtype=np.int8)
    return _of_each_text(column, lambda names: np.array([device_code(name) for name in names], dtype=np.int8))


def _clicks(column: pa.ChunkedArray) -> np.ndarray:
    """Returns clicks as numbers; each text is parsed once, since most of them occur in many rows."""
    if is_text(column.type):
        column = column.dictionary_encode()
    return _of_each_text(column, read_floats) if pa.types.is_dictionary(column.type) else _as_numbers(column)


def _of_each_text(column: pa.ChunkedArray, parse: Callable[[Sequence[str | None]], np.ndarray]) -> np.ndarray:
    """Returns what ``parse`` gives for the text of each row of a dictionary column; it is called once, with the texts of the dictionary."""
    column = column.unify_dictionaries()
    if not column.num_chunks:
        return parse([])
    texts = read_texts(pa.chunked_array([column.chunk(0).dictionary]))
    indices = pc.fill_null(pa.chunked_array([chunk.indices for chunk in column.chunks]), len(texts))
    return parse([*texts, None])[indices.to_numpy()]
