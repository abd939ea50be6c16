"""The health check of one process of the stack on this machine, as a container asks for it.

A process that runs may still do nothing: its loop hangs, or its connection to Redis only looks alive. So each is judged by what it
does: a worker answers through Redis and takes waiting messages while it has a free process, beat sends its sweep and keeps the schedule,
Flower serves its page.
"""

import http.client
import socket
import time
from collections.abc import Sequence
from typing import Any

import kombu.exceptions
import redis

from producers.stack.services import BEAT, FLOWER, NAMES, workers_of
from shared.errors import BrokerError
from shared.queue import heartbeat, progress
from shared.settings import Settings

ANSWER_SECONDS = 5.0
LYING_SECONDS = 3.0
"""A message that lies at the end of a queue for this long, while a process is free, is not being taken."""
FEWEST_SWEEPS = 4
"""Beat has a problem when so many sweeps are missing: one less could be a slow Redis."""


def find_problem(service: str, settings: Settings) -> str | None:
    """Returns why this process on this machine does not do its work, or None.

    Raises:
        BrokerError: Redis does not answer, so no work is done here.
    """
    if service == FLOWER:
        return None if flower_answers(settings.flower_port) else f"Flower does not answer on port {settings.flower_port}"
    try:
        with progress.connect(settings.broker_url) as client:
            return _problem_of_beat(settings, client) if service == BEAT else _problem_of_worker(NAMES[service], settings, client)
    except (redis.RedisError, kombu.exceptions.KombuError, OSError) as error:
        raise BrokerError(f"Redis does not answer: {str(error).rstrip('.')}", next_step="Start it, or check REDIS_URL.") from error


def _problem_of_beat(settings: Settings, client: redis.Redis) -> str | None:
    age = heartbeat.seconds_since(client, heartbeat.BEAT)
    if age is None:
        return "beat has left no sign yet: it has just been started, or its looks at the schedule fail, then its log says why"
    limit = FEWEST_SWEEPS * settings.sweep_seconds
    if age <= limit:
        return None
    due = f"one is due every {settings.sweep_seconds:g} s while it keeps the schedule"
    return f"beat left its last sign {age:.0f} s ago, and {due}: see its log"


def _problem_of_worker(name: str, settings: Settings, client: redis.Redis) -> str | None:
    from shared.queue.broker import make_app  # noqa: PLC0415 - checking beat and Flower does not need Celery, whose import is slow

    node = f"{name}@{socket.gethostname()}"
    queues = next(queues for worker, queues, _ in workers_of(settings) if worker == name)
    with make_app(settings) as app:

        def ask(question: str) -> Any:  # noqa: ANN401 - each has an answer of its own
            replies = app.control.broadcast(question, reply=True, destination=[node], timeout=ANSWER_SECONDS)
            return next((reply[node] for reply in replies or [] if node in reply), None)

        if ask("ping") is None:
            return f"the worker {node} does not answer within {ANSWER_SECONDS:.0f} s"
        lying = _next_messages(client, queues)
        if not lying:
            return None
        # free processes are counted between the two readings: a free one takes a waiting message in milliseconds
        active, stats = ask("active"), ask("stats")
        if active is not None and stats is not None and len(active) >= int(stats["pool"]["max-concurrency"]):
            return None
        time.sleep(LYING_SECONDS)
        still = [queue for queue, message in _next_messages(client, queues).items() if lying.get(queue) == message]
        return f"the worker {node} has a process free and takes nothing from the queue {still[0]}" if still else None


def _next_messages(client: redis.Redis, queues: Sequence[str]) -> dict[str, bytes]:
    """The message of each queue that goes next; no entry for an empty queue."""
    return {queue: message for queue in queues if isinstance(message := client.lindex(queue, -1), bytes)}


def flower_answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
