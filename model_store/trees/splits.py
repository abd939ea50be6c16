"""The distinct splits of a forest, and the bits that say which rows of a block go which way.

A comparison here is true or false as LightGBM decides (``Tree::NumericalDecision`` and ``Tree::CategoricalDecision`` in its ``tree.h``):

- Its reader replaces values of at most ``ZERO`` in magnitude by 0, so a threshold of that size is moved out of that range.
- Unless NaN is what counts as missing, NaN is 0. Missing values go the default way.
- A value equal to the threshold goes left.
- A category that is NaN, negative or not in the set goes right; a fraction is cut off.

``x > t`` and ``x <= t`` differ for NaN only, so the way of NaN chooses between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from model_store.trees.text import CATEGORICAL, DEFAULT_LEFT, MISSING_NAN, MISSING_SHIFT, MISSING_ZERO, Tree

ZERO = float(np.float32(1e-35))
"""LightGBM's ``kZeroThreshold``."""
ROWS_TRANSPOSED = 256
"""Rows whose columns are gathered at once: they fit into the cache of a core, which makes this 2 times as fast as a whole block."""


class UnsupportedTreesError(Exception):
    """Raised when LightGBM itself must evaluate a forest; the message says why."""


class Kind(IntEnum):
    """A comparison of a value with a threshold."""

    ABOVE = 0
    """The row goes right if the value is above."""
    UP_TO = 1
    """The row goes left if the value is not above."""
    NONZERO_ABOVE = 2
    NONZERO_UP_TO = 3
    AMONG = 4
    """The row goes left if its category is in the set."""


GOES_RIGHT = frozenset({Kind.ABOVE, Kind.NONZERO_ABOVE})
"""Comparisons that are true for the rows that go right; the others for those that go left."""
OF_NONZERO = frozenset({Kind.NONZERO_ABOVE, Kind.NONZERO_UP_TO})


@dataclass(frozen=True, kw_only=True)
class Split:
    """A comparison of the values of one feature."""

    kind: Kind
    feature: int
    threshold: float = 0.0
    categories: bytes = b""
    """The set, as bits in little-endian order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """The distinct splits of a forest."""

    splits: list[Split]
    columns: np.ndarray
    """The features that they use, ascending."""
    places: list[int]
    """The place of its feature in ``columns``, for each split."""

    def bits(self, values: np.ndarray) -> np.ndarray:
        """Returns the comparisons of all rows: uint64 words of 64 rows, a row of bits for each split, then their complements.

        ``values`` is a matrix of float32 or float64. The bits after its last row have no meaning.
        """
        rows, count = len(values), len(self.splits)
        bits = np.zeros((2 * count, (rows + 63) // 64), dtype=np.uint64)
        packed = bits.view(np.uint8)[:, : (rows + 7) // 8]
        columns, thresholds = self._transpose(values), _round_down([split.threshold for split in self.splits], values.dtype)
        found = np.empty(rows, dtype=bool)
        for number, (split, place) in enumerate(zip(self.splits, self.places, strict=True)):
            _compare(columns[place], split, thresholds[number], found)
            packed[number] = np.packbits(found, bitorder="little")
        np.invert(bits[:count], out=bits[count:])
        return bits

    def _transpose(self, values: np.ndarray) -> np.ndarray:
        transposed = np.empty((len(self.columns), len(values)), dtype=values.dtype)
        uses_all = len(self.columns) == values.shape[1]
        for first in range(0, len(values), ROWS_TRANSPOSED):
            block = values[first : first + ROWS_TRANSPOSED]
            transposed[:, first : first + ROWS_TRANSPOSED] = (block if uses_all else block[:, self.columns]).T
        return transposed


def _compare(column: np.ndarray, split: Split, threshold: np.floating, found: np.ndarray) -> None:
    """Writes into ``found`` which values the comparison is true for."""
    if split.kind is Kind.AMONG:
        bits = np.frombuffer(split.categories, dtype=np.uint8)
        is_known = (column > -1) & (column < 8 * len(bits))
        category = np.where(is_known, column, 0).astype(np.int64)
        found[:] = is_known & (bits[category >> 3] >> (category & 7) & 1 > 0) if len(bits) else False
        return
    (np.greater if split.kind in GOES_RIGHT else np.less_equal)(column, threshold, out=found)
    if split.kind in OF_NONZERO:
        found &= np.abs(column) > ZERO


def _round_down(thresholds: list[float], dtype: np.dtype) -> np.ndarray:
    """Returns the largest numbers of a type that are not above the thresholds, with which its values compare alike."""
    exact = np.array(thresholds, dtype=np.float64)
    with np.errstate(over="ignore"):
        rounded = exact.astype(dtype)
    return np.where(rounded > exact, np.nextafter(rounded, dtype.type(-np.inf)), rounded)


def collect_splits(trees: Sequence[Tree], most: int) -> tuple[Splits, list[np.ndarray]]:
    """Returns the distinct splits of trees, and for each tree which row of the bits says which rows go left at its splits.

    The rows that go right stand ``len(splits)`` further, in a circle.

    Raises:
        UnsupportedTreesError: there are more than ``most``.
    """
    known: dict[Split, int] = {}
    numbered = []
    for tree in trees:
        numbered.append(np.array([known.setdefault(split, len(known)) for split in _splits_of(tree)], dtype=np.intp))
        if len(known) > most:
            raise UnsupportedTreesError(f"the trees have more than {most:,} distinct splits")
    splits = list(known)
    columns, places = np.unique([split.feature for split in splits], return_inverse=True)
    shift = np.array([len(splits) if split.kind in GOES_RIGHT else 0 for split in splits], dtype=np.intp)
    return Splits(splits=splits, columns=columns, places=places.tolist()), [numbers + shift[numbers] for numbers in numbered]


def _splits_of(tree: Tree) -> list[Split]:
    thresholds = np.where(np.abs(tree.threshold) > ZERO, tree.threshold, np.where(tree.threshold >= 0, ZERO, np.nextafter(-ZERO, -np.inf)))
    found = []
    for feature, threshold, number, decision in zip(
        *(a.tolist() for a in (tree.feature, thresholds, tree.threshold, tree.decision)), strict=True
    ):
        if decision & CATEGORICAL:
            found.append(Split(kind=Kind.AMONG, feature=feature, categories=tree.sets[int(number)].rstrip(b"\0")))
        else:
            found.append(Split(kind=_kind_of(threshold, decision), feature=feature, threshold=threshold))
    return found


def _kind_of(threshold: float, decision: int) -> Kind:
    missing, goes_left = decision >> MISSING_SHIFT, bool(decision & DEFAULT_LEFT)
    if missing == MISSING_NAN:
        return Kind.ABOVE if goes_left else Kind.UP_TO
    if missing != MISSING_ZERO:
        return Kind.ABOVE if threshold >= 0 else Kind.UP_TO  # NaN goes where 0 goes
    if goes_left:
        return Kind.ABOVE if threshold >= 0 else Kind.NONZERO_ABOVE
    return Kind.UP_TO if threshold < 0 else Kind.NONZERO_UP_TO
