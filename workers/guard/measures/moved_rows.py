"""Counts the rows whose rate changed by more than a share of the rate before."""

from dataclasses import dataclass, field

import numpy as np

from shared.guard.weights import Tally


@dataclass
class MovedRows:
    """Rows of both results, and those of them that moved."""

    by_more_than: float
    all: Tally = field(default_factory=Tally)
    moved: Tally = field(default_factory=Tally)

    def add(self, before: np.ndarray, change: np.ndarray, clicks: np.ndarray | None) -> None:
        """Counts rows by their rate before and the absolute change of it."""
        has_moved = change > self.by_more_than * before
        self.all.add(len(before), clicks)
        self.moved.add(int(np.count_nonzero(has_moved)), None if clicks is None else clicks[has_moved])
