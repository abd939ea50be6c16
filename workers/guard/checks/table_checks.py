"""The checks of the table that was scored: psi_features, same_table."""

from collections.abc import Collection
from datetime import datetime

import numpy as np

from shared.guard.verdict import ALL
from shared.index_format import FeatureCounts
from shared.prediction_index import PredictionIndex
from workers.guard.checks.finding import Finding, Skipped, too_few
from workers.guard.checks.psi import psi_above_chance, with_own_bins
from workers.guard.checks.words import hours
from workers.guard.comparison import Comparison

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
