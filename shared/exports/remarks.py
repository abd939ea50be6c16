"""Leaves out remarks below a table, such as a line with the copyright of the platform."""

import numpy as np
import pyarrow.compute as pc

from shared.errors import TableError
from shared.exports.headers import is_number
from shared.exports.table import RawTable
from shared.exports.totals import is_total_label

_FEWEST_COLUMNS = 3
"""In a table of two columns a row with one cell may be a keyword without a number."""


def without_remarks(raw: RawTable, path: str) -> RawTable:
    """Returns the rows without remarks at the end: rows with one text. The cells are cleaned.

    Raises:
        TableError: such a row stands between others: the file holds more than one table.
    """
    if len(raw.names) < _FEWEST_COLUMNS:
        return raw
    counts = np.zeros(len(raw.lines), dtype=np.int64)
    for column in raw.columns():
        counts += pc.is_valid(column).to_numpy(zero_copy_only=False)
    single = [place for place in np.flatnonzero(counts == 1).tolist() if _is_remark(raw, place)]
    if not single:
        return raw
    kept = np.ones(len(raw.lines), dtype=bool)
    kept[single] = False
    later = np.flatnonzero(kept & (np.arange(len(kept)) > single[0])).tolist()
    if not all(is_total_label(raw.first_text(place)) for place in later):
        raise TableError(
            f"line {int(raw.lines[single[0]]):,} of {path} has a single cell, and rows follow it: does the file hold more than one table?",
            next_step="Remove that line, or divide the file into one for each table.",
        )
    return raw.only(kept)


def _is_remark(raw: RawTable, place: int) -> bool:
    text = raw.first_text(place)
    return bool(text) and not is_number(text) and not is_total_label(text)
