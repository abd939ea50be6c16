"""The one pass over both indexes that measures everything the checks need."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from shared.guard.groups import Groups
from shared.guard.weights import ClicksOfRows, has_clicks
from shared.guard.windows import ROWS_AT_ONCE, RunReader, Window, windows
from shared.prediction_index import PredictionIndex
from workers.guard.measures.group_rates import GroupRates, places_of
from workers.guard.measures.keys import KeyCounts
from workers.guard.measures.moved_rows import MovedRows
from workers.guard.measures.rate_bins import bins_of
from workers.guard.measures.worst_rows import QuotedRow, WorstRows, quoted_rows


@dataclass(frozen=True)
class Rates:
    """The rates of the base (``old``) and of the new result, by group, and the rows that moved between them."""

    old: GroupRates
    new: GroupRates
    moved: MovedRows

    @classmethod
    def empty(cls, groups: Groups, by_more_than: float) -> "Rates":
        """Rates of no rows."""
        return cls(GroupRates(len(groups.names)), GroupRates(len(groups.names)), MovedRows(by_more_than))


@dataclass(frozen=True)
class Measures:
    """What one pass over two indexes measured."""

    rates: Rates
    keys: KeyCounts = field(default_factory=KeyCounts)
    worst: WorstRows = field(default_factory=WorstRows)
    doubled: int = 0
    first_doubled: list[QuotedRow] = field(default_factory=list)


class Expectation(Protocol):
    """What the rates of the base would be under the new release."""

    def expected(self, window: Window, places: np.ndarray) -> np.ndarray:
        """The expected rate of each row of ``window.old``."""


class Unchanged:
    """The expectation within one release: the rates of the base."""

    def expected(self, window: Window, places: np.ndarray) -> np.ndarray:
        """The rates of the base as they are."""
        return window.old.cr


def measure(
    old: PredictionIndex | None,
    new: PredictionIndex,
    groups: Groups,
    by_more_than: float,
    expectation: Expectation,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Measures:
    """Measures two results in one pass, one window of keys at a time."""
    clicks = ClicksOfRows(in_old=has_clicks(old), in_new=has_clicks(new))
    keys, worst, rates = KeyCounts(), WorstRows(), Rates.empty(groups, by_more_than)
    reader = RunReader(new)
    for window in windows(RunReader(old), reader, rows_at_once):
        keys.add(window)
        _add_rates(window, rates, worst, groups, (clicks, expectation))
        worst.add_others(window)
    first = [row for run in reader.first_doubled for row in quoted_rows(run)]
    return Measures(rates, keys, worst, reader.doubled, first)


def _add_rates(window: Window, rates: Rates, worst: WorstRows, groups: Groups, rules: tuple[ClicksOfRows, Expectation]) -> None:
    clicks, expectation = rules
    old_clicks, new_clicks = clicks.both(window)
    new_codes = groups.codes(window.new.key)
    old_codes = new_codes if window.pairs is None else groups.codes(window.old.key)
    places = places_of(old_codes, bins_of(window.old.cr))
    expected = expectation.expected(window, places)
    if expected is not window.old.cr:
        places = places_of(old_codes, bins_of(expected))
    rates.old.add(old_codes, places, expected, old_clicks)
    rates.new.add(new_codes, places_of(new_codes, bins_of(window.new.cr)), window.new.cr, new_clicks)
    before = window.of_old(expected)
    change = np.abs(window.of_new(window.new.cr) - before)
    shared_clicks = None if new_clicks is None else window.of_new(new_clicks)
    rates.moved.add(before, change, shared_clicks)
    worst.add_moved(window, change, shared_clicks)
