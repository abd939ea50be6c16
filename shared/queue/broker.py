"""The Celery application with the reason for each option, and the functions that send messages."""

import contextlib
import time
from collections.abc import Iterator, Sequence

import celery
import kombu.exceptions
import redis.exceptions
from kombu import Queue
from kombu.utils.url import maybe_sanitize_url

from shared.errors import BrokerError
from shared.guard.explanation import Question
from shared.jobs.messages import CandidateMessage, ChunkMessage, StepMessage
from shared.queue.probe import Probe
from shared.queue.routes import EXPLAIN, GC, PROBE, QUEUE_OF_TASK, QUEUES, SCORE_CHUNK, SWEEP
from shared.settings import Settings

VISIBILITY_SECONDS = 3600
"""After this time Redis delivers a message that was taken but not acknowledged to another worker."""

SENT_AT = "sent_at"
"""Header of every message: its send time in seconds since the epoch."""

CLOCKS_APART_SECONDS = 60
"""The largest assumed difference between the clocks of two hosts."""

PROBE_SECONDS = 3600.0
"""Expiry is checked by the worker's clock, which may be far ahead: a probe that waited longer is dropped. An answer to an earlier probe
does no harm, since each probe has its own key for answers.
"""

QUESTION_SECONDS = 60.0
"""A question that waited longer is dropped: the person who asked has stopped waiting. An expiry by a wrong clock only costs that answer."""

GC_SECONDS = 300.0
"""The interval between steps of the daily removal; almost all of them find nothing to do."""

EXPLAIN_SECONDS = 20
"""The time limit of an answer to ``scoring why``."""

UPKEEP_SECONDS = 300
"""The time limit of a sweep and of a removal step: both take seconds, so a longer one hangs."""

BATCH_MESSAGES = 500
"""Messages per round trip to Redis: 10,000 chunks are sent in about two seconds instead of seven."""


def make_app(settings: Settings) -> celery.Celery:
    """Makes the Celery application for a producer, a worker or beat; opens no connection.

    It is made in one place because a single process with another ``visibility_timeout`` would affect all queues of that Redis.
    """
    transport = {
        "visibility_timeout": VISIBILITY_SECONDS,
        # the default interval of 100 s is too long for a waiting person
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        # a command to a dead Redis must fail, not hang
        "socket_connect_timeout": 5,
        "socket_timeout": 30,
        "socket_keepalive": True,
        # fail a publish after 0.5 s instead of kombu's 6 s; workers' own reconnection is configured below
        "max_retries": 2,
        "interval_start": 0.1,
        "interval_step": 0.2,
    }
    app = celery.Celery("scoring", broker=settings.broker_url)
    app.conf.update(
        # messages are data: code is never decoded
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        # results live in the bucket; without them a task costs 9 Redis commands instead of 14
        task_ignore_result=True,
        # a message returns to its queue when the process that works on it dies
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # a prefetched message counts against the visibility timeout, so none waits inside a worker
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        broker_transport_options=transport,
        result_backend_transport_options=transport,
        # far below the visibility timeout, so that no task is redelivered while it runs
        task_soft_time_limit=840,
        task_time_limit=900,
        # a chunk takes far less time than a training, so a hanging chunk is found earlier
        task_annotations={
            SCORE_CHUNK: {"soft_time_limit": settings.chunk_seconds, "time_limit": settings.chunk_seconds + 30},
            # a person waits
            EXPLAIN: {"soft_time_limit": EXPLAIN_SECONDS, "time_limit": EXPLAIN_SECONDS + 5},
            # no other process runs the step while one hangs in it
            SWEEP: {"soft_time_limit": UPKEEP_SECONDS, "time_limit": UPKEEP_SECONDS + 30},
            GC: {"soft_time_limit": UPKEEP_SECONDS, "time_limit": UPKEEP_SECONDS + 30},
        },
        # the first option loses running chunks when the connection breaks, the second hangs
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_deduplicate_successful_tasks=False,
        # without this option a full Redis ends the worker
        broker_channel_error_retry=True,
        # a worker survives any outage of Redis
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        # with REMAP_SIGTERM=SIGQUIT (containers): the time to finish before running tasks are handed back
        worker_soft_shutdown_timeout=30,
        # events for the dashboard
        worker_send_task_events=True,
        task_send_sent_event=True,
        # our own log lines, set up once in workers/app.py
        worker_hijack_root_logger=False,
        task_queues=[Queue(name) for name in QUEUES],
        task_default_queue=QUEUES[0],
        task_create_missing_queues=False,
        task_routes={task: {"queue": queue} for task, queue in QUEUE_OF_TASK.items()},
        beat_schedule={
            # a sweep that waited much longer than its period is useless: the next one is due
            SWEEP: {"task": SWEEP, "schedule": settings.sweep_seconds, "options": {"expires": _sweep_expiry_seconds(settings)}},
            # a short step of the daily removal, whose progress is in the bucket: a restart of beat changes nothing
            GC: {"task": GC, "schedule": GC_SECONDS, "options": {"expires": GC_SECONDS}},
        },
        # beat checks its clock at least this often (seconds), so that the sweep is on time
        beat_max_loop_interval=5,
    )
    return app


def _sweep_expiry_seconds(settings: Settings) -> float:
    """Expiry is checked by the worker's clock, which may be a minute ahead of beat's: with the bare period no sweep would run there."""
    return 10 * settings.sweep_seconds + CLOCKS_APART_SECONDS


def send(app: celery.Celery, task: str, messages: Sequence[StepMessage]) -> None:
    """Puts messages for one task on its queue, in their order.

    Raises:
        BrokerError: Redis does not answer or refuses; some messages may have been sent.
    """
    with _asking(app), app.producer_pool.acquire(block=True) as producer, producer.batch(max_size=BATCH_MESSAGES):  # type: ignore[attr-defined]  # new in kombu 5.7, after its type stubs
        for message in messages:
            app.send_task(
                task, args=[message.encode()], argsrepr=_readable(message), headers={SENT_AT: time.time()}, producer=producer, retry=False
            )


def send_probe(app: celery.Celery, queue: str, probe: Probe) -> None:
    """Sends a probe to a queue, for its consumer to answer; raises BrokerError."""
    with _asking(app):
        app.send_task(PROBE, args=[probe.encode(), queue], queue=queue, headers={SENT_AT: time.time()}, expires=PROBE_SECONDS, retry=False)


def send_question(app: celery.Celery, queue: str, question: Question) -> None:
    """Sends a question about a rate to a queue; raises BrokerError."""
    with _asking(app):
        app.send_task(
            EXPLAIN,
            args=[question.encode()],
            argsrepr=question.job_id,
            queue=queue,
            headers={SENT_AT: time.time()},
            expires=QUESTION_SECONDS,
            retry=False,
        )


@contextlib.contextmanager
def _asking(app: celery.Celery) -> Iterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, kombu.exceptions.KombuError, OSError) as error:
        raise BrokerError(
            f"Redis at {maybe_sanitize_url(app.conf.broker_url)} does not take messages: {str(error).rstrip('.')}",
            next_step="Start it (for a local stack: scoring up) or check REDIS_URL.",
        ) from error


def _readable(message: StepMessage) -> str:
    """The arguments as the dashboard shows them.

    The job comes last, because the list of tasks shows only the first 400 pixels of a text.
    """
    if isinstance(message, ChunkMessage):
        return f"chunk {message.index + 1} of {message.of or '?'}, {message.job_id}"
    if isinstance(message, CandidateMessage):
        return f"candidate {message.candidate}, fold {message.fold}, {message.job_id}"
    return message.job_id
