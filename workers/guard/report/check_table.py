"""The table of all checks with their values and limits, those that hold the result first."""

from model_store.report.html import Markup, element, join
from shared.guard.checks import Unit
from shared.guard.verdict import ALL, CheckOutcome, CheckResult, GuardVerdict
from shared.text.plain import plain
from workers.guard.checks.words import in_unit
from workers.guard.report.noted_table import NotedRow, noted_table

ORDER = (CheckOutcome.BLOCK, CheckOutcome.FAILED, CheckOutcome.WARN, CheckOutcome.OK, CheckOutcome.SKIPPED)
COLUMNS = ("check", "value", "warn", "block", "verdict")
NOTHING = "–"


def check_table(verdict: GuardVerdict) -> Markup:
    """Draws the checks by outcome, then by value as a multiple of the limit; the line below one that is not ok says why."""
    checks = sorted(verdict.checks, key=lambda check: (ORDER.index(check.outcome), -check.excess))
    return noted_table("A value above a limit warns or blocks", COLUMNS, [_row(check) for check in checks])


def _row(check: CheckResult) -> NotedRow:
    name = check.check if check.group == ALL else f"{check.check}, {plain(check.group)}"
    badge = element("span", check.outcome, class_=f"badge {check.outcome}")
    note = "" if check.outcome == CheckOutcome.OK else plain(check.reason or check.sentence)
    return NotedRow(cells=[name, _value(check), _limit(check, check.warn), _limit(check, check.block), badge], note=note)


def _value(check: CheckResult) -> Markup:
    value = NOTHING if check.value is None else in_unit(check.value, check.unit)
    if check.model_value is None or check.model_limit is None:
        return join(value)
    model = f"of the releases: {in_unit(check.model_value, check.unit)}, limit {in_unit(check.model_limit, check.unit)}"
    return join(value, element("small", model))


def _limit(check: CheckResult, limit: float | None) -> str:
    if limit is None:
        return NOTHING
    return "if so" if check.unit == Unit.SWITCH else in_unit(limit, check.unit)
