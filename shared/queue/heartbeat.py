"""Signs of life in Redis: when beat last sent a sweep, and when a worker last ended one.

Like every key of ours they have an expiry and may be lost at any moment; then nothing is known until the next sign.
"""

import secrets
from datetime import UTC, datetime

import redis

BEAT = "scoring:pulse:beat"
SWEEP = "scoring:pulse:sweep"
SWEPT_UNTIL = "scoring:pulse:swept-until"
KEPT_SECONDS = 24 * 3600


def update_heartbeat(client: redis.Redis, name: str) -> None:
    """Say that it happened now; raises redis.RedisError."""
    client.set(name, secrets.token_hex(8), ex=KEPT_SECONDS)


def last_heartbeat(client: redis.Redis, name: str) -> bytes | None:
    """The last sign, another one each time; None when none is known. Raises redis.RedisError."""
    sign = client.get(name)
    return sign if isinstance(sign, bytes) else None


def seconds_since(client: redis.Redis, name: str) -> float | None:
    """The age of the last sign, by the server's clock alone; None when none is known, or none for a day. Raises redis.RedisError."""
    left = int(client.pttl(name))
    return KEPT_SECONDS - left / 1000 if left >= 0 else None


def time_of(client: redis.Redis) -> datetime:
    """What the clock of Redis shows: one clock for all processes. Raises redis.RedisError."""
    seconds, micros = client.time()
    return datetime.fromtimestamp(seconds + micros / 1e6, UTC)


def note_swept(client: redis.Redis, job_id: str) -> None:
    """Keep the job that a sweep looked at last, empty when it looked at all; raises redis.RedisError."""
    client.set(SWEPT_UNTIL, job_id, ex=KEPT_SECONDS)


def swept_until(client: redis.Redis) -> str:
    """The job after which the next sweep begins; empty when it begins with the oldest. Raises redis.RedisError."""
    job_id = client.get(SWEPT_UNTIL)
    return job_id.decode(errors="replace") if isinstance(job_id, bytes) else ""
