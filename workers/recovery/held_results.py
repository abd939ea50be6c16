"""Looks after held results: reminds people of them, and completes decisions whose command was interrupted."""

from datetime import datetime, timedelta

from shared.bucket.interface import Bucket
from shared.catalog.held import held_jobs, how_to_decide, read_decision, unmark_held
from shared.errors import PermanentError
from shared.guard.config import ChannelGuard, guard_config_or_defaults
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.messages import Notice
from shared.jobs.outbox import announce
from shared.jobs.states import JobState
from shared.text.durations import in_words


def look_after_held(bucket: Bucket, now: datetime) -> None:
    """Reminds people of each held result, and completes decisions about them whose command was interrupted."""
    waiting = held_jobs(bucket)
    if not waiting:
        return
    config = guard_config_or_defaults(bucket)
    for job_id in waiting:
        try:
            folder = JobFolder(bucket, job_id)
            job, outcome, decision = folder.score_job(), folder.outcome(), read_decision(folder)
        except PermanentError:
            continue
        if outcome is None or job.channel is None:
            continue  # the finish step decides once more
        if outcome.state != JobState.HELD or (decision is not None and decision.verdict == "refused"):
            if folder.is_settled(outcome):
                unmark_held(bucket, job_id)
        elif decision is not None:
            _reopen(folder)
        else:
            _remind(bucket, job_id, job.channel, outcome, config.channel(job.channel), now)


def _reopen(folder: JobFolder) -> None:
    try:
        folder.reopen_held()
    except PermanentError:
        unmark_held(folder.bucket, folder.job_id)  # its files were removed: nothing can be published


def _remind(bucket: Bucket, job_id: str, channel: str, outcome: Outcome, guard: ChannelGuard, now: datetime) -> None:
    """Announces once for each ``hold_for`` of the channel that a result is still held."""
    times = (now - outcome.at) // guard.hold_for
    if times >= 1:
        name = f"held-{job_id}-{outcome.at:%Y%m%dt%H%M%S}-{times}"
        announce(bucket, name, _reminder(job_id, channel, outcome.reason, times * guard.hold_for))


def _reminder(job_id: str, channel: str, reason: str, age: timedelta) -> Notice:
    return Notice(
        good=False,
        title=f"still held after {in_words(age)}: the result of job {job_id} for {channel}",
        facts={"job": job_id, "channel": channel, "reason": reason},
        next_step=how_to_decide(job_id, channel),
    )
