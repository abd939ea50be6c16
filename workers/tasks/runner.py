"""Registers the steps of jobs as Celery tasks, and runs each message through the policies of its step.

A message that does not decode, or does not fit its job, is logged and dropped. A transient error is retried after seconds. A permanent
error, and a transient one that persists, ends the job with a notice. A step that kills its process or exceeds its time limit is counted;
after three crashes its job fails, unless the step handles its crashes. The differences between steps are in their registration, not here.
"""

import functools
from collections.abc import Callable
from typing import Any

import celery
import structlog
from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # new in billiard 4.3, after its type stubs
from celery import shared_task

from shared.errors import MessageError, TransientError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import StepMessage
from workers.tasks import context
from workers.tasks.policies.crashes import run_counted
from workers.tasks.policies.failure import JobFailedHereError, end_step
from workers.tasks.policies.lease import run_leased
from workers.tasks.policies.retry import MAX_TRIES, retry
from workers.tasks.policies.time_limit import FailAtTimeLimit
from workers.tasks.step import Step, StepRun, TimeLimit, Work

log = structlog.get_logger()


class _StepTask(celery.Task):
    """A task whose lost processes are detected at once."""

    Request = "workers.recovery.crash_detection:Request"


def step(  # noqa: PLR0913 - each option is a difference from the ordinary step
    name: str,
    kind: type[StepMessage],
    *,
    activity: str = "a step of the job",
    writes_stage: bool = False,
    handles_crashes: Callable[[Any, JobFolder], bool] = lambda *_: False,
    repeat_while: Callable[[JobFolder], bool] = lambda _: False,
    time_limit: TimeLimit = FailAtTimeLimit(),  # noqa: B008 - it has no state
    notifies: bool = True,
) -> Callable[[Work], Any]:
    """Registers a step of a job as the task ``name`` with messages of this kind; ``Step`` describes the options."""

    def register(work: Work) -> Any:  # noqa: ANN401 - Celery's own proxy of a task
        registered = Step(
            work=work,
            activity=activity,
            writes_stage=writes_stage,
            handles_crashes=handles_crashes,
            repeat_while=repeat_while,
            time_limit=time_limit,
            notifies=notifies,
        )

        @shared_task(name=name, bind=True, max_retries=MAX_TRIES - 1, base=_StepTask, throws=(JobFailedHereError,))
        @functools.wraps(work)
        def run(self: celery.Task, encoded: object = None, *_: object, **__: object) -> None:
            try:
                message = kind.decode(encoded)
            except MessageError as error:
                log.error("message refused", task=name, error=str(error))
                return
            with structlog.contextvars.bound_contextvars(job=message.job_id, **message.piece):
                run_step(StepRun(step=registered, task=self, message=message, folder=JobFolder(context.bucket(), message.job_id)))

        return run

    return register


def run_step(run: StepRun) -> None:
    """Runs a step under its lease, counts it, and decides how it ends."""
    try:
        run_leased(run, run_counted)
    except celery.exceptions.Retry:
        raise  # raised by the step itself
    except (TransientError, OSError) as error:
        retry(run, error)
    except BaseException as error:
        if terminate_handler_fired():
            raise  # the worker is stopping: its message is returned to the queue
        end_step(run, error)
