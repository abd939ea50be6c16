"""Recognizes columns that are known only with the conversions by their values."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_FEWEST_ROWS = 5
"""Rows with and without conversions that are needed to say that a column goes with them."""
_CLOSE = 0.02


def leak_by_values(table: pa.Table, name: str, clicks: str, conversions: str) -> str:
    """Returns why a column is a leak, or nothing: it is above 0 exactly where there are conversions, or is a ratio with them."""
    column = table[name]
    clicked, converted = _floats(table[clicks]), _floats(table[conversions])
    has = converted > 0
    if min(has.sum(), ((clicked > 0) & ~has).sum()) < _FEWEST_ROWS:
        return ""
    if pa.types.is_string(column.type):
        there = pc.is_valid(column).to_numpy(zero_copy_only=False)
        return "it has a value exactly where there are conversions" if np.array_equal(there, has) else ""
    values = _floats(column)
    if np.array_equal(values > 0, has):
        return "it is above 0 exactly where there are conversions"
    if np.array_equal(values, converted):
        return f"it repeats {conversions}"
    rows = (clicked > 0) & ~np.isnan(values)
    rates = converted[rows] / clicked[rows]
    if rows.sum() >= 2 * _FEWEST_ROWS and np.allclose(values[rows], rates, rtol=_CLOSE, atol=1e-4):
        return f"it is {conversions} for each of {clicks}"
    return ""


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return np.nan_to_num(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), nan=0.0)
