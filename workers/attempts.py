"""Counts how often a chunk was begun and never ended, which is how a chunk that kills its worker shows; a candidate of a search likewise.

The count lies in Redis and may be lost; then the chunk is given its tries anew.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import redis
import structlog
from celery.exceptions import SoftTimeLimitExceeded

from shared.hint import KEPT_SECONDS

MAX_DEATHS = 3
"""After so many deaths a chunk is no longer tried as a whole."""

log = structlog.get_logger()


@dataclass(kw_only=True)
class Attempt:
    """A chunk that was begun and has not ended."""

    key: str
    """The hash with the counts of its job, by chunk."""
    deaths: int = 0
    """How often it was begun without an end before now."""
    is_over: bool = False
    """True once its count was taken away, together with something else that was said of it."""


@contextlib.contextmanager
def counted(client: redis.Redis, job_id: str, index: int | str) -> Iterator[Attempt]:
    """Count that this chunk is begun; an orderly end, also with an error, takes its count away.

    A chunk that ran out of time is no orderly end: it would do so again.
    """
    attempt = Attempt(key=f"scoring:attempts:{job_id}")
    try:
        with client.pipeline(transaction=False) as pipe:
            pipe.hincrby(attempt.key, str(index), 1)
            pipe.expire(attempt.key, KEPT_SECONDS)
            attempt.deaths = int(pipe.execute()[0]) - 1
    except redis.RedisError as error:
        log.warning("attempt not counted", error=str(error))
    try:
        yield attempt
    except SoftTimeLimitExceeded:
        raise
    except BaseException:
        _forget(client, attempt, index)
        raise
    _forget(client, attempt, index)


def _forget(client: redis.Redis, attempt: Attempt, index: int | str) -> None:
    if not attempt.is_over:
        with contextlib.suppress(redis.RedisError):
            client.hdel(attempt.key, str(index))
