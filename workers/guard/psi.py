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
_SMOOTHING = 0.5
"""Added to each count, so that an empty bin gives a finite number."""


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
    smoothed = counts + _SMOOTHING
    shares: np.ndarray = smoothed / smoothed.sum()
    return shares


def in_quantile_bins(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two fine histograms in the same coarse bins: at most ten, each with about as many rows of ``old``."""
    until = np.cumsum(old)
    levels = until[-1] * np.arange(1, BINS) / BINS
    starts = np.unique(np.searchsorted(until, levels, side="left") + 1)
    starts = np.concatenate([[0], starts[starts < len(old)]])
    return np.add.reduceat(old, starts), np.add.reduceat(new, starts)
