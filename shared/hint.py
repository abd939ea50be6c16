"""The count of finished chunks in Redis: makes the end of a job and its progress bar quick, and may be lost at any moment.

A hash ``scoring:parts:<job>`` maps each finished chunk to its rows, so marking a chunk twice counts it once; ``scoring:rejects:<job>``
counts the rejects in them. The job's folder is the truth; whoever reads the hint must be right without it.
"""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass

import redis

KEPT_SECONDS = 24 * 3600
"""No key outlives its job by more than a day."""


@dataclass(frozen=True, kw_only=True)
class Marked:
    """How far a job is once a chunk was marked."""

    chunks: int
    rejected: int
    """Rejects in all marked chunks; 0 when this chunk has none."""
    is_new: bool
    """False when the chunk was marked before."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is: chunks done and rows in them."""

    chunks: int
    rows: int


def connect(url: str) -> redis.Redis:
    """A client that gives up within seconds, since nothing may wait for a hint."""
    return redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2)


def mark_part(client: redis.Redis, job_id: str, index: int, rows: int, rejected: int) -> Marked:
    """Mark a chunk as done and return how far the job is; raises redis.RedisError."""
    key = _key(job_id)
    with client.pipeline(transaction=True) as pipe:
        pipe.hset(key, str(index), str(rows))
        pipe.expire(key, KEPT_SECONDS)
        pipe.hlen(key)
        is_new, _, chunks = pipe.execute()
    if not rejected:
        return Marked(chunks=int(chunks), rejected=0, is_new=bool(is_new))
    with client.pipeline(transaction=True) as pipe:
        pipe.incrby(_rejects_key(job_id), rejected if is_new else 0)
        pipe.expire(_rejects_key(job_id), KEPT_SECONDS)
        total, _ = pipe.execute()
    return Marked(chunks=int(chunks), rejected=int(total), is_new=bool(is_new))


def mark_parts(client: redis.Redis, job_id: str, indexes: Collection[int], rejected: int) -> None:
    """Mark chunks whose parts were there before any was scored, with all their rejects; raises redis.RedisError."""
    key = _key(job_id)
    with client.pipeline(transaction=True) as pipe:
        for index in indexes:
            pipe.hsetnx(key, str(index), "0")
        pipe.expire(key, KEPT_SECONDS)
        pipe.set(_rejects_key(job_id), rejected, ex=KEPT_SECONDS)
        pipe.execute()


def read_progress(client: redis.Redis, job_id: str) -> Progress:
    """What is marked so far; raises redis.RedisError."""
    rows = client.hvals(_key(job_id))
    return Progress(chunks=len(rows), rows=sum(map(int, rows)))


def forget(client: redis.Redis, job_id: str) -> None:
    """Take the count of a job away that has ended; where Redis is away it expires."""
    with contextlib.suppress(redis.RedisError):
        client.delete(_key(job_id), _rejects_key(job_id))


def _key(job_id: str) -> str:
    return f"scoring:parts:{job_id}"


def _rejects_key(job_id: str) -> str:
    return f"scoring:rejects:{job_id}"
