"""Failure: which error drops a message and which one ends its job, and how a job ends as failed."""

import structlog
from celery.exceptions import SoftTimeLimitExceeded

from shared.catalog.channels import revisions_in_use
from shared.errors import PermanentError, ScoringError, StaleMessageError
from shared.jobs.files import JobFile
from shared.jobs.messages import StepMessage
from shared.logs import log_place
from shared.queue import broker, routes
from workers.recovery.attempts import forget_job
from workers.tasks import context
from workers.tasks.policies import verdicts
from workers.tasks.step import StepRun

log = structlog.get_logger()


class JobFailedHereError(Exception):
    """Raised at the end of a task that failed its job, so that the dashboard shows the task as failed; its message is consumed."""


def end_step(run: StepRun, error: BaseException) -> None:
    """Drops the message or fails its job, for an error that would occur again."""
    if isinstance(error, SoftTimeLimitExceeded):
        run.step.time_limit.handle(run, error)
    elif isinstance(error, StaleMessageError):
        log.error("message refused", task=run.name, error=str(error))
    elif isinstance(error, PermanentError):
        fail_job(run, error)
    elif isinstance(error, MemoryError):
        log.error("out of memory", exc_info=error)
        fail_job(run, verdicts.out_of_memory(run.describe(), run.folder))
    elif isinstance(error, Exception):
        # a defect of the product or of a definition: the job ends with a notice instead of stalling
        log.error("unexpected error", exc_info=error)
        fail_job(run, PermanentError(f"unexpected error in {run.name}, see {log_place(context.settings())}: {error!r}"))
    else:
        # SystemExit from a definition would end this process, and with the same message the next one
        log.error("step tried to exit its process", exc_info=error)
        fail_job(run, verdicts.left_the_process(run.describe(), error))


def fail_job(run: StepRun, error: ScoringError) -> None:
    """Ends the job as failed and sends its notice; if the folder cannot be written, the sweep repeats the step.

    Raises:
        JobFailedHereError: always, unless the task was called as a function.
    """
    folder = run.folder
    try:
        if not folder.has(JobFile.REQUEST):
            log.error("message refused: its job was never requested", task=run.name, error=str(error))
            return
        log.error("job failed", task=run.name, error=str(error))
        folder.fail(error)
        if isinstance(error, PermanentError):
            folder.fail_unpublished(error, is_in_use=lambda revision: revision in revisions_in_use(folder.bucket))
            forget_job(context.redis_client(), folder)
        if run.step.notifies:
            broker.send(run.task.app, routes.NOTIFY, [StepMessage(job_id=folder.job_id)])
    except ScoringError as problem:
        log.error("the failure could not be written down", error=str(problem))
    if not run.task.request.called_directly:
        raise JobFailedHereError(error.message)
