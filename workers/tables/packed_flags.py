"""Runs of binary columns, read as what they are: in csv text ``0,1,0,0,...``, the same number of bytes in every line.

Nearly all of a keyword table is such a run. It is lifted out of all lines at once, as numbers, and what is left of the lines is a small
csv table for the ordinary reader. FolderReader at every value by itself, as a csv reader must, takes forty times as long.

Parquet gives such columns one by one; they are packed into bits and become rows so, as those of csv are.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

FEWEST_COLUMNS = 8
"""A shorter run is not worth it."""

MAX_FIELD_BYTES = 32
"""A line with a longer value before the run is left to the ordinary reader."""

BYTES_AT_ONCE = 1 << 19
"""As much text stays in the processor's cache while it is looked at several times; looking at a whole chunk takes twice as long."""

NEW_LINE, COMMA = b"\n,"
DIGIT_ZERO = ord("0")
PAIR = np.dtype("<u2")
"""A value with its separator as one number."""


@dataclass(frozen=True, kw_only=True)
class FlagBlock:
    """Neighbouring binary columns of a csv file."""

    start: int
    """How many columns stand before it."""
    columns: tuple[str, ...]


def find_flag_block(columns: Sequence[str], binary: Collection[str]) -> FlagBlock | None:
    """The longest run of columns that shall be binary, the last column of the file left out; None where none is long enough."""
    best, start = range(0), 0
    for place, name in enumerate(columns[:-1]):
        if name not in binary:
            start = place + 1
        elif place + 1 - start > len(best):
            best = range(start, place + 1)
    return FlagBlock(start=best.start, columns=tuple(columns[best.start : best.stop])) if len(best) >= FEWEST_COLUMNS else None


def extract_flags(data: bytes, run: FlagBlock, *, spare: int, separator: int = COMMA) -> tuple[np.ndarray, bytes] | None:
    """The values of the run and the text without it; None unless every line of the text is made so.

    The text holds whole lines without a header and without quotes. The values are int8, a row for each line, ``spare`` columns that
    mean nothing yet and then those of the run.
    """
    text = np.frombuffer(data if data.endswith(b"\n") else data + b"\n", dtype=np.uint8)
    width = 2 * len(run.columns)
    # no line is shorter than that; what is too much is never touched
    values = np.empty((len(text) // (width + 1) + 1, spare + len(run.columns)), dtype=np.int8)
    rest: list[bytes] = []
    rows = at = 0
    while at < len(text):
        end = data.rfind(b"\n", at, at + BYTES_AT_ONCE) + 1 if len(text) - at > BYTES_AT_ONCE else len(text)
        lifted = _extract_lines(text[at:end], run, width, separator) if end else None
        if lifted is None:
            return None
        pairs, without = lifted
        values[rows : rows + len(pairs), spare:] = pairs
        rest.append(without)
        rows, at = rows + len(pairs), end
    return values[:rows], b"".join(rest)


def _extract_lines(text: np.ndarray, run: FlagBlock, width: int, separator: int) -> tuple[np.ndarray, bytes] | None:
    """The same for some lines, each with its line break: the run's values as 0 and 1 of 16 bits, and the text without them."""
    ends = np.flatnonzero(text == NEW_LINE)
    starts = np.append(0, ends[:-1] + 1)
    begins = _fields_after(text, starts, ends, run.start, separator)
    if begins is None or begins[-1] + width > len(text):
        return None
    pairs = sliding_window_view(text, width)[begins].view(PAIR)
    # makes 0 of ``0,``, 1 of ``1,``, and something larger of all else
    pairs ^= np.frombuffer(bytes([DIGIT_ZERO, separator]), dtype=PAIR)[0]
    if pairs.max() > 1:
        return None
    return pairs, _without(text, starts, begins, begins + width, ends + 1)


def _fields_after(text: np.ndarray, starts: np.ndarray, ends: np.ndarray, count: int, separator: int) -> np.ndarray | None:
    """The offsets behind the first ``count`` fields of every line; None when a line has fewer, or a longer one."""
    at = starts
    for _ in range(count):
        # no window may reach beyond the text
        most = min(MAX_FIELD_BYTES, len(text) - int(at[-1]))
        is_separator = sliding_window_view(text, most)[at] == separator
        at = at + is_separator.argmax(axis=1)
        if (text[at] != separator).any() or (at >= ends).any():
            return None
        at += 1
    return at


def _without(text: np.ndarray, starts: np.ndarray, begins: np.ndarray, behind: np.ndarray, ends: np.ndarray) -> bytes:
    """The text of every line from its start to where the run begins, and from behind the run to its end."""
    sources = np.column_stack([starts, behind]).ravel()
    lengths = np.column_stack([begins - starts, ends - behind]).ravel()
    targets = np.cumsum(lengths) - lengths
    return text[np.arange(lengths.sum()) + np.repeat(sources - targets, lengths)].tobytes()


def pack(columns: np.ndarray, *, spare: int) -> np.ndarray | None:
    """Binary columns, whole numbers of any width in shape (columns, rows), as bits: uint8, a row for each of theirs.

    The first ``spare`` bits of a row are 0. None when a value is neither 0 nor 1.
    """
    if columns.dtype.kind not in "iu" or columns.view(f"u{columns.itemsize}").max(initial=0) > 1:  # -1 reads as the largest number
        return None
    values = columns.astype(np.uint8, copy=False)
    packed = np.zeros((-(-(spare + len(values)) // 8), values.shape[1]), dtype=np.uint8)
    for bit in range(8):
        packed += packed
        first = (bit - spare) % 8
        these, place = values[first::8], (spare + first) // 8
        packed[place : place + len(these)] |= these
    return packed.T.copy()


def unpack(packed: Sequence[np.ndarray], width: int) -> np.ndarray:
    """What was packed, one behind the other, as values again: int8 in rows of this width.

    Columns become rows so in a fifth of the time, since what is turned is an eighth as much.
    """
    return np.unpackbits(np.concatenate(packed), axis=1, count=width).view(np.int8)
