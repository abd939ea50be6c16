"""Judges whether a result may be published on a channel."""

from collections.abc import Sequence
from datetime import datetime

from shared.guard.checks import CheckConfig, CheckName
from shared.guard.config import ChannelGuard, GuardMode, OnNewRelease
from shared.guard.verdict import BaseResult, CheckOutcome, CheckResult, ConfigVersion, GuardVerdict, Outcome
from workers.guard.checks.limits import WIDER, Limits
from workers.guard.checks.registry import CHECKS, Check
from workers.guard.checks.table_checks import table_since
from workers.guard.comparison import Comparison, IndexAndManifest
from workers.guard.describing import release_difference, worst_rows


def judge(  # noqa: PLR0913 - the parts of a judgement come from different files
    config: ChannelGuard,
    *,
    channel: str,
    new: IndexAndManifest,
    base: IndexAndManifest | None,
    now: datetime,
    version: ConfigVersion | None = None,
    important_columns: Sequence[str] = (),
    off_reason: str | None = None,
) -> GuardVerdict:
    """Judges a new result against the result that its channel has.

    Args:
        config: the guard of the channel.
        channel: name of the channel.
        new: the new result.
        base: the result that the channel has, or None for the first result.
        now: the time of the judgement.
        version: which version of the configuration judges.
        important_columns: the columns of the release, the most important first (``workers.guard.comparison.important_columns``).
        off_reason: why a person switched the guard off for this job; then nothing is checked.
    """
    comparison = Comparison(channel, config, new, base, now, important_columns)
    is_off = config.mode == GuardMode.OFF or off_reason is not None
    checks = [] if is_off else [result for name, check in CHECKS.items() for result in run_check(comparison, name, check)]
    return GuardVerdict(
        channel=channel,
        mode=config.mode,
        config=version or ConfigVersion(),
        on_new_release=config.on_new_release,
        base=_base(base),
        job_id=new.manifest.job_id,
        release=new.manifest.release,
        at=now,
        table_since=table_since(comparison) or now,
        outcome=overall(config.mode, checks),
        checks=checks,
        worst=worst_rows(comparison, checks),
        release_difference=None if is_off else release_difference(comparison),
        off_reason=off_reason,
    )


def run_check(comparison: Comparison, name: CheckName, check: Check) -> list[CheckResult]:
    """The results of one check for all its groups; a check that raises gives one result, ``failed``."""
    config: CheckConfig = getattr(comparison.config.checks, name)
    is_wider = check.depends_on_release and comparison.release_changed and comparison.config.on_new_release == OnNewRelease.WIDER
    limits = Limits.of(name, config, WIDER if is_wider else 1.0)
    if check.needs_base and comparison.base is None:
        return [limits.skipped("all", f"{comparison.channel} has no result to compare with")]
    try:
        return [limits.judge(finding) for finding in check.find(comparison)]
    except Exception as error:  # noqa: BLE001 - a broken check must neither publish silently nor fail the job
        return [limits.failed(error)]


def overall(mode: GuardMode, checks: list[CheckResult]) -> Outcome:
    """The outcome of all checks: a blocked or failed one holds the result in mode ``block``, and warns in mode ``warn``."""
    found = {check.outcome for check in checks}
    if found & {CheckOutcome.BLOCK, CheckOutcome.FAILED}:
        return Outcome.HOLD if mode == GuardMode.BLOCK else Outcome.WARN
    return Outcome.WARN if CheckOutcome.WARN in found else Outcome.PASS


def _base(base: IndexAndManifest | None) -> BaseResult | None:
    if base is None:
        return None
    return BaseResult(revision=base.manifest.revision, job_id=base.manifest.job_id, release=base.manifest.release)
