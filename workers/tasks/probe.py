"""The task that answers the probe of a queue."""

import contextlib

import celery
import redis
import structlog
from celery import shared_task

from shared.errors import MessageError
from shared.queue import routes
from shared.queue.probe import Probe, write_answer
from workers.runtime.expiry import MaintenanceTask
from workers.tasks import context
from workers.tasks.delivering import deliver_probe
from workers.tasks.probe_answer import describe_worker

log = structlog.get_logger()


@shared_task(name=routes.PROBE, bind=True, base=MaintenanceTask)
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
        write_answer(context.redis_client(), asked, str(queue), given)
