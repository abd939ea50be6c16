"""Holds the findings of a check against its limits."""

import math
from dataclasses import dataclass

from shared.guard.checks import CheckConfig, CheckName, Unit
from shared.guard.verdict import CheckOutcome, CheckResult
from workers.guard.checks.finding import Finding, Skipped
from workers.guard.checks.words import in_unit

WIDER = 3.0
"""The factor of limits for the difference between two releases."""


@dataclass(frozen=True)
class Limits:
    """The limits of a check."""

    check: CheckName
    unit: Unit
    warn: float | None
    block: float | None

    @classmethod
    def of(cls, name: CheckName, config: CheckConfig, factor: float = 1.0) -> "Limits":
        """The configured limits, times a factor."""
        warn, block = (None if limit is None else limit * factor for limit in config.limits())
        return cls(name, config.unit, warn, block)

    def judge(self, finding: Finding | Skipped) -> CheckResult:
        """The result of a finding."""
        if isinstance(finding, Skipped):
            return self.skipped(finding.group, finding.reason)
        if not math.isfinite(finding.value):
            return self.failed(ValueError(f"its value is not a number: {finding.words}"))
        outcome, model_limit = self._outcome(finding.value), None if self.block is None else self.block * WIDER
        is_model = _exceeds(finding.model_value, model_limit)
        return CheckResult(
            check=self.check,
            group=finding.group,
            unit=self.unit,
            value=finding.value,
            warn=self.warn,
            block=self.block,
            outcome=CheckOutcome.BLOCK if is_model else outcome,
            sentence=self._model_sentence(finding) if is_model else self._sentence(finding, outcome),
            weight=finding.weight,
            model_value=finding.model_value,
            model_limit=None if finding.model_value is None else model_limit,
        )

    def skipped(self, group: str, reason: str) -> CheckResult:
        """The result of a check that is not made."""
        return self._without_value(group, CheckOutcome.SKIPPED, reason, f"{self.check} was skipped: {reason}")

    def failed(self, error: Exception) -> CheckResult:
        """The result of a check that raises."""
        reason = f"{type(error).__name__}: {error}"[:500]
        return self._without_value("all", CheckOutcome.FAILED, reason, f"the check {self.check} failed: {reason}")

    def _without_value(self, group: str, outcome: CheckOutcome, reason: str, sentence: str) -> CheckResult:
        return CheckResult(
            check=self.check,
            group=group,
            unit=self.unit,
            warn=self.warn,
            block=self.block,
            outcome=outcome,
            reason=reason,
            sentence=sentence,
        )

    def _outcome(self, value: float) -> CheckOutcome:
        if _exceeds(value, self.block):
            return CheckOutcome.BLOCK
        return CheckOutcome.WARN if _exceeds(value, self.warn) else CheckOutcome.OK

    def _sentence(self, finding: Finding, outcome: CheckOutcome) -> str:
        """The finding with the limit that it exceeds, or with the lowest one."""
        limit = self.block if outcome == CheckOutcome.BLOCK or self.warn is None else self.warn
        if limit is None or self.unit == Unit.SWITCH:
            return finding.words
        return f"{finding.words}; the limit is {in_unit(limit, self.unit)}"

    def _model_sentence(self, finding: Finding) -> str:
        limit = in_unit((self.block or 0.0) * WIDER, self.unit)
        return f"{finding.model_words}; the limit is {limit}, {WIDER:.0f} times that of a table"


_TOLERANCE = 1e-9
"""So that a value that is its limit does not exceed it by rounding."""


def _exceeds(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit * (1 + _TOLERANCE) + _TOLERANCE
