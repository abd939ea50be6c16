"""Counts the rows of a result whose key another row has as well.

Each chunk writes the sorted 64-bit hashes of its keys beside its part (8 bytes per row); the finish step merges them. For a large
table only the keys with the smallest hashes are counted, which are a random sample of the keys with all their rows.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from shared.catalog.manifests import MAX_KEYS_COUNTED
from shared.jobs.files import PartFile
from shared.jobs.folder import JobFolder
from workers.concurrency import read_each

_HASH = np.dtype("<u8")
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


def hash_keys(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Returns a 64-bit hash of the key of each row, uint64; equal keys have equal hashes in every process."""
    hashes = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        hashes += _numbers_of(column)
        _mix(hashes)
    return hashes


def _numbers_of(column: np.ndarray) -> np.ndarray:
    if column.dtype.kind in "iu":
        return column.astype(np.int64, copy=False).view(np.uint64)
    return pd.util.hash_array(np.asarray(column, dtype=object), categorize=False)


def _mix(hashes: np.ndarray) -> None:
    """Applies the finalizer of SplitMix64 (Steele, Lea and Flood 2014) in place; it is a bijection."""
    for shift, multiplier in zip(_SHIFTS, _MULTIPLIERS, strict=False):
        hashes ^= hashes >> shift
        hashes *= multiplier
    hashes ^= hashes >> _SHIFTS[-1]


def write_hashes(folder: JobFolder, index: int, hashes: Sequence[np.ndarray]) -> None:
    """Writes the hashes of a part."""
    whole = np.concatenate(hashes) if hashes else np.empty(0, dtype=np.uint64)
    whole.sort()
    folder.bucket.write(folder.part_file(index, PartFile.KEYS), whole.astype(_HASH, copy=False).tobytes())


def count_repeated(folder: JobFolder, rows_of_parts: Sequence[int]) -> int:
    """Counts the rows that repeat an earlier key, as an estimate above ``MAX_KEYS_COUNTED`` rows; returns 0 if a part has no hashes."""
    rows = sum(rows_of_parts)
    share = min(1.0, MAX_KEYS_COUNTED / max(rows, 1))
    limit = np.uint64(share * 2.0**64) if share < 1 else None
    smallest: list[np.ndarray] = []

    def read(index: int) -> bytes | None:
        return folder.bucket.read(folder.part_file(index, PartFile.KEYS))

    for count, data in zip(rows_of_parts, read_each(folder.bucket, read, range(len(rows_of_parts))), strict=True):
        if data is None or len(data) != count * _HASH.itemsize:
            return 0
        hashes = np.frombuffer(data, dtype=_HASH)
        smallest.append(hashes if limit is None else hashes[: np.searchsorted(hashes, limit)].copy())
    whole = np.concatenate(smallest) if smallest else np.empty(0, dtype=_HASH)
    smallest.clear()
    whole.sort(kind="stable")  # stable: it merges sorted runs
    return round(np.count_nonzero(whole[1:] == whole[:-1]) / share)
