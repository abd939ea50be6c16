"""The difference between two releases, from the rows whose features are the same in both tables."""

from dataclasses import dataclass

import numpy as np

from shared.guard.groups import Groups
from shared.guard.weights import ClicksOfRows, has_clicks
from shared.guard.windows import RunReader, Window, windows
from shared.prediction_index import PredictionIndex
from workers.guard.measures.group_rates import places_of
from workers.guard.measures.measuring import Rates
from workers.guard.measures.moved_rows import MovedRows
from workers.guard.measures.rate_bins import BINS, CENTERS, bins_of, quantiles

_MOST_KNOTS = 64
_ROWS_OF_A_KNOT = 20


def measure_unchanged(old: PredictionIndex, new: PredictionIndex, groups: Groups, by_more_than: float) -> Rates:
    """The rates of the unchanged rows, those with the same key and the same features, under both releases."""
    clicks, rates = ClicksOfRows(in_old=has_clicks(old), in_new=has_clicks(new)), Rates.empty(groups, by_more_than)
    for window in windows(RunReader(old), RunReader(new)):
        same = np.flatnonzero(unchanged(window))
        if len(same):
            _add(window, same, rates, groups, clicks.both(window)[1])
    return rates


def _add(window: Window, same: np.ndarray, rates: Rates, groups: Groups, new_clicks: np.ndarray | None) -> None:
    codes = groups.codes(window.of_new(window.new.key)[same])
    before, now = window.of_old(window.old.cr)[same], window.of_new(window.new.cr)[same]
    weights = None if new_clicks is None else window.of_new(new_clicks)[same]
    rates.old.add(codes, places_of(codes, bins_of(before)), before, weights)
    rates.new.add(codes, places_of(codes, bins_of(now)), now, weights)
    rates.moved.add(before, np.abs(now - before), weights)


def unchanged(window: Window) -> np.ndarray:
    """For each key of both tables, whether its features are the same."""
    if window.old.digest is None or window.new.digest is None:
        return np.zeros(len(window.of_new(window.new.key)), dtype=bool)
    old, new = window.of_old(window.old.digest), window.of_new(window.new.digest)
    found: np.ndarray = old == new
    return found


@dataclass(frozen=True)
class Translation:
    """Translates rates of the base into those of the new release: an unchanged row has its new rate, any other that of its quantile.

    The quantiles of the unchanged rows of a device under both releases give a factor for each rate.
    """

    own: Rates
    """The rates of the unchanged rows."""
    factors: np.ndarray
    """By group and fine bin, flat."""
    spread: MovedRows
    """Unchanged rows, and those whose new rate differs from that of their quantile by more than a share of it."""

    @classmethod
    def of(cls, own: Rates, fewest_rows: int) -> "Translation":
        """The translation by the unchanged rows; a group with fewer rows than ``fewest_rows`` keeps its rates."""
        groups = len(own.old.counts)
        factors = np.ones((groups, BINS))
        for code in range(groups):
            if own.old.rows([code]) >= fewest_rows:
                factors[code] = _factors(own.old.counts[code], own.new.counts[code])
        return cls(own, factors.ravel(), MovedRows(own.moved.by_more_than))

    @property
    def spread_share(self) -> float:
        """The share of unchanged rows whose new rate is far from that of their quantile."""
        return self.spread.moved.rows / max(self.spread.all.rows, 1)

    def expected(self, window: Window, places: np.ndarray) -> np.ndarray:
        """The expected rate of each row of ``window.old`` under the new release."""
        expected: np.ndarray = window.old.cr * self.factors[places]
        is_same, now = unchanged(window), window.of_new(window.new.cr)
        before = window.of_old(expected)
        self.spread.add(before[is_same], np.abs(now - before)[is_same], None)
        positions = np.flatnonzero(is_same) if window.pairs is None else window.pairs[0][is_same]
        expected[positions] = now[is_same]
        return expected


def _factors(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The factor of each fine bin: between quantiles the logarithm is interpolated; outside of them it is that of the nearest."""
    knots = max(1, min(_MOST_KNOTS, int(old.sum()) // _ROWS_OF_A_KNOT))
    levels = (np.arange(knots) + 0.5) / knots
    before, now = np.maximum(quantiles(old, levels), CENTERS[0]), np.maximum(quantiles(new, levels), CENTERS[0])
    places, which = np.unique(before, return_inverse=True)
    logs = np.bincount(which, weights=np.log(now / before)) / np.bincount(which)
    factors: np.ndarray = np.exp(np.interp(np.log(CENTERS), np.log(places), logs))
    return factors
