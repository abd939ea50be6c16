"""The Redis client of the product."""

import redis

TIMEOUT_SECONDS = 2
"""No step may wait longer for Redis, because everything in it can be lost."""


def connect_to_redis(url: str) -> redis.Redis:
    """Returns a Redis client that times out after ``TIMEOUT_SECONDS``."""
    return redis.Redis.from_url(url, socket_connect_timeout=TIMEOUT_SECONDS, socket_timeout=TIMEOUT_SECONDS)
