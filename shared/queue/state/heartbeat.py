"""Heartbeats in Redis: the last sweep that beat sent, and the last sweep that a worker finished.

Like every key of this product they expire and may be lost at any moment; the state is then unknown until the next heartbeat.
"""

import secrets
from datetime import UTC, datetime

import redis

BEAT = "scoring:pulse:beat"
SWEEP = "scoring:pulse:sweep"
SWEPT_UNTIL = "scoring:pulse:swept-until"
KEPT_SECONDS = 24 * 3600


def update_heartbeat(client: redis.Redis, name: str) -> None:
    """Records that the event happened now; raises redis.RedisError."""
    client.set(name, secrets.token_hex(8), ex=KEPT_SECONDS)


def last_heartbeat(client: redis.Redis, name: str) -> bytes | None:
    """The token of the last heartbeat, a new one each time; None when none is known. Raises redis.RedisError."""
    sign = client.get(name)
    return sign if isinstance(sign, bytes) else None


def seconds_since(client: redis.Redis, name: str) -> float | None:
    """The age of the last heartbeat by the server's clock; None when none is known or it is older than a day. Raises redis.RedisError."""
    left = int(client.pttl(name))
    return KEPT_SECONDS - left / 1000 if left >= 0 else None


def time_of(client: redis.Redis) -> datetime:
    """The time of the Redis server: one clock for all processes. Raises redis.RedisError."""
    seconds, micros = client.time()
    return datetime.fromtimestamp(seconds + micros / 1e6, UTC)


def note_swept(client: redis.Redis, job_id: str) -> None:
    """Records the last job that a sweep examined, empty when it examined all; raises redis.RedisError."""
    client.set(SWEPT_UNTIL, job_id, ex=KEPT_SECONDS)


def swept_until(client: redis.Redis) -> str:
    """The job after which the next sweep starts; empty when it starts with the oldest. Raises redis.RedisError."""
    job_id = client.get(SWEPT_UNTIL)
    return job_id.decode(errors="replace") if isinstance(job_id, bytes) else ""
