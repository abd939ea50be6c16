"""Confidence intervals by resampling whole keywords, because the errors of one keyword's rows are not independent.

A figure is a ratio of sums, such as the log-loss of all rows divided by their clicks. Each resample gives every keyword a weight drawn
from the Poisson distribution with mean 1, and takes the ratio of the weighted sums; the interval is the central share of these ratios. To
compare two predictors, the differences of their losses are taken row by row, so that rows that are hard for both cancel out.

Sources: Efron, Bootstrap Methods: Another Look at the Jackknife, Annals of Statistics 1979 (percentile interval); Field and Welsh,
Bootstrapping Clustered Data, JRSS B 2007 (whole clusters); Chamandy, Muralidharan, Najmi and Naidu, Estimating Uncertainty for Massive
Data Streams, Google 2012 (Poisson weights).
"""

from collections.abc import Iterable

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 20261123
MOST_GROUPS = 4_000
"""Above this number, keywords are first combined at random into this many groups: sums of groups vary as much as those of keywords."""

FEWEST_KEYWORDS = 10
"""With fewer keywords the spread is too uncertain for an interval."""

_WEIGHTS_AT_ONCE = 1 << 19


def number_keywords(keyword: np.ndarray) -> tuple[np.ndarray, int]:
    """The index of each row's keyword, counted from 0 (shape: rows), and the number of keywords."""
    known, number = np.unique(keyword, return_inverse=True)
    return number, len(known)


def sums_by_keyword(number: np.ndarray, keywords: int, figures: Iterable[np.ndarray]) -> np.ndarray:
    """The sums of each figure (one value per row) over the rows of each keyword; shape: keywords x figures."""
    return np.stack([np.bincount(number, figure, minlength=keywords) for figure in figures], axis=1)


def intervals(numerators: np.ndarray, denominators: np.ndarray, confidence: float = CONFIDENCE) -> np.ndarray:
    """The low and high ends of the ratios ``sum(numerators) / sum(denominators)``; shape: figures x 2.

    Both arrays have the shape keywords x figures. A figure to which fewer than ``FEWEST_KEYWORDS`` contribute gets NaN. The same arrays
    always give the same interval, and other figures in the same call do not change it (except for the rounding of sums).
    """
    random = np.random.default_rng(SEED)
    contributing = (denominators != 0).sum(axis=0)
    if len(numerators) > MOST_GROUPS:
        group = random.permutation(len(numerators)) % MOST_GROUPS
        numerators, denominators = (sums_by_keyword(group, MOST_GROUPS, sums.T) for sums in (numerators, denominators))
    at_once = max(_WEIGHTS_AT_ONCE // len(numerators), 1)
    ratios = []
    for first in range(0, RESAMPLES, at_once):
        weights = random.poisson(1.0, (min(at_once, RESAMPLES - first), len(numerators))).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios.append((weights @ numerators) / (weights @ denominators))
    tail = (1 - confidence) / 2
    found = np.full((numerators.shape[1], 2), np.nan)
    enough = contributing >= FEWEST_KEYWORDS
    if enough.any():
        # by column: a resample without any keyword of a figure gives NaN for that figure only
        found[enough] = np.nanquantile(np.concatenate(ratios)[:, enough], (tail, 1 - tail), axis=0).T
    return found
