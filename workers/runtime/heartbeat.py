"""Leaves the worker's sign of life in Redis, from the loop that takes messages: one that hangs, or lost its connection, leaves none."""

import contextlib
from typing import Any

import celery.bootsteps
import redis
from celery.worker.consumer.tasks import Tasks

from shared.queue import active_workers, progress


class Heartbeat(celery.bootsteps.StartStopStep):
    """Starts once the worker takes messages, and stops with that."""

    requires = (Tasks,)

    def __init__(self, _parent: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's own arguments
        self._timer: Any = None
        self._client: redis.Redis | None = None

    def start(self, parent: Any) -> None:  # noqa: ANN401 - Celery's consumer
        """Leave a sign now, and again each period."""
        self._client = progress.connect(parent.app.conf.broker_url)
        self._beat(parent)
        self._timer = parent.timer.call_repeatedly(active_workers.PERIOD_SECONDS, self._beat, (parent,))

    def stop(self, parent: Any) -> None:  # noqa: ANN401 - Celery's consumer
        """Take the sign away."""
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
            # where Redis is away nobody can read a sign either
            with contextlib.suppress(redis.RedisError):
                active_workers.beat(self._client, parent.hostname, _queues(parent))


def _queues(parent: Any) -> list[str]:  # noqa: ANN401 - Celery's consumer
    return list(parent.app.amqp.queues.consume_from)
