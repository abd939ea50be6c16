"""The health check of one local process of the stack, as a container runs it.

A running process may still be useless: its loop hangs, or its connection to Redis only looks alive. So each is checked by its work: a
worker must answer through Redis and take waiting messages while it has a free process, beat must send its sweep and run the schedule,
Flower must serve its page.
"""

import http.client
import socket
import time
from collections.abc import Sequence
from typing import Any

import kombu.exceptions
import redis

from producers.stack.services import BEAT, FLOWER, NAMES, SERVE, workers_of
from shared.errors import BrokerError
from shared.queue.client import connect_to_redis
from shared.queue.state import heartbeat
from shared.settings import Settings

ANSWER_SECONDS = 5.0
STUCK_SECONDS = 3.0
"""A worker with a free process that leaves the next message of its queue untouched for this time is unhealthy."""
FEWEST_SWEEPS = 4
"""Beat has a problem when this many sweeps are missing; fewer could be a slow Redis."""


def find_problem(service: str, settings: Settings) -> str | None:
    """Returns why this local process does not do its work, or None.

    Raises:
        BrokerError: Redis does not answer, so the process cannot work.
    """
    if service == FLOWER:
        return None if flower_answers(settings.flower_port) else f"Flower does not answer on port {settings.flower_port}"
    if service == SERVE:
        return server_problem(settings)
    try:
        with connect_to_redis(settings.broker_url) as client:
            return _problem_of_beat(settings, client) if service == BEAT else _problem_of_worker(NAMES[service], settings, client)
    except (redis.RedisError, kombu.exceptions.KombuError, OSError) as error:
        raise BrokerError(f"Redis does not answer: {str(error).rstrip('.')}", next_step="Start it, or check REDIS_URL.") from error


def _problem_of_beat(settings: Settings, client: redis.Redis) -> str | None:
    age = heartbeat.seconds_since(client, heartbeat.BEAT)
    if age is None:
        return "beat has sent no heartbeat yet: it has just started, or reading the schedule fails (see its log)"
    limit = FEWEST_SWEEPS * settings.sweep_seconds
    if age <= limit:
        return None
    return f"the last heartbeat of beat is {age:.0f} s old; it sends one every {settings.sweep_seconds:g} s. See its log"


def _problem_of_worker(name: str, settings: Settings, client: redis.Redis) -> str | None:
    from shared.queue.broker import make_app  # noqa: PLC0415 - checks of beat and Flower do not need Celery, whose import is slow

    node = f"{name}@{socket.gethostname()}"
    queues = next(queues for worker, queues, _ in workers_of(settings) if worker == name)
    with make_app(settings) as app:

        def ask(question: str) -> Any:  # noqa: ANN401 - each question has its own type of answer
            replies = app.control.broadcast(question, reply=True, destination=[node], timeout=ANSWER_SECONDS)
            return next((reply[node] for reply in replies or [] if node in reply), None)

        if ask("ping") is None:
            return f"the worker {node} does not answer within {ANSWER_SECONDS:.0f} s"
        heads = _next_messages(client, queues)
        if not heads:
            return None
        # counted between the two readings: a free process takes a waiting message in milliseconds
        active, stats = ask("active"), ask("stats")
        if active is not None and stats is not None and len(active) >= int(stats["pool"]["max-concurrency"]):
            return None
        time.sleep(STUCK_SECONDS)
        stuck = [queue for queue, message in _next_messages(client, queues).items() if heads.get(queue) == message]
        return f"the worker {node} has a process free and takes nothing from the queue {stuck[0]}" if stuck else None


def _next_messages(client: redis.Redis, queues: Sequence[str]) -> dict[str, bytes]:
    """The next message of each queue; an empty queue has no entry."""
    return {queue: message for queue in queues if isinstance(message := client.lindex(queue, -1), bytes)}


def server_problem(settings: Settings) -> str | None:
    """Returns why the HTTP server does not do its work, or None."""
    host = settings.serve_host if settings.serve_host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - a comparison
    if _answers(host, settings.serve_port, "/v2/health/live", ANSWER_SECONDS):
        return None
    return f"the HTTP server does not answer on port {settings.serve_port}, or a prediction hangs"


def flower_answers(port: int) -> bool:
    """Returns True if Flower serves its page on this machine."""
    return _answers("127.0.0.1", port, "/healthcheck", 1)


def _answers(host: str, port: int, path: str, seconds: float) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
