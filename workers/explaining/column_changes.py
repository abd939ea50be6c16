"""What the change of each column did to the rate of a row, under one release."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from model_store.contributing import TOLERANCE, Contributions, Link
from shared.guard.explanation import ColumnChange

OLD, NEW = 0, 1
SHOWN_COLUMNS = 50
"""Columns with the largest changes that are named; the sum of the others is one part."""
SUBSTITUTED_COLUMNS = 2000
"""Columns that are replaced one by one at most."""
VALUES_AT_ONCE = 1 << 20
"""Values that are predicted together."""
ROUNDING = 1e-12
"""A remainder below this is left out."""
LONGEST_VALUE = 100

CUT, TOGETHER, OTHERS, ROUNDED = "cut to [0, 1]", "the columns together", "other columns", "rounding"

Rates = Callable[[pd.DataFrame], Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class ColumnParts:
    """The changes of columns, the largest first."""

    columns: list[ColumnChange]
    others: float
    """The sum of the changes that are not among ``columns``."""
    rest: str
    """The name of what is missing in their sum."""
    method: str

    def with_rest(self, total: float) -> dict[str, float]:
        """Returns what else makes a total change, by name."""
        named = sum(column.change for column in self.columns)
        found = {OTHERS: self.others, self.rest: total - named - self.others}
        return {name: value for name, value in found.items() if abs(value) > ROUNDING}


def by_contributions(found: Contributions, features: pd.DataFrame, rates: Sequence[float]) -> ColumnParts:
    """Returns the changes of contributions between two rows, as changes of the rate.

    A change of the raw score moves a rate with a logit link by the slope of the line between the two rates; so the changes of all columns
    add up to the change of the rate, however large they are.

    Args:
        found: the contributions to the old and the new row.
        features: the features of the two rows.
        rates: the rates of the two rows, cut to [0, 1].
    """
    changes = found.columns[NEW] - found.columns[OLD]
    base = float(found.base[NEW] - found.base[OLD])
    slope = _slope(found)
    named = [_change(features, place, float(slope * change)) for place, change in enumerate(changes)]
    others = [] if base == 0 else [ColumnChange(column="base", before="", now="", change=float(slope * base))]
    uncut = found.without_reasons + found.history
    is_cut = any(abs(rate - value) > TOLERANCE for rate, value in zip(rates, uncut, strict=True))
    how = "weight x difference of each column" if found.link is Link.IDENTITY else "Shapley values of each column, scaled from log-odds"
    return _largest([*named, *others], CUT if is_cut else ROUNDED, how)


def _slope(found: Contributions) -> float:
    """Returns the change of the rate per change of the raw score between the two rows."""
    if found.link is Link.IDENTITY:
        return 1.0
    raw, rate = found.raw, found.without_reasons
    if abs(raw[NEW] - raw[OLD]) < ROUNDING:
        return float(rate[OLD] * (1 - rate[OLD]))  # the slope of the curve itself
    return float((rate[NEW] - rate[OLD]) / (raw[NEW] - raw[OLD]))


def by_substitution(rows: pd.DataFrame, old_rate: float, rates: Rates) -> ColumnParts:
    """Returns the change of the rate when one column of the old row takes the value of the new row, for each column that differs.

    Columns may act together, so the changes need not add up to the whole one; the remainder has a name.

    Args:
        rows: the old row and the new row.
        old_rate: the rate of the old row.
        rates: predicts the rates of rows.
    """
    differing = [place for place in range(rows.shape[1]) if _differs(rows.iloc[OLD, place], rows.iloc[NEW, place])]
    tried = differing[:SUBSTITUTED_COLUMNS]
    at_once = max(1, VALUES_AT_ONCE // max(rows.shape[1], 1))
    effects: list[float] = []
    for start in range(0, len(tried), at_once):
        effects += [rate - old_rate for rate in rates(_substituted(rows, tried[start : start + at_once]))]
    named = [_change(rows, place, effect) for place, effect in zip(tried, effects, strict=True)]
    left_out = f"; {len(differing) - len(tried):,} more columns changed" if len(differing) > len(tried) else ""
    return _largest(named, TOGETHER, f"each column that changed, replaced alone{left_out}")


def _substituted(rows: pd.DataFrame, places: Sequence[int]) -> pd.DataFrame:
    """Returns the old row once for each of these columns, in which it has the value of the new row."""
    taken = {place: number for number, place in enumerate(places)}
    columns = {}
    for place in range(rows.shape[1]):
        positions = np.full(len(places), OLD)
        if place in taken:
            positions[taken[place]] = NEW
        columns[rows.columns[place]] = rows.iloc[:, place].take(positions).reset_index(drop=True)
    return pd.DataFrame(columns)


def _differs(one: Any, other: Any) -> bool:  # noqa: ANN401 - a value of a table
    return bool(one != other) and not (pd.isna(one) and pd.isna(other))


def _change(rows: pd.DataFrame, place: int, change: float) -> ColumnChange:
    before, now = (_shown(rows.iloc[position, place]) for position in (OLD, NEW))
    return ColumnChange(column=str(rows.columns[place])[:LONGEST_VALUE], before=before, now=now, change=change)


def _shown(value: object) -> str:
    text = str(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _largest(changes: Sequence[ColumnChange], rest: str, method: str) -> ColumnParts:
    moved = sorted((change for change in changes if change.change or change.before != change.now), key=lambda one: -abs(one.change))
    shown = moved[:SHOWN_COLUMNS]
    return ColumnParts(columns=shown, others=sum(change.change for change in moved[SHOWN_COLUMNS:]), rest=rest, method=method)
