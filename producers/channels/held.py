"""Lists the held results with what the guard found."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.bucket.interface import Bucket
from shared.catalog.held import held_jobs, read_decision
from shared.errors import PermanentError
from shared.guard.config import GuardConfig, guard_config_or_defaults
from shared.jobs.folder import JobFolder
from shared.jobs.states import JobState


@dataclass(frozen=True, kw_only=True)
class HeldResult:
    """A result that waits for a person."""

    job_id: str
    channel: str
    table: str
    since: datetime
    reason: str
    is_overdue: bool
    """True if it waits for longer than ``hold_for`` of its channel."""


def list_held(bucket: Bucket) -> Iterator[HeldResult]:
    """Yields the results that nobody has decided about, the oldest first."""
    waiting = held_jobs(bucket)
    config = guard_config_or_defaults(bucket) if waiting else GuardConfig()
    for job_id in waiting:
        try:
            folder = JobFolder(bucket, job_id)
            job, outcome = folder.score_job(), folder.outcome()
        except PermanentError:
            continue  # doctor names jobs that cannot be read
        if job.channel is None or outcome is None or outcome.state != JobState.HELD:
            continue
        decision = read_decision(folder)
        if decision is not None and decision.verdict == "refused":
            continue
        is_overdue = datetime.now(UTC) - outcome.at > config.channel(job.channel).hold_for
        yield HeldResult(
            job_id=job_id, channel=job.channel, table=job.table, since=outcome.at, reason=outcome.reason, is_overdue=is_overdue
        )
