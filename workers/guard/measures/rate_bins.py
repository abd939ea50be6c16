"""Histograms of rates in fine bins of equal relative width, 0.8 %, and their quantiles.

The bins are the exponent and the first seven bits of the mantissa of a double, so a rate finds its bin by one shift.
"""

import numpy as np

_MANTISSA_BITS = 7
_SHIFT = 52 - _MANTISSA_BITS
_LOWEST_EXPONENT = -20
"""Rates below 2**-20, about one in a million, share the first bin."""
_FIRST = (1023 + _LOWEST_EXPONENT) << _MANTISSA_BITS
BINS = (-_LOWEST_EXPONENT << _MANTISSA_BITS) + 1
"""The last bin holds the rate 1."""
LOWER_EDGES = ((np.arange(BINS + 1, dtype=np.int64) + _FIRST) << _SHIFT).view(np.float64)
LOWER_EDGES[0] = 0.0
CENTERS = (LOWER_EDGES[:-1] + LOWER_EDGES[1:]) / 2
CENTERS[-1] = 1.0
RELATIVE_WIDTH = 2.0**-_MANTISSA_BITS
"""The largest relative error of a quantile: the width of a bin."""


def bins_of(rates: np.ndarray) -> np.ndarray:
    """The bin of each rate, int64."""
    bins: np.ndarray = np.ascontiguousarray(rates, dtype=np.float64).view(np.int64) >> _SHIFT
    bins -= _FIRST
    np.maximum(bins, 0, out=bins)
    return np.minimum(bins, BINS - 1, out=bins)


def mean(counts: np.ndarray) -> float:
    """The mean of the counted rates, with an error of at most 0.4 %."""
    return float(counts @ CENTERS / counts.sum())


def rescaled(counts: np.ndarray, factor: float) -> np.ndarray:
    """The histogram of the rates times a factor, cut at 1."""
    places = np.flatnonzero(counts)
    moved: np.ndarray = np.bincount(bins_of(CENTERS[places] * factor), weights=counts[places], minlength=BINS)
    return moved


def quantile(counts: np.ndarray, level: float) -> float:
    """The rate below which this share of the counted rates lies, interpolated within its bin."""
    return float(quantiles(counts, np.array([level]))[0])


def quantiles(counts: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The quantiles of a histogram, shape of ``levels``; the relative error is at most the width of a bin, 0.8 %."""
    until = np.cumsum(counts)
    wanted = levels * until[-1]
    bins = np.minimum(np.searchsorted(until, wanted, side="left"), BINS - 1)
    inside = np.clip((wanted - (until[bins] - counts[bins])) / np.maximum(counts[bins], 1), 0, 1)
    found: np.ndarray = LOWER_EDGES[bins] + inside * (np.minimum(LOWER_EDGES[bins + 1], 1.0) - LOWER_EDGES[bins])
    return found
