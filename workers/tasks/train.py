"""The tasks of a train job."""

import functools

import celery
import structlog

from model_store.evaluation.gate import Limits
from shared.jobs.folder import JobFolder
from shared.jobs.messages import CandidateOrder, JobOrder
from shared.queue import routes
from shared.queue.broker import send
from workers.recovery import verdicts
from workers.recovery.attempts import MAX_DEATHS, Attempt
from workers.runtime.memory import give_back_freed_memory
from workers.tasks import context
from workers.tasks.runner import remember_killer, step
from workers.training import releasing
from workers.training.rivals import IsolatedLoading
from workers.training.search import steps

log = structlog.get_logger()


@step(routes.TRAIN_FIT, JobOrder)
def train_fit(task: celery.Task, order: JobOrder, folder: JobFolder, _: Attempt) -> None:
    """Search for the best parameters, if that is asked for; then train, evaluate and publish a release; then the notice."""
    candidates = steps.next_orders(folder, context.library())
    if candidates:
        log.info("trying candidates", candidates=len(candidates))
        send(task.app, routes.TRAIN_CANDIDATE, candidates)
        return
    steps.forget_table()
    try:
        loading = IsolatedLoading(
            seconds=context.settings().load_seconds, on_killer=lambda release, what: remember_killer(release, folder, what)
        )
        releasing.train_release(folder, context.library(), _gate_limits(), functools.partial(steps.found, folder), loading)
    finally:
        give_back_freed_memory()
    send(task.app, routes.NOTIFY, [order])


def _gate_limits() -> Limits:
    found = context.settings()
    return Limits(margin=found.gate_margin, confidence=found.gate_confidence, calibration_error=found.gate_calibration_error)


@step(routes.TRAIN_CANDIDATE, CandidateOrder)
def train_candidate(task: celery.Task, order: CandidateOrder, folder: JobFolder, attempt: Attempt) -> None:
    """Try one candidate on one fold; whoever completes a wave sends the next one, or the fit."""
    if attempt.deaths < MAX_DEATHS:
        _try_candidate(task, order, folder)
    elif order in steps.missing_orders(folder)[0]:
        log.error("candidate killed its worker and is given up", deaths=attempt.deaths)
        steps.give_up(folder, order.candidate, order.fold, f"it killed its worker {attempt.deaths} times")
    else:
        raise verdicts.killed_step(task.name, attempt)
    if folder.outcome() is not None or steps.missing_orders(folder)[0]:
        steps.say_standing(folder)
        return
    candidates = steps.next_orders(folder, context.library())
    send(task.app, routes.TRAIN_CANDIDATE if candidates else routes.TRAIN_FIT, candidates or [JobOrder(job_id=order.job_id)])


def _try_candidate(task: celery.Task, order: CandidateOrder, folder: JobFolder) -> None:
    try:
        record = steps.score_candidate(folder, order.candidate, order.fold, context.library())
    except celery.exceptions.SoftTimeLimitExceeded:
        # unlike a chunk it cannot be cut, and would take as long again
        steps.give_up(folder, order.candidate, order.fold, f"it took longer than {task.app.conf.task_soft_time_limit} seconds")
        return
    if record is not None:
        log.info("candidate tried", seconds=round(record.seconds, 3), **({"failed": record.failed} if record.failed else {}))
