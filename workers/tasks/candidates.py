"""Tries a candidate of a search once; a candidate that crashes or takes too long is given up, and the search continues."""

import celery
import structlog

from shared.jobs.folder import JobFolder
from shared.jobs.messages import CandidateMessage
from workers.recovery.attempts import MAX_CRASHES, Attempt
from workers.tasks import context
from workers.training.search import steps

log = structlog.get_logger()


def is_missing(message: CandidateMessage, folder: JobFolder) -> bool:
    """Returns True while the candidate has no record: a crash is then the candidate's, and not that of choosing the next candidates."""
    return message in steps.missing_messages(folder)[0]


def try_or_give_up(task: celery.Task, message: CandidateMessage, folder: JobFolder, attempt: Attempt) -> None:
    """Tries a candidate on a fold, unless it crashed too often."""
    if attempt.crashes >= MAX_CRASHES:
        log.error("candidate killed its worker and is given up", crashes=attempt.crashes)
        steps.give_up(folder, message.candidate, message.fold, f"it killed its worker {attempt.crashes} times")
        return
    try:
        record = steps.score_candidate(folder, message.candidate, message.fold, context.library())
    except celery.exceptions.SoftTimeLimitExceeded:
        # unlike a chunk, a candidate cannot be split, and would take as long again
        steps.give_up(folder, message.candidate, message.fold, f"it took longer than {task.app.conf.task_soft_time_limit} seconds")
        return
    if record is not None:
        log.info("candidate tried", seconds=round(record.seconds, 3), **({"failed": record.failed} if record.failed else {}))
