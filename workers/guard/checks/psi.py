"""The population stability index (PSI) of two histograms, above what chance gives.

PSI is the sum over bins of (p - q) ln(p / q), with the shares p and q of the two tables.
Without a change, PSI / (1/n + 1/m) is approximately chi-square distributed with one degree of freedom less than there are bins, for n and
m rows: Yurdakul and Naranjo, "Statistical properties of the population stability index", Journal of Risk Model Validation 14 (4), 2020.
"""

import numpy as np
from scipy.special import chdtri

BINS = 10
"""Quantile bins of the base: the number for which the limits 0.1 and 0.25 are in use."""
CHANCE = 0.001
"""The probability that an unchanged table exceeds the part that is taken off."""
SMALLEST_SHARE = 0.001
"""A bin with a smaller share counts as this one: otherwise a bin that becomes empty would weigh more, the more rows there are."""


def psi_above_chance(old: np.ndarray, new: np.ndarray, rows: int | None = None) -> float:
    """PSI of two histograms with the same bins, less its 99.9 % quantile without a change; 0 when it is below.

    Args:
        old: counts of the base.
        new: counts of the new result.
        rows: the rows that the distribution of the base rests on, if they are fewer than those counted.
    """
    used = (old + new) > 0
    bins = int(np.count_nonzero(used))
    if bins < 2:
        return 0.0
    q, p = _shares(old[used]), _shares(new[used])
    found = float(((p - q) * np.log(p / q)).sum())
    return max(0.0, found - chance(min(rows or int(old.sum()), int(old.sum())), int(new.sum()), bins))


def chance(n: int, m: int, bins: int) -> float:
    """The PSI that two samples of n and m rows from one distribution exceed with a probability of 0.1 %."""
    return float(chdtri(bins - 1, CHANCE)) * (1 / n + 1 / m)


def _shares(counts: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.maximum(counts / counts.sum(), SMALLEST_SHARE)
    return shares


def in_quantile_bins(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two fine histograms in the same coarse bins: at most ten, each with about as many rows of ``old``.

    A limit between two bins lies in the middle of the gap without rows of ``old``, so a model of few rates may change each a little.
    """
    until = np.cumsum(old)
    places = np.flatnonzero(old)
    last = np.unique(np.searchsorted(until, until[-1] * np.arange(1, BINS) / BINS, side="left"))
    after = np.searchsorted(places, last, side="right")
    last, after = last[after < len(places)], after[after < len(places)]
    return _added(old, new, (last + 1 + places[after]) // 2)


def with_own_bins(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two histograms of a column in quantile bins of ``old``, where a value that a tenth of the rows have is a bin of its own."""
    until = np.cumsum(old)
    last = np.searchsorted(until, until[-1] * np.arange(1, BINS) / BINS, side="left")
    frequent = np.flatnonzero(old * BINS >= until[-1])
    return _added(old, new, np.concatenate([last + 1, frequent, frequent + 1]))


def _added(old: np.ndarray, new: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts = np.unique(np.concatenate([[0], starts[starts < len(old)]]))
    return np.add.reduceat(old, starts), np.add.reduceat(new, starts)
