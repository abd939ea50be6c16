"""The weight of each row: its clicks in the new table, or in the base's where the new one has none."""

from dataclasses import dataclass

import numpy as np

from shared.guard.checks import Weight
from shared.guard.windows import Window
from shared.prediction_index import PredictionIndex


def has_clicks(index: PredictionIndex | None) -> bool:
    """Returns True when the rows of an index have clicks."""
    return index is not None and index.at(0, 0).clicks is not None


@dataclass
class Tally:
    """A number of rows and the sum of their clicks."""

    rows: int = 0
    clicks: float = 0.0

    def add(self, rows: int, clicks: np.ndarray | None) -> None:
        self.rows += rows
        self.clicks += 0.0 if clicks is None else float(clicks.sum())

    def share_of(self, whole: "Tally", weight: Weight) -> tuple[float, Weight]:
        """The share of the whole, and what was counted: rows when the whole has no clicks."""
        if weight == Weight.CLICKS and whole.clicks > 0:
            return self.clicks / whole.clicks, Weight.CLICKS
        return self.rows / whole.rows if whole.rows else 0.0, Weight.ROWS


@dataclass(frozen=True)
class ClicksOfRows:
    """The clicks of the rows of a window; a row of both tables has the same clicks on both sides, so a change of clicks moves no mean."""

    in_old: bool
    in_new: bool

    def both(self, window: Window) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Clicks of the rows of ``old`` and of ``new``; None for both when neither table has clicks."""
        old, new = window.old.clicks, window.new.clicks
        if self.in_new:
            new = _or_zeros(new, len(window.new))
            return (new if window.pairs is None else _replaced(_or_zeros(old, len(window.old)), window.pairs[0], new[window.pairs[1]])), new
        if not self.in_old:
            return None, None
        old = _or_zeros(old, len(window.old))
        return old, old if window.pairs is None else _replaced(np.zeros(len(window.new)), window.pairs[1], old[window.pairs[0]])


def _or_zeros(clicks: np.ndarray | None, rows: int) -> np.ndarray:
    return np.zeros(rows) if clicks is None else clicks


def _replaced(column: np.ndarray, positions: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The column with values at some positions."""
    replaced = column.copy()
    replaced[positions] = values
    return replaced
