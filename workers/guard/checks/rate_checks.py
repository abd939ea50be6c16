"""The checks of rates: constant, mean_cr, p99_cr, moved, psi_cr.

The last four compare the new rates with the expected ones: those of the base or, after a change of the release, what the unchanged rows
say about the new release. The difference of the releases on the unchanged rows, ``model_value``, has a limit of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

from shared.guard.checks import Grouping, Weight
from shared.guard.verdict import ALL
from workers.guard.checks.finding import Finding, Skipped, too_few
from workers.guard.checks.psi import in_quantile_bins, psi_above_chance
from workers.guard.checks.table_checks import constant_columns
from workers.guard.checks.words import change, percent, rate, relative_change
from workers.guard.comparison import Comparison
from workers.guard.measures.measuring import Rates
from workers.guard.measures.rate_bins import mean, quantile, rescaled

Findings = list[Finding | Skipped]


def constant(comparison: Comparison) -> Findings:
    """Returns whether all rows of a group have one rate, and which important columns have one value."""
    return [*_constant_rates(comparison), *constant_columns(comparison)]


def _constant_rates(comparison: Comparison) -> Findings:
    rates, min_rows = comparison.measures.rates.new, comparison.config.checks.constant.min_rows
    found: Findings = []
    for name, codes in comparison.groups_by(Grouping.DEVICE):
        rows, only = rates.rows(codes), rates.only_rate(codes[0])
        if rows >= min_rows:
            one = f"all {rows:,} rows{_of(name)} have the rate {rate(only or 0.0)}"
            words = f"the {rows:,} rows{_of(name)} have different rates" if only is None else one
            found.append(Finding(group=name, value=float(only is not None), words=words))
        elif rows:
            found.append(too_few(name, rows, min_rows, "the result"))
    return found


@dataclass(frozen=True)
class _Difference:
    """The value of a check for a group of rates."""

    value: float
    words: str
    weight: Weight | None = None


def mean_cr(comparison: Comparison) -> Findings:
    """The change of the mean rate."""
    config = comparison.config.checks.mean_cr

    def differ(rates: Rates, name: str, codes: list[int]) -> _Difference:
        by_clicks = config.weight == Weight.CLICKS and min(rates.old.clicks(codes), rates.new.clicks(codes)) > 0
        before, now = rates.old.mean(codes, by_clicks=by_clicks), rates.new.mean(codes, by_clicks=by_clicks)
        note = ", by rows because they have no clicks" if config.weight == Weight.CLICKS and not by_clicks else ""
        words = f"the mean rate{_of(name)} is {change(before, now)} ({rate(now)} instead of {rate(before)}{note})"
        return _Difference(abs(relative_change(before, now)), words, Weight.CLICKS if by_clicks else Weight.ROWS)

    return _by_group(comparison, config.by, config.min_rows, differ)


def p99_cr(comparison: Comparison) -> Findings:
    """The change of the 99th percentile, read from a histogram with an error of at most 0.8 %."""

    def differ(rates: Rates, name: str, codes: list[int]) -> _Difference:
        before, now = quantile(rates.old.histogram(codes), 0.99), quantile(rates.new.histogram(codes), 0.99)
        words = f"the 99th percentile of the rates{_of(name)} is {change(before, now)} ({rate(now)} instead of {rate(before)})"
        return _Difference(abs(relative_change(before, now)), words)

    config = comparison.config.checks.p99_cr
    return _by_group(comparison, config.by, config.min_rows, differ)


def psi_cr(comparison: Comparison) -> Findings:
    """The population stability index of the rates, after the change of their mean, which ``mean_cr`` judges, is taken out."""
    translation = comparison.translation

    def differ(rates: Rates, name: str, codes: list[int]) -> _Difference:
        unchanged = translation.own.old.rows(codes) if translation else 0
        rows = unchanged if unchanged >= comparison.fewest_unchanged else None
        old, new = rates.old.histogram(codes), rates.new.histogram(codes)
        old = rescaled(old, mean(new) / mean(old))
        value = psi_above_chance(*in_quantile_bins(old, new), rows=rows)
        return _Difference(value, f"the shape of the distribution of the rates{_of(name)} changed by {value:.3g} (PSI above chance)")

    config = comparison.config.checks.psi_cr
    return _by_group(comparison, config.by, config.min_rows, differ)


def moved(comparison: Comparison) -> Findings:
    """The share of the rows of both tables whose rate changed by more than a share of the rate before."""
    config, counted = comparison.config.checks.moved, comparison.measures.rates.moved
    if counted.all.rows < config.min_rows:
        return [too_few(ALL, counted.all.rows, config.min_rows, "the part of the result that has a base")]
    share, weight = counted.moved.share_of(counted.all, config.weight)
    note = ", by rows because the tables have no clicks" if weight != config.weight else ""
    far = f"by more than {percent(config.by_more_than)}"
    if comparison.translation is None:
        return [Finding(value=share, words=f"{percent(share)} of the {weight} have a rate that moved {far}{note}", weight=weight)]
    own = comparison.translation.own.moved
    unchanged_share = own.all.share_of(counted.all, config.weight)[0]
    share = max(0.0, share - (1 - unchanged_share) * comparison.translation.spread_share)
    by_model = own.moved.share_of(own.all, config.weight)[0]
    return [
        Finding(
            value=share,
            words=f"{percent(share)} of the {weight} have a rate that moved {far} beyond the new release's difference{note}",
            weight=weight,
            model_value=by_model,
            model_words=f"the new release moves {percent(by_model)} of the {weight} of unchanged rows {far}",
        )
    ]


_Differ = Callable[[Rates, str, list[int]], _Difference]


def _by_group(comparison: Comparison, grouping: Grouping, min_rows: int, differ: _Differ) -> Findings:
    """The findings of all groups that have rows in either result."""
    found: Findings = []
    for name, codes in comparison.groups_by(grouping):
        rates = comparison.measures.rates
        before, now = rates.old.rows(codes), rates.new.rows(codes)
        if min(before, now) >= min_rows:
            found.append(_finding(comparison, differ(rates, name, codes), (name, codes, min_rows), differ))
        elif before or now:
            found.append(too_few(name, min(before, now), min_rows, "the result" if now <= before else comparison.theirs))
    return found


def _finding(comparison: Comparison, found: _Difference, group: tuple[str, list[int], int], differ: _Differ) -> Finding:
    """The finding of a group, with the value that the difference of the releases gives by itself."""
    name, codes, min_rows = group
    own = comparison.translation.own if comparison.translation else None
    if own is None or own.old.rows(codes) < min_rows:
        return Finding(group=name, value=found.value, words=found.words, weight=found.weight)
    by_model = differ(own, name, codes)
    return Finding(
        group=name,
        value=found.value,
        words=f"{found.words} beyond the new release's difference",
        weight=found.weight,
        model_value=by_model.value,
        model_words=f"the new release on unchanged rows: {by_model.words}",
    )


def _of(name: str) -> str:
    return "" if name == ALL else f" of {name}"
