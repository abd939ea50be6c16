"""The Celery tasks: each decodes its message, calls one function that knows no Celery, and says what comes next.

What happens to errors and deaths is said here once. A message that does not decode, or does not fit its job, is logged and dropped. A
transient error is tried again after seconds. A permanent one, and a transient one that lasts, ends the job, and people get a notice. A
step that kills its process, or never ends, is counted (``attempts``); after three deaths the job fails, but for rows and candidates.
"""

import contextlib
import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import celery
import redis
import structlog
from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # new in billiard 4.3, after its type stubs
from celery import shared_task

from model_store.foreign_code import DefinitionHungError
from shared.errors import MessageError, PermanentError, ScoringError, StrayOrderError, TransientError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import CandidateOrder, ChunkOrder, JobOrder
from shared.logs import log_place
from shared.queue import routes
from shared.queue.broker import send
from shared.queue.killers import Killer, note_killer
from shared.queue.leases import leased
from workers.recovery import sweep as recovery_sweep
from workers.recovery import verdicts
from workers.recovery.attempts import MAX_DEATHS, Attempt, counted, forget_job, step_name
from workers.scoring import joining
from workers.tasks import context

log = structlog.get_logger()

MAX_TRIES = 8
LONGEST_PAUSE_SECONDS = 10


Work = Callable[[celery.Task, Any, JobFolder, Attempt], None]


class _Step(celery.Task):
    """A task whose lost processes are noticed at once."""

    Request = "workers.recovery.lost_processes:Request"


class JobFailedHereError(Exception):
    """Raised at the end of a task that ended its job as failed, so that the dashboard shows it as failed; its message is done with."""


def step(name: str, kind: type[JobOrder], tries: int = MAX_TRIES) -> Callable[[Work], Any]:
    """Register a step of a job as the task ``name`` with messages of this kind."""

    def register(work: Work) -> Any:  # noqa: ANN401 - Celery's own proxy of a task
        @shared_task(name=name, bind=True, max_retries=tries - 1, base=_Step, throws=(JobFailedHereError,))
        @functools.wraps(work)
        def run(self: celery.Task, message: object = None, *_: object, **__: object) -> None:
            try:
                order = kind.decode(message)
            except MessageError as error:
                log.error("message refused", task=name, error=str(error))
                return
            with structlog.contextvars.bound_contextvars(job=order.job_id, **_piece_of(order)):
                _run(self, work, order)

        return run

    return register


def _run(task: celery.Task, work: Work, order: JobOrder) -> None:
    folder = JobFolder(context.bucket(), order.job_id)
    try:
        _run_leased(task, work, order, folder)
    except celery.exceptions.Retry:
        raise  # the step asked for it
    except (TransientError, OSError) as error:
        _again(task, folder, error)
    except BaseException as error:
        if terminate_handler_fired():
            raise  # the worker stops: its message is given back
        _settle(task, order, folder, error)


def _run_leased(task: celery.Task, work: Work, order: JobOrder, folder: JobFolder) -> None:
    while True:
        with leased(context.redis_client(), recovery_sweep.lease_name(str(task.name), order)) as is_ours:
            if not is_ours:
                # another process is at it, and if it dies the sweep sends the step again
                log.info("left to another process", task=task.name)
                return
            _work_counted(task, work, order, folder)
        if task.name != routes.SCORE_FINISH or not joining.can_finish(folder):
            return
        # the last part came after we had looked, and whoever wrote it found the step taken


def _settle(task: celery.Task, order: JobOrder, folder: JobFolder, error: BaseException) -> None:
    """Drop a step or fail its job, for an error that another try would give again."""
    if isinstance(error, StrayOrderError):
        log.error("message refused", task=task.name, error=str(error))
    elif isinstance(error, PermanentError):
        _fail(task, folder, error)
    elif isinstance(error, celery.exceptions.SoftTimeLimitExceeded):
        if not isinstance(order, ChunkOrder):
            hung = error.failure if isinstance(error, DefinitionHungError) else None
            _fail(task, folder, hung or verdicts.took_too_long(task.name, folder, task.app.conf.task_soft_time_limit))
            return
        # it counts as a death: the sweep sends the chunk again, until it is tried in pieces or the job fails
        log.error("chunk took too long", seconds=context.settings().chunk_seconds, error=str(error))
    elif isinstance(error, MemoryError):
        log.error("out of memory", exc_info=error)
        _fail(task, folder, verdicts.out_of_memory(task.name, folder))
    elif isinstance(error, Exception):
        # a defect of ours or of a definition: people must hear of it, and a job must never stand still for it
        log.error("unexpected error", exc_info=error)
        _fail(task, folder, PermanentError(f"unexpected error in {task.name}, see {log_place(context.settings())}: {error!r}"))
    else:
        # SystemExit of a definition would end this process, and with its message the next one
        log.error("a step was to end its process", exc_info=error)
        _fail(task, folder, verdicts.left_the_process(task.name, folder, error))


def _work_counted(task: celery.Task, work: Work, order: JobOrder, folder: JobFolder) -> None:
    """Do the work of a step, unless it killed its process too often; a chunk, a candidate and a notice know what to do then."""
    knows_what_to_do = isinstance(order, ChunkOrder | CandidateOrder) or task.name == routes.NOTIFY
    with counted(context.redis_client(), folder, step_name(task.name, order)) as attempt:
        if attempt.deaths >= MAX_DEATHS and not knows_what_to_do:
            raise verdicts.killed_step(task.name, attempt)
        try:
            work(task, order, folder, attempt)
        except celery.exceptions.SoftTimeLimitExceeded:
            if not isinstance(order, ChunkOrder):
                attempt.forget()  # the job fails, and may be resumed
            raise


def _again(task: celery.Task, folder: JobFolder, error: Exception) -> None:
    tried = task.request.retries
    if task.max_retries is None or tried >= task.max_retries:
        _fail(task, folder, error if isinstance(error, ScoringError) else TransientError(f"{task.name}: {error}"))
        return
    pause = min(2**tried, LONGEST_PAUSE_SECONDS)
    log.warning("will try again", task=task.name, seconds=pause, error=str(error))
    raise task.retry(countdown=pause, exc=error)


def _fail(task: celery.Task, folder: JobFolder, error: ScoringError) -> None:
    """End the job as failed and see that people are told; where even that cannot be written, the sweep comes back to it."""
    try:
        if not folder.has("job.json"):
            log.error("message refused: nobody wrote this job down", task=task.name, error=str(error))
            return
        log.error("job failed", task=task.name, error=str(error))
        folder.fail(error)
        if isinstance(error, PermanentError):
            folder.fail_unpublished(error)
            forget_job(context.redis_client(), folder)
        if task.name != routes.NOTIFY:  # one that fails for good would send itself for ever
            send(task.app, routes.NOTIFY, [JobOrder(job_id=folder.job_id)])
    except ScoringError as problem:
        log.error("the failure could not be written down", error=str(problem))
    if not task.request.called_directly:
        raise JobFailedHereError(error.message)


def _piece_of(order: JobOrder) -> dict[str, int]:
    if isinstance(order, CandidateOrder):
        return {"candidate": order.candidate, "fold": order.fold}
    return {"chunk": order.index} if isinstance(order, ChunkOrder) else {}


def remember_killer(release: str, folder: JobFolder, what: str) -> None:
    """Remember for ``scoring doctor`` that a release killed its loader."""
    killer = Killer(release=release, at=datetime.now(UTC), job_id=folder.job_id, what=what[:500])
    with contextlib.suppress(redis.RedisError):
        note_killer(context.redis_client(), killer)
