"""Digests of parsed feature vectors: 128 bits per row, equal in every process and for every way of reading the row.

The vector of a row is a sequence of 64-bit words: its binary features packed into bits, the bits of each number, and two hashes of each
text. The words ``w`` are chained into ``x``, and the intermediate values of ``x`` into ``y``:

    x = mix(x ^ w)
    y = y * MULTIPLIER + x

``mix`` is a bijection, so rows that differ in one word, or in two adjacent ones, never have the same digest: if ``x`` meets again, the
difference remains in ``y``. For other rows, ``x`` and ``y`` must meet at once, with a chance of about 2^-128.
The names, types and order of the features are the initial values: digests of other features never match by accident.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from workers.guard.index.features import FeatureValues

ROWS_AT_ONCE = 1 << 14
"""Rows that are hashed together: their words stay in the CPU cache, and the calls of numpy cost little."""

_WORD = np.dtype("<u8")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIXERS = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST_SHIFT = np.uint64(31)
_TEXT_KEYS = ("prediction index", "one more word  x")
"""Keys of 16 bytes for two independent SipHash values of a text."""


def digest_rows(values: FeatureValues) -> np.ndarray:
    """Returns the digest of each row, uint64 of shape (rows, 2)."""
    digests = np.empty((values.rows, 2), dtype=np.uint64)
    seeds = values.features.seeds()
    for start in range(0, values.rows, ROWS_AT_ONCE):
        end = min(start + ROWS_AT_ONCE, values.rows)
        _chain(_words(values, start, end), seeds, digests[start:end])
    return digests


def _words(values: FeatureValues, start: int, end: int) -> Iterator[np.ndarray]:
    """Yields the words of the rows ``start`` to ``end``, each uint64 of shape (rows,)."""
    yield from _packed(values.binary[start:end])
    for numbers in values.numbers:
        yield numbers[start:end].view(np.uint64)
    for texts in values.texts:
        for key in _TEXT_KEYS:
            yield pd.util.hash_array(texts[start:end], hash_key=key, categorize=False)


def _packed(binary: np.ndarray) -> Iterator[np.ndarray]:
    if not binary.shape[1]:
        return
    packed = np.packbits(binary, axis=1)
    words = -(-packed.shape[1] // _WORD.itemsize)
    padded = np.zeros((len(packed), words * _WORD.itemsize), dtype=np.uint8)
    padded[:, : packed.shape[1]] = packed
    yield from padded.view(_WORD).T


def _chain(words: Iterator[np.ndarray], seeds: np.ndarray, digests: np.ndarray) -> None:
    """Writes the digests of rows with these words into ``digests``."""
    x, y = (np.full(len(digests), seed, dtype=np.uint64) for seed in seeds)
    spare = np.empty_like(x)
    for word in words:
        x ^= word
        _mix(x, spare)
        y *= _MULTIPLIER
        y += x
    digests[:, 0], digests[:, 1] = x, y


def _mix(x: np.ndarray, spare: np.ndarray) -> None:
    """Applies the finalizer of SplitMix64 (Steele, Lea and Flood 2014) in place; it is a bijection."""
    for shift, multiplier in _MIXERS:
        np.right_shift(x, shift, out=spare)
        x ^= spare
        x *= multiplier
    np.right_shift(x, _LAST_SHIFT, out=spare)
    x ^= spare
