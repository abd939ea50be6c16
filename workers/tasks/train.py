"""The tasks of a train job."""

import functools

import celery
import structlog

from model_store.evaluation.gate import Limits
from shared.jobs.folder import JobFolder
from shared.jobs.messages import CandidateMessage, StepMessage
from shared.queue import broker, routes
from workers.recovery.attempts import Attempt
from workers.runtime.memory import give_back_freed_memory
from workers.runtime.work_caches import drop_caches_of_other_work, register_cache
from workers.tasks import context
from workers.tasks.candidates import is_missing, try_or_give_up
from workers.tasks.crashing_releases import record_crashing_release
from workers.tasks.runner import step
from workers.training import releasing
from workers.training.rivals import IsolatedLoading
from workers.training.search import steps

log = structlog.get_logger()

register_cache("search", steps.forget_table)


@step(routes.TRAIN_FIT, StepMessage, activity="training", writes_stage=True)
def train_fit(task: celery.Task, message: StepMessage, folder: JobFolder, _: Attempt) -> None:
    """Searches for the best parameters if requested; then trains, evaluates and publishes a release, and sends the notice."""
    candidates = steps.next_messages(folder, context.library())
    if candidates:
        log.info("trying candidates", candidates=len(candidates))
        broker.send(task.app, routes.TRAIN_CANDIDATE, candidates)
        return
    _train_release(folder)
    broker.send(task.app, routes.NOTIFY, [message])


def _train_release(folder: JobFolder) -> None:
    found = context.settings()
    limits = Limits(margin=found.gate_margin, confidence=found.gate_confidence, calibration_error=found.gate_calibration_error)
    loading = IsolatedLoading(seconds=found.load_seconds, on_crash=lambda release, what: record_crashing_release(release, folder, what))
    drop_caches_of_other_work("fit")
    try:
        releasing.train_release(folder, context.library(), limits, functools.partial(steps.found, folder), loading)
    finally:
        give_back_freed_memory()


@step(routes.TRAIN_CANDIDATE, CandidateMessage, activity="choosing the next candidates of the search", handles_crashes=is_missing)
def train_candidate(task: celery.Task, message: CandidateMessage, folder: JobFolder, attempt: Attempt) -> None:
    """Tries one candidate on one fold; the candidate that completes a round sends the next round, or the fit."""
    try_or_give_up(task, message, folder, attempt)
    if folder.outcome() is not None or steps.missing_messages(folder)[0]:
        steps.write_best_candidate(folder)
        return
    candidates = steps.next_messages(folder, context.library())
    broker.send(task.app, routes.TRAIN_CANDIDATE if candidates else routes.TRAIN_FIT, candidates or [StepMessage(job_id=message.job_id)])
