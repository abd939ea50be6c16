"""The waiting messages of the queues, read from Redis without taking any."""

import json
from datetime import UTC, datetime

import redis

from shared.queue.broker import SENT_AT
from shared.queue.routes import SWEEP

INSPECTED_MESSAGES = 50
"""Messages at the old end of a queue that are inspected; sweeps and foreign messages do not count."""

UNKNOWN = datetime.fromtimestamp(0, UTC)


def waiting_since(client: redis.Redis, queue: str) -> datetime | None:
    """The send time of the oldest waiting message of this product; None when none waits. Raises redis.RedisError."""
    messages = client.lrange(queue, -INSPECTED_MESSAGES, -1)
    sent = [moment for message in messages if (moment := _sent_at(message)) is not None]
    # full of foreign messages: one of this product may wait after them
    return min(sent, default=UNKNOWN if len(messages) == INSPECTED_MESSAGES else None)


def _sent_at(message: bytes | str) -> datetime | None:
    try:
        headers = json.loads(message)["headers"]
        return None if headers["task"] == SWEEP else datetime.fromtimestamp(float(headers[SENT_AT]), UTC)
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
        return None
