"""The task that delivers the notice of a job."""

import celery
import structlog

from shared.jobs.folder import JobFolder
from shared.jobs.messages import StepMessage
from shared.queue import routes
from workers.notices import delivery
from workers.recovery.attempts import MAX_CRASHES, Attempt
from workers.tasks.delivering import deliver_outcome
from workers.tasks.runner import step

log = structlog.get_logger()


# no notice for a notice that fails permanently, which would be sent forever
@step(routes.NOTIFY, StepMessage, handles_crashes=lambda *_: True, notifies=False)
def notify(task: celery.Task, message: StepMessage, folder: JobFolder, attempt: Attempt) -> None:
    """Delivers the notice of a job that has ended, unless that killed its process too often."""
    del message
    if attempt.crashes >= MAX_CRASHES:
        log.error("notice killed its worker and is given up", crashes=attempt.crashes)
        delivery.give_up_delivery(folder)
        return
    deliver_outcome(task, folder)
