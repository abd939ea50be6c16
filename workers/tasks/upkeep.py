"""The tasks that belong to no job: notices, the sweep, retention, and the probe."""

import contextlib

import celery
import redis
import structlog
from celery import shared_task

from shared.errors import MessageError, TransientError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import StepMessage
from shared.queue import routes
from shared.queue.probe import Probe, answer
from shared.queue.upkeep import Upkeep
from workers.notices import delivery
from workers.recovery import retention
from workers.recovery.attempts import MAX_CRASHES, Attempt
from workers.runtime.expiry import UpkeepTask
from workers.tasks import context
from workers.tasks.delivering import deliver_outcome, deliver_probe
from workers.tasks.policies.upkeep import run_upkeep
from workers.tasks.probe_answer import describe_worker
from workers.tasks.runner import step
from workers.tasks.sweeping import sweep_once

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


@shared_task(name=routes.SWEEP, bind=True, base=UpkeepTask)
def sweep(self: celery.Task) -> None:
    """Sends lost messages again; runs in one process at a time."""
    run_upkeep(
        routes.SWEEP,
        lambda upkeep: sweep_once(self.app, upkeep),
        missed="sweep not finished, the next one is due soon",
        missed_on=(TransientError, redis.RedisError),
    )


@shared_task(name=routes.GC, base=UpkeepTask)
def gc(*_: object, **__: object) -> None:
    """Runs the next step of the daily retention round; runs in one process at a time."""
    run_upkeep(routes.GC, _remove_old, missed="step of removal not made, the next one is due soon", may_run=_serves_stack)


def _remove_old(upkeep: Upkeep) -> None:
    retention.make_step(context.bucket(), upkeep.now, upkeep.may_enter)


def _serves_stack() -> bool:
    """Returns False if another stack handles retention, based on its knowledge of its own jobs."""
    return context.cluster().claim().is_ours


@shared_task(name=routes.PROBE, bind=True, base=UpkeepTask)
def answer_probe(self: celery.Task, message: object = None, queue: object = None, *_: object, **__: object) -> None:
    """Answers the probe of a queue, which shows that this worker serves it."""
    try:
        asked = Probe.decode(message)
    except MessageError as error:
        log.error("message refused", task=routes.PROBE, error=str(error))
        return
    if queue not in routes.QUEUES:
        log.error("message refused", task=routes.PROBE, error=f"{queue!r} is not a queue")
        return
    webhook = deliver_probe(self, asked) if asked.tell_people else None
    given = describe_worker(asked, str(queue), webhook)
    with contextlib.suppress(redis.RedisError):
        answer(context.redis_client(), asked, str(queue), given)
