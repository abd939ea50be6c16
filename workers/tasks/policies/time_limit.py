"""Time limits: what happens when the pool interrupts a step at its time limit."""

from collections.abc import Callable

import structlog
from celery.exceptions import SoftTimeLimitExceeded

from model_store.foreign_code import DefinitionHungError
from workers.tasks.policies import verdicts
from workers.tasks.policies.failure import fail_job
from workers.tasks.step import StepRun

log = structlog.get_logger()


class FailAtTimeLimit:
    """Fails the job, because the step would take as long again. The job may be resumed, so the run does not count as a crash."""

    counts_as_crash = False

    def handle(self, run: StepRun, error: SoftTimeLimitExceeded) -> None:
        """Fails the job; the reason names the line of the definition that hung, if any."""
        hung = error.failure if isinstance(error, DefinitionHungError) else None
        fail_job(run, hung or verdicts.took_too_long(run.describe(), run.folder, run.task.app.conf.task_soft_time_limit))


class CountTimeLimit:
    """Counts the run as a crash and leaves the step to the sweep, which sends it again until its work handles the crashes."""

    counts_as_crash = True

    def __init__(self, what: str, seconds: Callable[[], float]) -> None:
        self._what, self._seconds = what, seconds

    def handle(self, run: StepRun, error: SoftTimeLimitExceeded) -> None:
        """Logs the error."""
        del run
        log.error(f"{self._what} took too long", seconds=self._seconds(), error=str(error))
