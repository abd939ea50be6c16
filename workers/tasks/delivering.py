"""Delivers notices one at a time across all processes, so that a hanging webhook does not hold up plans and finishes."""

import contextlib
from datetime import UTC, datetime

import celery
import redis
import structlog

from shared.errors import PermanentError
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.messages import Notice
from shared.jobs.outbox import undelivered
from shared.queue import routes
from shared.queue.probe import LONGEST_REASON, Probe
from shared.queue.state import counters
from workers.notices import delivery
from workers.notices.delivery_state import MemoryDeliveryStore
from workers.notices.identified_notice import IdentifiedNotice
from workers.notices.resting import NoticeError
from workers.tasks import context

log = structlog.get_logger()

TURNS, TURN_SECONDS = 20, 0.5
"""How often a notice waits for its turn at the webhook, and how many seconds each time."""
TEST_NOTICE_TURNS = 8
"""The same for the message of ``scoring doctor --send``, which waits 10 seconds for an answer; a try may take 5 of them."""
TEST_NOTICE = Notice(good=True, title="Notices arrive: this one was asked for with scoring doctor --send", facts={})


def deliver_outcome(task: celery.Task, folder: JobFolder) -> None:
    """Delivers the notice of a job that has ended, or leaves it to the sweep if the webhook rests.

    Raises:
        celery.exceptions.Retry: another process uses the webhook, and the message was sent again.
    """
    with delivery.take_turn(context.redis_client(), context.notifier()) as turn:
        if not turn.is_free and task.request.retries < TURNS:
            raise task.retry(countdown=TURN_SECONDS, max_retries=TURNS)
        if not turn.may_deliver:
            # no countdown of minutes on Redis: the notice stays in the folder, and the sweep delivers it
            log.info("notice left to the sweep")
            return
        try:
            outcome = delivery.deliver_job_notice(folder, turn.notifier)
            if outcome is not None:
                _count_end(folder, outcome)
        except NoticeError as error:
            log.warning("will try again", task=task.name, seconds=error.rest_seconds, error=str(error))


def _count_end(folder: JobFolder, outcome: Outcome) -> None:
    with contextlib.suppress(redis.RedisError, PermanentError):
        counters.count_end(context.redis_client(), folder.job().kind, outcome.state)


def deliver_announced(client: redis.Redis, now: datetime) -> None:
    """Delivers the notices that belong to no job, or leaves them to the next sweep if the webhook rests or another process uses it."""
    waiting = undelivered(context.bucket())
    if not waiting:
        return
    with delivery.take_turn(client, context.notifier()) as turn:
        for folder in waiting:
            if not turn.may_deliver:
                return
            try:
                delivery.deliver_outbox_notice(folder, turn.notifier, now)
            except NoticeError as error:
                log.warning("will try again", task=routes.SWEEP, seconds=error.rest_seconds, error=str(error))


def deliver_probe(task: celery.Task, asked: Probe) -> str:
    """Delivers the message of ``scoring doctor --send``; returns why that failed, or an empty text.

    Raises:
        celery.exceptions.Retry: another process uses the webhook, and the message was sent again.
    """
    notifier = context.notifier()
    if notifier is None:
        return "the workers have no WEBHOOK_URL"
    with delivery.take_turn(context.redis_client(), notifier) as turn:
        if not turn.is_free and task.request.retries < TEST_NOTICE_TURNS and not task.request.called_directly:
            raise task.retry(countdown=TURN_SECONDS, max_retries=TEST_NOTICE_TURNS)
        if turn.notifier is None or not turn.may_deliver:
            return turn.reason
        try:
            delivery.deliver(
                IdentifiedNotice.of(TEST_NOTICE, id=f"doctor/{asked.token}", at=datetime.now(UTC)), turn.notifier, MemoryDeliveryStore()
            )
        except NoticeError as error:
            return error.message[:LONGEST_REASON]
        return ""
