"""The parts of a verdict that explain it: the worst rows, and the difference between the releases."""

from collections.abc import Sequence

from shared.guard.checks import CheckName
from shared.guard.config import OnNewRelease
from shared.guard.verdict import WORST_ROWS, CheckOutcome, CheckResult, ReleaseDifference, RowProblem, WorstRow
from shared.prediction_index import PredictionIndex
from workers.guard.comparison import Comparison, ReleaseChange
from workers.guard.measures.worst_rows import QuotedRow

_BAD = {CheckOutcome.WARN, CheckOutcome.BLOCK}


def worst_rows(comparison: Comparison, checks: list[CheckResult]) -> list[WorstRow]:
    """The ten rows that cost most. Lost, new and doubled rows are among them only when their check found too many."""
    if not any(check.outcome in _BAD for check in checks) or not comparison.can_be_measured:
        return []
    found = [(row, problem) for problem, rows in _quoted(comparison, checks) for row in rows]
    found.sort(key=lambda pair: (pair[1] != RowProblem.DOUBLED, -pair[0].cost))
    return [_worst_row(comparison, row, problem) for row, problem in found[:WORST_ROWS]]


def _quoted(comparison: Comparison, checks: list[CheckResult]) -> list[tuple[RowProblem, Sequence[QuotedRow]]]:
    measures = comparison.measures
    found: list[tuple[RowProblem, Sequence[QuotedRow]]] = [(RowProblem.MOVED, measures.worst.moved.rows)]
    for name, problem, rows in (
        (CheckName.KEYS_LOST, RowProblem.LOST, measures.worst.lost.rows),
        (CheckName.KEYS_NEW, RowProblem.NEW, measures.worst.appeared.rows),
        (CheckName.KEYS_DOUBLED, RowProblem.DOUBLED, measures.first_doubled),
    ):
        if _is_bad(checks, name):
            found.append((problem, rows))
    return found


def _is_bad(checks: list[CheckResult], name: CheckName) -> bool:
    return any(check.check == name and check.outcome in _BAD for check in checks)


def _worst_row(comparison: Comparison, row: QuotedRow, problem: RowProblem) -> WorstRow:
    result = comparison.known_base if problem == RowProblem.LOST else comparison.new
    key, device = comparison.groups.key_in_words(row.key)
    return WorstRow(
        problem=problem,
        key=key,
        device=device,
        rate_before=row.before,
        rate_now=row.now,
        clicks=row.clicks,
        file=_file(result.index, row.file),
        line=row.line if row.line > 0 else None,
    )


def _file(index: PredictionIndex, position: int) -> str | None:
    return index.files[position] if 0 <= position < len(index.files) else None


def release_difference(comparison: Comparison) -> ReleaseDifference | None:
    """Returns how the difference between the releases was treated; None when the release is that of the base."""
    if comparison.base is None or not comparison.release_changed:
        return None
    unknown = ReleaseChange(own=None, reason="the two results could not be compared")
    change = (comparison.release_change if comparison.can_be_measured else unknown) or unknown
    before, now = comparison.base.manifest.release, comparison.new.manifest.release
    return ReleaseDifference(
        before=before,
        treatment=comparison.config.on_new_release,
        unchanged_rows=change.unchanged_rows,
        factors=_factors(comparison, change),
        is_excused=change.is_excused,
        sentence=f"the release changed from {before} to {now}; {_treatment(comparison, change)}",
    )


def _factors(comparison: Comparison, change: ReleaseChange) -> dict[str, float]:
    if change.own is None:
        return {}
    own = change.own
    found = {}
    for code, name in enumerate(comparison.groups.names):
        if own.old.rows([code]) >= comparison.fewest_unchanged:
            by_clicks = min(own.old.clicks([code]), own.new.clicks([code])) > 0
            before = own.old.mean([code], by_clicks=by_clicks)
            if before:
                found[name] = own.new.mean([code], by_clicks=by_clicks) / before
    return found


_OTHER_TREATMENTS = {
    OnNewRelease.WIDER: "the limits of rates are 3 times as wide",
    OnNewRelease.SAME: "rates are compared as always",
}


def _treatment(comparison: Comparison, change: ReleaseChange) -> str:
    if comparison.config.on_new_release in _OTHER_TREATMENTS:
        return _OTHER_TREATMENTS[comparison.config.on_new_release]
    if change.is_excused:
        return f"its difference on {change.unchanged_rows:,} unchanged rows was taken out before the rates were compared"
    known = f"{change.unchanged_rows:,} rows are unchanged, so " if change.unchanged_rows else ""
    return f"{known}nothing is excused: {change.reason}"
