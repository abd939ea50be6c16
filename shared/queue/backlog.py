"""What waits in the queues, read from Redis without taking anything."""

import json
from datetime import UTC, datetime

import redis

from shared.queue.broker import SENT_AT
from shared.queue.routes import SWEEP

INSPECTED_MESSAGES = 50
"""Messages at the old end of a queue that are looked at; sweeps, and what somebody else put there, say nothing."""

UNKNOWN = datetime.fromtimestamp(0, UTC)


def waiting_since(client: redis.Redis, queue: str) -> datetime | None:
    """When the message was sent that waits longest in a queue; None when none of ours waits. Raises redis.RedisError."""
    messages = client.lrange(queue, -INSPECTED_MESSAGES, -1)
    sent = [moment for message in messages if (moment := _sent_at(message)) is not None]
    # full of what is not ours: ours may wait behind it
    return min(sent, default=UNKNOWN if len(messages) == INSPECTED_MESSAGES else None)


def _sent_at(message: bytes | str) -> datetime | None:
    try:
        headers = json.loads(message)["headers"]
        return None if headers["task"] == SWEEP else datetime.fromtimestamp(float(headers[SENT_AT]), UTC)
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
        return None
