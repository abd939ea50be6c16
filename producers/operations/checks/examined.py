"""The shared state of the checks."""

from dataclasses import dataclass, field

import redis

from shared.bucket.interface import Bucket
from shared.queue.probe import Answer
from shared.settings import Settings

PROBE_SECONDS = 10.0
START_REDIS = "Start it (for a local stack: scoring up) or check REDIS_URL."
START_WORKER = "Start a worker for the queue control (locally: scoring up)."


@dataclass(kw_only=True)
class Examined:
    """The examined stack; the checks of Redis, bucket and queues fill it in for later checks."""

    settings: Settings
    send_test_notice: bool = False
    """True to make a worker send a message to the webhook."""
    probe_seconds: float = PROBE_SECONDS
    """Seconds that workers have to answer."""
    client: redis.Redis | None = None
    """None when Redis does not answer or is too old."""
    bucket: Bucket | None = None
    """None when the bucket cannot be opened."""
    answers: dict[str, Answer] = field(default_factory=dict)
    """The answer of the worker that took a message, by queue."""
