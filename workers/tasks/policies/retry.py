"""Retries: a step with a transient error is sent again after a pause that doubles, and fails its job after its last try."""

import structlog

from shared.errors import ScoringError, TransientError
from workers.tasks.policies.failure import fail_job
from workers.tasks.step import StepRun

log = structlog.get_logger()

MAX_TRIES = 8
LONGEST_PAUSE_SECONDS = 10


def retry(run: StepRun, error: Exception) -> None:
    """Sends the message again with a pause, or fails the job after the last try.

    Raises:
        celery.exceptions.Retry: the message was sent.
    """
    tried = run.task.request.retries
    if run.task.max_retries is None or tried >= run.task.max_retries:
        fail_job(run, error if isinstance(error, ScoringError) else TransientError(f"{run.name}: {error}"))
        return
    pause = min(2**tried, LONGEST_PAUSE_SECONDS)
    log.warning("will try again", task=run.name, seconds=pause, error=str(error))
    raise run.task.retry(countdown=pause, exc=error)
