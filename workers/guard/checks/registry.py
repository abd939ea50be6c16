"""The checks by name, and how each takes part in a judgement."""

from collections.abc import Callable
from dataclasses import dataclass

from shared.guard.checks import CheckName
from workers.guard.checks import key_checks, rate_checks, table_checks
from workers.guard.checks.finding import Finding, Skipped
from workers.guard.comparison import Comparison


@dataclass(frozen=True)
class Check:
    """A check: a function of the comparison."""

    find: Callable[[Comparison], list[Finding | Skipped]]
    needs_base: bool = True
    depends_on_release: bool = False
    """True when a new release changes its value."""


CHECKS = {
    CheckName.ROWS: Check(key_checks.rows),
    CheckName.KEYS_LOST: Check(key_checks.keys_lost),
    CheckName.KEYS_NEW: Check(key_checks.keys_new),
    CheckName.KEYS_DOUBLED: Check(key_checks.keys_doubled, needs_base=False),
    CheckName.CLIPPED: Check(key_checks.clipped, needs_base=False),
    CheckName.CONSTANT: Check(rate_checks.constant, needs_base=False),
    CheckName.MEAN_CR: Check(rate_checks.mean_cr, depends_on_release=True),
    CheckName.P99_CR: Check(rate_checks.p99_cr, depends_on_release=True),
    CheckName.MOVED: Check(rate_checks.moved, depends_on_release=True),
    CheckName.PSI_CR: Check(rate_checks.psi_cr, depends_on_release=True),
    CheckName.PSI_FEATURES: Check(table_checks.psi_features),
    CheckName.SAME_TABLE: Check(table_checks.same_table),
}
