"""The verdict of the guard about a result, ``guard.json`` beside its manifest."""

from enum import StrEnum

from pydantic import Field

from shared.bucket.interface import Bucket
from shared.errors import MessageError
from shared.guard.checks import CheckName, Unit, Weight
from shared.guard.config import DEFAULTS, GuardConfig, GuardMode, OnNewRelease
from shared.jobs.files import JobFile
from shared.records import BucketPath, Frozen, JobId, Name, Record, ReleaseId, Sha256, Timestamp, decode_long
from shared.text.numbered import numbered

GUARD_RECORD = JobFile.GUARD.value
"""The file of the verdict, beside the manifest of the revision."""
GUARD_REPORT = "guard.html"
"""The picture of a result that is held or published with warnings, beside it."""
WORST_ROWS = 10
"""Rows that a verdict quotes."""
ALL = "all"
"""The group of all rows."""


class CheckOutcome(StrEnum):
    """The outcome of one check."""

    OK = "ok"
    WARN = "warn"
    BLOCK = "block"
    FAILED = "failed"
    """The check itself failed."""
    SKIPPED = "skipped"


class Outcome(StrEnum):
    """What happens to the result."""

    PASS = "pass"  # noqa: S105 - not a password
    WARN = "warn"
    """It is published, and people are notified."""
    HOLD = "hold"


class ConfigVersion(Frozen):
    """The version of the configuration that judged a result."""

    source: str = DEFAULTS
    """Path of the file, or ``defaults`` without one."""
    sha256: Sha256 | None = None

    @classmethod
    def of(cls, config: GuardConfig) -> "ConfigVersion":
        """The version of a configuration."""
        return cls(source=config.source, sha256=config.sha256)


class BaseResult(Frozen):
    """The result that the channel had, with which a new one is compared."""

    revision: BucketPath
    job_id: JobId
    release: ReleaseId


class CheckResult(Frozen):
    """The outcome of a check for a group of rows."""

    check: CheckName
    group: str = ALL
    """A device, a column, or ``all``."""
    unit: Unit
    value: float | None = None
    """None when the check was skipped or failed."""
    warn: float | None = None
    block: float | None = None
    """The limits in ``unit``; a value above the limit exceeds it. None is no limit."""
    outcome: CheckOutcome
    reason: str = ""
    """Why the check was skipped or failed."""
    sentence: str
    """Value and limit in words."""
    weight: Weight | None = None
    """What a row counted; None where the check has no weight."""
    model_value: float | None = None
    """The value that the difference between the two releases gives by itself, on unchanged rows."""
    model_limit: float | None = None

    @property
    def excess(self) -> float:
        """The value as a multiple of the limit that it exceeds; 0 when it exceeds none."""
        limit = self.block if self.outcome == CheckOutcome.BLOCK else self.warn
        return max(_times(self.value, limit), _times(self.model_value, self.model_limit))


def _times(value: float | None, limit: float | None) -> float:
    """A value as a multiple of its limit; 0 when it does not exceed it."""
    if value is None or limit is None or value <= limit:
        return 0.0
    return value / limit if limit else float("inf")


class RowProblem(StrEnum):
    """Why a row is among the worst."""

    MOVED = "moved"
    LOST = "lost"
    NEW = "new"
    DOUBLED = "doubled"


class WorstRow(Frozen):
    """A row whose change costs most: by its clicks and the change of its rate."""

    problem: RowProblem
    key: str
    """The id of the keyword, or the text of the key."""
    device: str
    rate_before: float | None
    """None when the base has no such row."""
    rate_now: float | None
    """None when the row is lost."""
    clicks: float | None
    """None when neither table has clicks."""
    file: str | None
    line: int | None
    """Where the row is in the new table; of a lost row, in the table of the base. None in results of an earlier version."""


class ReleaseDifference(Frozen):
    """The difference between the release of the base and the new one, and how it was treated."""

    before: ReleaseId
    treatment: OnNewRelease
    unchanged_rows: int
    """Rows that both tables have with the same features."""
    factors: dict[str, float] = Field(default_factory=dict)
    """Device -> mean rate of its unchanged rows under the new release, divided by that under the old one."""
    is_excused: bool
    """True when the difference was taken out before the rates were compared."""
    sentence: str


class GuardVerdict(Record):
    """The record of what the guard found."""

    channel: Name
    mode: GuardMode
    config: ConfigVersion
    on_new_release: OnNewRelease
    base: BaseResult | None
    """None for the first result of a channel."""
    job_id: JobId
    release: ReleaseId
    at: Timestamp
    table_since: Timestamp
    """The time of the first of the channel's results in a row on this table."""
    outcome: Outcome
    checks: list[CheckResult] = Field(default_factory=list)
    worst: list[WorstRow] = Field(default_factory=list)
    """The worst rows, the worst first."""
    release_difference: ReleaseDifference | None = None
    """None when the release is that of the base, or there is no base."""
    off_reason: str | None = None
    """Why a person switched the guard off for this job; None when nobody did."""
    compared_with: int = Field(default=0, ge=0)
    """The number of the change of the channel whose result is the base; 0 for the first result of a channel."""
    failures: list[str] = Field(default_factory=list)
    """Why the comparison itself failed: a base or a configuration that cannot be read."""

    @property
    def holds(self) -> bool:
        """True if the result is held."""
        return self.outcome == Outcome.HOLD

    @property
    def facts(self) -> dict[str, str]:
        """Returns what a notice says about a result that is not quite as expected; empty for any other."""
        if self.off_reason:
            return {"guard": f"off: {self.off_reason}"}
        if self.outcome == Outcome.PASS:
            return {}
        difference = self.release_difference
        is_unexcused = difference is not None and difference.treatment == OnNewRelease.EXPECTED and not difference.is_excused
        release = {"new release": difference.sentence} if difference is not None and is_unexcused else {}
        return {"guard": numbered(worst_in_words(self))} | release


def read_verdict(bucket: Bucket, folder: str) -> GuardVerdict | None:
    """Returns the verdict in the folder of a job or a revision; None if there is none, or if it cannot be read."""
    text = bucket.read(f"{folder}/{GUARD_RECORD}")
    try:
        return None if text is None else decode_long(GuardVerdict, text)
    except MessageError:
        return None  # damaged


_SEVERITY = {CheckOutcome.BLOCK: 0, CheckOutcome.FAILED: 1, CheckOutcome.WARN: 2}
"""The outcomes that a notice quotes, the most severe first."""
_HOLDING = {CheckOutcome.BLOCK, CheckOutcome.FAILED}
"""The outcomes that hold a result: what only warns is not a reason for it."""


def worst_checks(verdict: GuardVerdict, count: int = 3) -> list[CheckResult]:
    """The worst results of different checks, the worst first: by outcome, then by value as a multiple of the limit.

    Of a held result these are only the checks that hold it, not those that warn.
    """
    bad = [check for check in verdict.checks if check.outcome in (_HOLDING if verdict.holds else _SEVERITY)]
    first_of_each: dict[CheckName, CheckResult] = {}
    for check in sorted(bad, key=lambda check: (_SEVERITY[check.outcome], -check.excess)):
        first_of_each.setdefault(check.check, check)
    return list(first_of_each.values())[:count]


def worst_in_words(verdict: GuardVerdict, count: int = 3) -> list[str]:
    """The worst numbers of a verdict as sentences for a notice, at most ``count``; empty when everything is within its limits.

    Checks that failed for the same reason make one sentence.
    """
    bad = worst_checks(verdict, len(verdict.checks))
    failed: dict[str, list[CheckResult]] = {}
    for check in bad:
        if check.outcome == CheckOutcome.FAILED:
            failed.setdefault(check.reason, []).append(check)
    sentences = [_sentence(check, failed.get(check.reason, [])) for check in bad]
    return list(dict.fromkeys([*verdict.failures, *sentences]))[:count]


def _sentence(check: CheckResult, same: list[CheckResult]) -> str:
    if check.outcome != CheckOutcome.FAILED or len(same) == 1:
        return check.sentence
    return f"the checks {', '.join(one.check for one in same)} failed: {check.reason}"
