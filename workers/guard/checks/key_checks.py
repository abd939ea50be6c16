"""The checks of rows and keys: rows, keys_lost, keys_new, keys_doubled, clipped."""

from shared.guard.checks import Weight
from workers.guard.checks.finding import Finding, Skipped, too_few
from workers.guard.checks.words import percent, relative_change, rows_in_words
from workers.guard.comparison import Comparison

Findings = list[Finding | Skipped]


def rows(comparison: Comparison) -> Findings:
    """The change of the number of scored rows."""
    before, now = comparison.known_base.manifest.rows_scored, comparison.new.manifest.rows_scored
    if before < comparison.config.checks.rows.min_rows:
        return [too_few("all", before, comparison.config.checks.rows.min_rows, comparison.theirs)]
    share = relative_change(before, now)
    words = f"the result has {percent(abs(share))} {'fewer' if share < 0 else 'more'} rows than {comparison.theirs}"
    return [Finding(value=abs(share), words=f"{words} ({now:,} instead of {before:,})")]


def keys_lost(comparison: Comparison) -> Findings:
    """The share of the base's keys that have no row in the new result."""
    config, keys = comparison.config.checks.keys_lost, comparison.measures.keys
    if keys.old.rows < config.min_rows:
        return [too_few("all", keys.old.rows, config.min_rows, comparison.theirs)]
    share, weight = keys.lost.share_of(keys.old, config.weight)
    words = f"{percent(share)} of the {weight} of {comparison.theirs} have no row any more ({rows_in_words(keys.lost.rows)})"
    return [Finding(value=share, words=words + _without_clicks(config.weight, weight), weight=weight)]


def keys_new(comparison: Comparison) -> Findings:
    """The share of the new result's keys that the base does not have."""
    config, keys = comparison.config.checks.keys_new, comparison.measures.keys
    if keys.new.rows < config.min_rows:
        return [too_few("all", keys.new.rows, config.min_rows, "the result")]
    share, weight = keys.appeared.share_of(keys.new, config.weight)
    words = f"{percent(share)} of the {weight} are new: {comparison.theirs} does not have their keys ({rows_in_words(keys.appeared.rows)})"
    return [Finding(value=share, words=words + _without_clicks(config.weight, weight), weight=weight)]


def keys_doubled(comparison: Comparison) -> Findings:
    """The rows whose key an earlier row has; every result is checked, however small."""
    doubled = comparison.measures.doubled
    words = "1 row has the key of an earlier row" if doubled == 1 else f"{doubled:,} rows have the key of an earlier row"
    return [Finding(value=float(doubled), words=words)]


def clipped(comparison: Comparison) -> Findings:
    """The share of the predictions that were outside 0 to 1."""
    manifest, min_rows = comparison.new.manifest, comparison.config.checks.clipped.min_rows
    if manifest.rows_scored < min_rows:
        return [too_few("all", manifest.rows_scored, min_rows, "the result")]
    share = manifest.rows_clipped / manifest.rows_scored
    return [Finding(value=share, words=f"{percent(share)} of the predictions were outside 0 to 1 ({rows_in_words(manifest.rows_clipped)})")]


def _without_clicks(wanted: Weight, used: Weight) -> str:
    return "" if wanted == used else ", by rows because the table has no clicks"
