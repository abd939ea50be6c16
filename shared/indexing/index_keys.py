"""The keys of rows as an index holds them, for whole columns; ``shared.index_format.index_key`` does the same for one row."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.index_format import (
    DEVICE,
    DEVICE_BITS,
    ENTITY,
    LARGEST_ID,
    MAX_KEY_CHARACTERS,
    SMALLEST_ID,
    may_be_whole,
    shortened,
)

_DEVICE_MASK = (1 << DEVICE_BITS) - 1


def key_array(names: Sequence[str], columns: Sequence[np.ndarray]) -> pa.Array:
    """Returns the key of each row: int64 if the keys are whole numbers and all of them fit, else text."""
    column_of = dict(zip(names, columns, strict=True))
    if may_be_whole(names) and _fits(column_of[ENTITY]):
        return pa.array(_whole(column_of))
    return _text(columns)


def as_text(names: Sequence[str], keys: pa.Array) -> pa.Array:
    """Returns whole keys in the form of text keys."""
    whole = keys.to_numpy()
    column_of = {ENTITY: whole >> DEVICE_BITS, DEVICE: whole & _DEVICE_MASK}
    return _text([column_of[name] for name in names])


def _fits(entity: np.ndarray) -> bool:
    return not len(entity) or bool(entity.min() >= SMALLEST_ID and entity.max() <= LARGEST_ID)


def _whole(column_of: Mapping[str, np.ndarray]) -> np.ndarray:
    keys = column_of[ENTITY].astype(np.int64) << DEVICE_BITS
    if DEVICE in column_of:
        keys |= column_of[DEVICE]
    return keys


def _text(columns: Sequence[np.ndarray]) -> pa.Array:
    keys = pc.binary_join_element_wise(*map(_escaped, columns), "|")
    is_long = pc.greater(pc.utf8_length(keys), MAX_KEY_CHARACTERS)
    if not pc.any(is_long).as_py():
        return keys
    return pa.array([shortened(key) for key in keys.to_pylist()], pa.string())


def _escaped(column: np.ndarray) -> pa.Array:
    if column.dtype.kind in "iu":
        return pa.array(column).cast(pa.string())
    texts = pa.array(column, pa.string(), from_pandas=True)
    return pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), "|", "\\|")


def stable_order(keys: pa.Array) -> np.ndarray | None:
    """Returns the positions of the rows in key order, equal keys in their present order; None if they are in order already."""
    if pa.types.is_integer(keys.type):
        whole = keys.to_numpy()
        return None if (whole[1:] >= whole[:-1]).all() else np.argsort(whole, kind="stable")
    if pc.all(pc.greater_equal(keys[1:], keys[: max(len(keys) - 1, 0)])).as_py() is not False:
        return None
    return pc.array_sort_indices(keys).to_numpy()  # Arrow's sort is stable


def count_repeated(keys: pa.Array, before: pa.Scalar | None) -> int:
    """Counts the sorted keys that equal the one before them; ``before`` is the key before the first, if any."""
    if not len(keys):
        return 0
    same = pc.sum(pc.equal(keys[1:], keys[: len(keys) - 1])).as_py() or 0
    return int(same) + (before is not None and keys[0] == before)
