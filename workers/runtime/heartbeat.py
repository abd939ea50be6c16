"""Writes the worker's heartbeat to Redis from the loop that receives messages, so it stops if the loop hangs or loses its connection."""

import contextlib
from typing import Any

import celery.bootsteps
import redis
from celery.worker.consumer.tasks import Tasks

from shared.queue.client import connect_to_redis
from shared.queue.state import active_workers


class Heartbeat(celery.bootsteps.StartStopStep):
    """Starts when the worker receives messages, and stops when it stops receiving."""

    requires = (Tasks,)

    def __init__(self, _parent: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's own arguments
        self._timer: Any = None
        self._client: redis.Redis | None = None

    def start(self, parent: Any) -> None:  # noqa: ANN401 - Celery's consumer
        """Writes a heartbeat now, and again each period."""
        self._client = connect_to_redis(parent.app.conf.broker_url)
        self._beat(parent)
        self._timer = parent.timer.call_repeatedly(active_workers.PERIOD_SECONDS, self._beat, (parent,))

    def stop(self, parent: Any) -> None:  # noqa: ANN401 - Celery's consumer
        """Removes the heartbeat."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._client is not None:
            with contextlib.suppress(redis.RedisError):
                active_workers.stop(self._client, parent.hostname, _queues(parent))
            self._client.close()
            self._client = None

    def _beat(self, parent: Any) -> None:  # noqa: ANN401 - Celery's consumer
        if self._client is not None:
            # if Redis is unreachable, nobody can read the heartbeat either
            with contextlib.suppress(redis.RedisError):
                active_workers.beat(self._client, parent.hostname, _queues(parent))


def _queues(parent: Any) -> list[str]:  # noqa: ANN401 - Celery's consumer
    return list(parent.app.amqp.queues.consume_from)
