"""Runs of binary columns in csv text, read as what they are: ``0,1,0,0,...``, the same number of bytes in every line.

Nearly all of a keyword table is such a run. It is lifted out of all lines at once, as numbers, and what is left of the lines is a small
csv table for the ordinary reader. Looking at every value by itself, as a csv reader must, takes forty times as long.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_COLUMNS = 8
"""A shorter run is not worth it."""

MAX_FIELD_BYTES = 64
"""A longer value before the run is left to the ordinary reader."""

ROWS_AT_ONCE = 1024
"""Their text stays in the processor's second-level cache while it is looked at."""

NEW_LINE, COMMA = b"\n,"
ZERO = np.frombuffer(b"0,", dtype=np.uint16)[0]
"""A value with its comma as one number of 16 bits; xor turns ``0,`` into 0, ``1,`` into 1, and all else into something larger."""
SMALLEST_ONE = np.frombuffer(b"1,", dtype=np.uint16)[0] ^ ZERO
"""What xor makes of ``1,``: 1 where the low byte comes first, 256 elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Neighbouring binary columns of a csv file."""

    start: int
    """How many columns stand before it."""
    columns: tuple[str, ...]


def find_run(columns: Sequence[str], binary: Collection[str]) -> Run | None:
    """The longest run of columns that shall be binary, the last column of the file left out; None where none is long enough."""
    best, start = range(0), 0
    for place, name in enumerate(columns[:-1]):
        if name not in binary:
            start = place + 1
        elif place + 1 - start > len(best):
            best = range(start, place + 1)
    return Run(start=best.start, columns=tuple(columns[best.start : best.stop])) if len(best) >= FEWEST_COLUMNS else None


def lift(data: bytes, run: Run, *, spare: int) -> tuple[np.ndarray, bytes] | None:
    """The values of the run and the text without it; None unless every line of the text is made so.

    The text holds whole lines without a header and without quotes. The values are int8, a row for each line, ``spare`` columns that
    mean nothing yet and then those of the run.
    """
    text = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(text == NEW_LINE)
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.append(0, ends[:-1] + 1)
    begins = _behind_fields(text, starts, ends, run.start)
    width = 2 * len(run.columns)
    if begins is None or begins[-1] + width > len(data):
        return None
    values = np.empty((len(begins), spare + len(run.columns)), dtype=np.int8)
    windows = np.lib.stride_tricks.sliding_window_view(text, width)
    for first in range(0, len(begins), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        pairs = windows[begins[rows]].view(np.uint16)
        pairs ^= ZERO
        if pairs.max() > SMALLEST_ONE:
            return None
        values[rows, spare:] = pairs
    return values, _without(text, starts, begins, begins + width, np.minimum(ends + 1, len(data)))


def _behind_fields(text: np.ndarray, starts: np.ndarray, ends: np.ndarray, count: int) -> np.ndarray | None:
    """The offsets behind the first ``count`` fields of every line; None when a line has fewer, or a longer one."""
    at = starts
    for _ in range(count):
        at = at.copy()
        left = np.arange(len(at))
        for _ in range(MAX_FIELD_BYTES + 1):
            left = left[at[left] < ends[left]]
            left = left[text[at[left]] != COMMA]
            at[left] += 1
        if len(left) or (at >= ends).any():
            return None
        at += 1
    return at


def _without(text: np.ndarray, starts: np.ndarray, begins: np.ndarray, behind: np.ndarray, ends: np.ndarray) -> bytes:
    """The text of every line from its start to where the run begins, and from behind the run to its end."""
    sources = np.column_stack([starts, behind]).ravel()
    lengths = np.column_stack([begins - starts, ends - behind]).ravel()
    targets = np.cumsum(lengths) - lengths
    return text[np.arange(lengths.sum()) + np.repeat(sources - targets, lengths)].tobytes()
