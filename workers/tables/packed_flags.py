"""Fast reading of runs of binary columns, which in csv text are ``0,1,0,0,...``: the same number of bytes in every line.

Nearly all of a keyword table is such a run. The run is extracted from all lines at once, as numbers, and the rest of the lines is a
small csv table for the ordinary reader. Parsing every value by itself, as a csv reader must, takes forty times as long.

Parquet stores such columns one by one; they are packed into bits and transposed to rows, and then treated like the flags of csv text.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

FEWEST_COLUMNS = 8
"""Shorter runs are not worth extracting."""

MAX_FIELD_BYTES = 32
"""Lines with a longer value before the run are left to the ordinary reader."""

BYTES_AT_ONCE = 1 << 19
"""Bytes of text processed together. They stay in the CPU cache over several passes; passes over a whole chunk take twice as long."""

NEW_LINE, COMMA = b"\n,"
DIGIT_ZERO = ord("0")
PAIR = np.dtype("<u2")
"""A value and its separator, read as one 16-bit number."""


@dataclass(frozen=True, kw_only=True)
class FlagBlock:
    """Adjacent binary columns of a csv file."""

    start: int
    """The number of columns before the block."""
    columns: tuple[str, ...]


def find_flag_block(columns: Sequence[str], binary: Collection[str]) -> FlagBlock | None:
    """Returns the longest run of columns that must be binary, without the last column of the file; None if no run is long enough."""
    best, start = range(0), 0
    for place, name in enumerate(columns[:-1]):
        if name not in binary:
            start = place + 1
        elif place + 1 - start > len(best):
            best = range(start, place + 1)
    return FlagBlock(start=best.start, columns=tuple(columns[best.start : best.stop])) if len(best) >= FEWEST_COLUMNS else None


def extract_flags(data: bytes, run: FlagBlock, *, spare: int, separator: int = COMMA) -> tuple[np.ndarray, bytes] | None:
    """Returns the values of the run and the text without them, or None unless every line of the text has the expected form.

    ``data`` must hold whole lines without a header and without quotes. The values are int8 of shape (lines, spare + columns of the run);
    the first ``spare`` columns are uninitialized.
    """
    text = np.frombuffer(data if data.endswith(b"\n") else data + b"\n", dtype=np.uint8)
    width = 2 * len(run.columns)
    # no line is shorter than width + 1 bytes; unused rows at the end are never touched
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
    """Does the same for some lines, each with its line break; the values of the run are 0 and 1 of 16 bits."""
    ends = np.flatnonzero(text == NEW_LINE)
    starts = np.append(0, ends[:-1] + 1)
    begins = _fields_after(text, starts, ends, run.start, separator)
    if begins is None or begins[-1] + width > len(text):
        return None
    pairs = sliding_window_view(text, width)[begins].view(PAIR)
    # maps ``0,`` to 0, ``1,`` to 1, and everything else to larger numbers
    pairs ^= np.frombuffer(bytes([DIGIT_ZERO, separator]), dtype=PAIR)[0]
    if pairs.max() > 1:
        return None
    return pairs, _without(text, starts, begins, begins + width, ends + 1)


def _fields_after(text: np.ndarray, starts: np.ndarray, ends: np.ndarray, count: int, separator: int) -> np.ndarray | None:
    """Returns the offset after the first ``count`` fields of every line; None if a line has fewer fields or a longer one."""
    at = starts
    for _ in range(count):
        # windows must not reach past the end of the text
        most = min(MAX_FIELD_BYTES, len(text) - int(at[-1]))
        is_separator = sliding_window_view(text, most)[at] == separator
        at = at + is_separator.argmax(axis=1)
        if (text[at] != separator).any() or (at >= ends).any():
            return None
        at += 1
    return at


def _without(text: np.ndarray, starts: np.ndarray, begins: np.ndarray, run_ends: np.ndarray, ends: np.ndarray) -> bytes:
    """Returns every line from its start to the start of the run, joined with the rest of the line after the run."""
    sources = np.column_stack([starts, run_ends]).ravel()
    lengths = np.column_stack([begins - starts, ends - run_ends]).ravel()
    targets = np.cumsum(lengths) - lengths
    return text[np.arange(lengths.sum()) + np.repeat(sources - targets, lengths)].tobytes()


def pack(columns: np.ndarray, *, spare: int) -> np.ndarray | None:
    """Packs binary columns, whole numbers of any width in shape (columns, rows), into bits: uint8 of shape (rows, bytes).

    The first ``spare`` bits of a row are 0. Returns None if a value is neither 0 nor 1.
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
    """Unpacks and concatenates packed arrays: int8 of shape (rows, ``width``).

    Transposing packed columns takes a fifth of the time, because they are an eighth of the size.
    """
    return np.unpackbits(np.concatenate(packed), axis=1, count=width).view(np.int8)
