"""Reminds people of results that nobody has decided about."""

from datetime import datetime, timedelta

from shared.bucket.interface import Bucket
from shared.catalog.held import held_jobs, read_decision
from shared.errors import PermanentError
from shared.guard.config import ChannelGuard, read_guard_config
from shared.jobs.folder import JobFolder
from shared.jobs.messages import Notice
from shared.jobs.outbox import announce
from shared.jobs.states import JobState
from shared.text.durations import in_words


def remind_of_held(bucket: Bucket, now: datetime) -> None:
    """Announces once for each ``hold_for`` of its channel that a result is still held."""
    waiting = held_jobs(bucket)
    if not waiting:
        return
    try:
        config = read_guard_config(bucket)
    except PermanentError:
        config = None  # doctor names the problem; the defaults apply meanwhile
    for job_id in waiting:
        try:
            folder = JobFolder(bucket, job_id)
            job, outcome = folder.score_job(), folder.outcome()
        except PermanentError:
            continue
        if job.channel is None or outcome is None or outcome.state != JobState.HELD or read_decision(folder) is not None:
            continue
        guard = ChannelGuard() if config is None else config.channel(job.channel)
        times = (now - outcome.at) // guard.hold_for
        if times >= 1:
            announce(bucket, f"held-{job_id}-{times}", _reminder(job_id, job.channel, outcome.reason, times * guard.hold_for))


def _reminder(job_id: str, channel: str, reason: str, age: timedelta) -> Notice:
    return Notice(
        good=False,
        title=f"still held after {in_words(age)}: the result of job {job_id} for {channel}",
        facts={"job": job_id, "channel": channel, "reason": reason},
        next_step=f"Publish it with: scoring results approve {job_id} --reason TEXT\n"
        f"Or keep what {channel} shows with: scoring results refuse {job_id} --reason TEXT",
    )
