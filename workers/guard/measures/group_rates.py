"""The rates of one result by group: histogram, means, and whether all are the same."""

import numpy as np

from workers.guard.measures.rate_bins import BINS


class GroupRates:
    """Sums over the rates of a result, by group."""

    def __init__(self, groups: int) -> None:
        self.counts = np.zeros((groups, BINS), dtype=np.int64)
        """Rows by group and fine bin."""
        self._clicks = np.zeros(groups)
        self._weighted = np.zeros(groups)
        self._sums = np.zeros(groups)
        self._first = np.full(groups, np.nan)
        self._varies = np.zeros(groups, dtype=bool)

    def add(self, codes: np.ndarray, places: np.ndarray, rates: np.ndarray, clicks: np.ndarray | None) -> None:
        """Counts rows; ``places`` is ``codes * BINS + bins`` (see ``places_of``)."""
        groups = len(self._clicks)
        counts = np.bincount(places, minlength=groups * BINS).reshape(groups, BINS)
        self.counts += counts
        self._sums += np.bincount(codes, weights=rates, minlength=groups)
        if clicks is not None:
            self._clicks += np.bincount(codes, weights=clicks, minlength=groups)
            self._weighted += np.bincount(codes, weights=clicks * rates, minlength=groups)
        for code in np.flatnonzero(~self._varies & counts.any(axis=1)).tolist():
            self._compare_with_first(code, rates[codes == code])

    def _compare_with_first(self, code: int, rates: np.ndarray) -> None:
        if np.isnan(self._first[code]):
            self._first[code] = rates[0]
        self._varies[code] = bool((rates != self._first[code]).any())

    def rows(self, group: list[int]) -> int:
        """The number of rows of a group, given as codes."""
        return int(self.counts[group].sum())

    def histogram(self, group: list[int]) -> np.ndarray:
        """The rows of a group by fine bin."""
        counts: np.ndarray = self.counts[group].sum(axis=0)
        return counts

    def clicks(self, group: list[int]) -> float:
        """The clicks of a group."""
        return float(self._clicks[group].sum())

    def mean(self, group: list[int], *, by_clicks: bool) -> float:
        """The mean rate of a group that has rows, weighted by clicks or by rows."""
        if by_clicks:
            return float(self._weighted[group].sum() / self._clicks[group].sum())
        return float(self._sums[group].sum() / self.rows(group))

    def only_rate(self, code: int) -> float | None:
        """The one rate of all rows of a group; None when they differ or there are none."""
        return None if self._varies[code] or np.isnan(self._first[code]) else float(self._first[code])


def places_of(codes: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """The position of each row in the flat histogram of all groups."""
    return codes * BINS + bins
