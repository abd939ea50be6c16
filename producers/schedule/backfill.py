"""Backfills: runs of the schedule for past days, a few at a time, and only while no other job of their kind is open.

Redis serves a queue in the order of its messages, so a new job waits for all that were requested before. A backfill therefore keeps a few
jobs open at a time and pauses while today's jobs are open. It is resumable: the same command continues, and skips finished runs.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from producers.schedule.run_states import RunPhase, state_of
from producers.schedule.runs import Run
from producers.schedule.scheduler import ask_for
from shared.bucket.interface import Bucket
from shared.errors import PermanentError
from shared.jobs.folder import JobFolder, open_jobs
from shared.jobs.states import JobState
from shared.settings import Settings

PAUSE_SECONDS = 1.0
"""The interval of checks for the end of jobs."""


def backfill(
    settings: Settings, bucket: Bucket, runs: Sequence[Run], *, at_once: int, again: bool, say: Callable[[str], None]
) -> Iterator[tuple[Run, JobState | RunPhase, str]]:
    """Requests the job of each run, the oldest first, and yields each with its state and job, or the reason why it has none.

    ``say`` is called when the backfill pauses. Runs that are done are yielded as they are, unless they are to run ``again``.
    """
    own: dict[str, Run] = {}
    others = _Others(bucket)
    for run in runs:
        if not again and (found := state_of(bucket, run)).state == JobState.DONE:
            yield run, RunPhase.DONE_BEFORE, found.job_id
            continue
        has_said = False
        while len(own) >= at_once or (waits_for := others.newest(run.entry.kind, own)) is not None:
            if len(own) < at_once and not has_said:
                say(f"waits for job {waits_for}")
                has_said = True
            yield from _ended(bucket, own)
            time.sleep(PAUSE_SECONDS)
        try:
            asked = ask_for(settings, bucket, run, again=again)
        except PermanentError as error:
            yield run, RunPhase.PENDING, str(error)
            continue
        say(f"{run.key}: job {asked.job_id}")
        own[asked.job_id] = run
    while own:
        yield from _ended(bucket, own)
        time.sleep(PAUSE_SECONDS if own else 0)


def _ended(bucket: Bucket, own: dict[str, Run]) -> Iterator[tuple[Run, JobState | RunPhase, str]]:
    """Yields and removes our own jobs that have ended."""
    for job_id in list(own):
        outcome = JobFolder(bucket, job_id).outcome()
        if outcome is not None:
            yield own.pop(job_id), outcome.state, job_id


class _Others:
    """Open jobs of other processes."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._kinds: dict[str, str] = {}

    def newest(self, kind: str, own: dict[str, Run]) -> str | None:
        """The newest open job of this kind; None when there is none."""
        for job_id in reversed(open_jobs(self._bucket)):
            if job_id not in own and self._kind(job_id) == kind and JobFolder(self._bucket, job_id).outcome() is None:
                return job_id
        return None

    def _kind(self, job_id: str) -> str:
        if job_id not in self._kinds:
            try:
                self._kinds[job_id] = JobFolder(self._bucket, job_id).job().kind
            except PermanentError:
                return ""  # not written yet, or damaged
        return self._kinds[job_id]
