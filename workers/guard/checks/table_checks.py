"""The checks of the table that was scored: psi_features, same_table."""

from datetime import datetime

import numpy as np

from workers.guard.checks.finding import Finding, Skipped, too_few
from workers.guard.comparison import Comparison
from workers.guard.psi import psi_above_chance
from workers.guard.words import hours

Findings = list[Finding | Skipped]


def psi_features(comparison: Comparison) -> Findings:
    """The population stability index of the most important columns that both indexes count."""
    config, new = comparison.config.checks.psi_features, comparison.new.index.feature_counts
    old = comparison.known_base.index.feature_counts
    shared = [name for name in new if name in old and len(old[name]) == len(new[name])]
    if not shared:
        return [Skipped(reason=_why_none(comparison.theirs, base_has=bool(old), new_has=bool(new)))]
    rows = min(int(np.sum(old[shared[0]])), int(np.sum(new[shared[0]])))
    if rows < config.min_rows:
        return [too_few("all", rows, config.min_rows, "one of the two results")]
    values = {name: psi_above_chance(np.asarray(old[name]), np.asarray(new[name])) for name in _wanted(comparison, shared)}
    first = sorted(values, key=lambda name: -values[name])[: config.columns]
    return [
        Finding(group=name, value=values[name], words=f"the values of {name} changed by {values[name]:.3g} (PSI above chance)")
        for name in first
    ]


def _why_none(theirs: str, *, base_has: bool, new_has: bool) -> str:
    if base_has and new_has:
        return "the two results have no column in common"
    return f"{'the result' if base_has else theirs} has no counts of the values of its columns"


def _wanted(comparison: Comparison, shared: list[str]) -> list[str]:
    """The most important columns; all of them when the release has no importance."""
    important = [name for name in comparison.important_columns if name in shared]
    return important[: comparison.config.checks.psi_features.columns] or shared


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
