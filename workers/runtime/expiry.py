"""The expiry of a message by the clock of Redis, once it seems to be over by the clock of this machine.

Celery compares the expiry, a time of the sender's clock, with the worker's clock.
A worker whose clock is ahead would discard every sweep, and with no other worker for the queue ``control`` lost work would stay lost.
"""

from datetime import UTC, datetime
from typing import Any

import celery
import celery.worker.request
import redis

from shared.queue.client import connect_to_redis
from shared.queue.state import heartbeat
from shared.settings import read_settings


class Request(celery.worker.request.Request):
    """A message in the main process of a worker."""

    def maybe_expire(self) -> Any:  # noqa: ANN401 - Celery's own signature
        """Returns True for a message that has expired by both clocks; by the worker's clock alone if Redis does not answer."""
        if self.expires is None or datetime.now(UTC) <= self.expires:
            return False
        try:
            with connect_to_redis(read_settings().broker_url) as client:
                is_over = heartbeat.time_of(client) > self.expires
        except redis.RedisError:
            is_over = True
        return is_over and super().maybe_expire()


class MaintenanceTask(celery.Task):
    """A task of no job, whose messages expire."""

    Request = "workers.runtime.expiry:Request"
