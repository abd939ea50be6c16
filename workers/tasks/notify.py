"""The task that delivers the notice of a job."""

import celery
import structlog

from shared.jobs.folder import JobFolder
from shared.jobs.messages import StepMessage
from shared.jobs.states import SETTLED_STATES
from shared.queue import routes
from workers.notices import delivery
from workers.recovery.attempts import MAX_CRASHES, Attempt
from workers.recovery.crash_records import remove_crash_records
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
    outcome = folder.outcome()
    if outcome is not None and not folder.is_settled(outcome):
        # after its notice no sweep looks at a job, so its result would never be published
        log.info("notice left until the result is published")
        return
    deliver_outcome(task, folder)
    if attempt.written is not None:
        _remove_records_of_ended_steps(folder)


def _remove_records_of_ended_steps(folder: JobFolder) -> None:
    """Removes the crash record of a finish step that died after it had published: it does not run again."""
    outcome = folder.outcome()
    if outcome is not None and outcome.state in SETTLED_STATES and folder.is_settled(outcome):
        remove_crash_records(folder)
