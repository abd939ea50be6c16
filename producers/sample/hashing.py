"""Pseudo-random numbers that depend only on a seed, a name and a number."""

import hashlib

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def row_numbers(keywords: Integers, devices: Integers) -> Integers:
    """The hash inputs of rows, one for each keyword and device."""
    return keywords * 4 + devices


def hashed(seed: int, name: str, numbers: Integers) -> Floats:
    """Uniform numbers in [0, 1), one for each of ``numbers``, that depend only on seed, name and number.

    SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"), started at ``number``.
    """
    start = int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little")
    bits = numbers.astype(np.uint64)
    bits *= np.uint64(0x9E3779B97F4A7C15)
    bits += np.uint64(start)
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def hashed_normal(seed: int, name: str, numbers: Integers) -> Floats:
    """Standard normal numbers, one for each of ``numbers`` (Box and Muller 1958)."""
    radius = np.sqrt(-2 * np.log1p(-hashed(seed, f"{name}, radius", numbers)))
    normal: Floats = radius * np.cos(2 * np.pi * hashed(seed, f"{name}, angle", numbers))
    return normal
