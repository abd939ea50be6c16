"""The checks of the table that was scored: psi_features, same_table, and the columns of constant."""

from collections.abc import Collection, Mapping
from datetime import datetime

import numpy as np

from shared.guard.verdict import ALL
from shared.index_format import FeatureCounts
from shared.prediction_index import PredictionIndex
from workers.guard.checks.finding import Finding, Skipped, too_few
from workers.guard.checks.psi import psi_above_chance, with_own_bins
from workers.guard.checks.words import hours, percent
from workers.guard.comparison import Comparison
from workers.guard.index.feature_counts import bin_edges

Findings = list[Finding | Skipped]

_FIRST_NEGATIVE = 1 << 13
"""The first bin of negative numbers (``workers.guard.index.feature_counts``): their bins count away from zero."""


def psi_features(comparison: Comparison) -> Findings:
    """The population stability index of the most important columns that both indexes count."""
    config, new, old = comparison.config.checks.psi_features, comparison.new, comparison.known_base
    columns = shared_columns(old.index.feature_counts, new.index.feature_counts)
    if not columns:
        return [Skipped(reason=_why_none(comparison.theirs, base_has=old.index.has_digests, new_has=new.index.has_digests))]
    rows = min(old.index.rows, new.index.rows)
    if rows < config.min_rows:
        return [too_few(ALL, rows, config.min_rows, "one of the two results")]
    important = [name for name in comparison.important_columns if name in columns][: config.columns]
    values = {name: psi_of_column(name, old.index, new.index) for name in important or columns}
    first = sorted(values, key=lambda name: -values[name])[: config.columns]
    return [
        Finding(group=name, value=values[name], words=f"the values of {name} changed by {values[name]:.3g} (PSI above chance)")
        for name in first
    ]


VARIED = 0.01
"""The smallest share of the base's rows that had other values in a column which has one value now."""


def constant_columns(comparison: Comparison) -> Findings:
    """Returns which of the most important columns have one value, although they varied in the base.

    A column that nearly all rows of the base agreed on has not varied: it may lose its other values because a campaign ends. One that
    may have lost them by chance, in a small table, is not returned either.
    """
    config, base, new = comparison.config.checks.constant, comparison.base, comparison.new.index
    if base is None or min(base.index.rows, new.rows) < config.min_rows:
        return []
    old = base.index
    there = shared_columns(old.feature_counts, new.feature_counts)
    found: Findings = []
    for name in [name for name in comparison.important_columns if name in there][: config.columns]:
        only = _only_value(new, name)
        others = 0 if only is None else old.rows - _values_of(old, name).get(only, 0)
        if only is not None and others >= VARIED * old.rows and psi_of_column(name, old, new) > 0:
            value = str(only) if name in new.feature_counts.ones else f"about {bin_edges(only)[0]:.3g}"
            before = f"{percent(others / old.rows)} of the rows of {comparison.theirs} had others"
            found.append(Finding(group=name, value=1.0, words=f"all {new.rows:,} rows have the value {value} in {name}; {before}"))
    return found


def _only_value(index: PredictionIndex, name: str) -> int | None:
    """Returns the one value, or bin, that all rows have in a column; None if they have several."""
    values = [value for value, rows in _values_of(index, name).items() if rows]
    return values[0] if len(values) == 1 else None


def _values_of(index: PredictionIndex, name: str) -> Mapping[int, int]:
    """Returns value -> rows of a binary column, and bin -> rows of a number column."""
    ones = index.feature_counts.ones.get(name)
    return index.feature_counts.bins[name] if ones is None else {0: index.rows - ones, 1: ones}


def shared_columns(old: FeatureCounts, new: FeatureCounts) -> list[str]:
    """The columns that both tables count in the same way, in the order of the new one."""
    return [*(name for name in new.ones if name in old.ones), *(name for name in new.bins if name in old.bins)]


def psi_of_column(name: str, old: PredictionIndex, new: PredictionIndex) -> float:
    """The population stability index of a column that both indexes count."""
    ones = old.feature_counts.ones.get(name)
    if ones is not None:
        of_new = new.feature_counts.ones[name]
        return psi_above_chance(np.array([old.rows - ones, ones]), np.array([new.rows - of_new, of_new]))
    of_old, of_new_bins = old.feature_counts.bins[name], new.feature_counts.bins[name]
    places = in_order({*of_old, *of_new_bins})
    counts = (np.array([of_column.get(place, 0) for place in places]) for of_column in (of_old, of_new_bins))
    return psi_above_chance(*with_own_bins(*counts))


def in_order(places: Collection[int]) -> list[int]:
    """Bins of numbers in the order of their numbers."""
    return sorted(places, key=lambda place: place if place < _FIRST_NEGATIVE else -place)


def _why_none(theirs: str, *, base_has: bool, new_has: bool) -> str:
    if base_has and new_has:
        return "the two results have no column in common"
    return f"{'the result' if base_has else theirs} has no counts of the values of its columns"


def same_table(comparison: Comparison) -> Findings:
    """Returns how long the channel has had results on this same table."""
    since = table_since(comparison)
    if since is None:
        return [Finding(value=0.0, words=f"the table is not that of {comparison.theirs}")]
    seconds = max(0.0, (comparison.now - since).total_seconds())
    return [Finding(value=seconds, words=f"{comparison.channel} has had results on this same table for {hours(seconds)}")]


def table_since(comparison: Comparison) -> datetime | None:
    """The time of the channel's first result in a row on the new result's table; None when the base has another table."""
    base = comparison.base
    if base is None or base.manifest.table.contents != comparison.new.manifest.table.contents:
        return None
    return base.table_since or base.manifest.finished
