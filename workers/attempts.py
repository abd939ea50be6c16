"""Counts how often a chunk was begun and never ended, which is how a chunk that kills its worker shows; a candidate of a search likewise.

The count lies in Redis and may be lost; then the chunk is given its tries anew.
"""

import contextlib
from collections.abc import Iterator

import redis
import structlog
from celery.exceptions import SoftTimeLimitExceeded

from shared.hint import KEPT_SECONDS

MAX_DEATHS = 3
"""After so many deaths a chunk is no longer tried as a whole."""

log = structlog.get_logger()


@contextlib.contextmanager
def counted(client: redis.Redis, job_id: str, index: int | str) -> Iterator[int]:
    """Give how often this chunk was begun without an end before now; an orderly end, also with an error, takes its count away.

    A chunk that ran out of time is no orderly end: it would do so again.
    """
    key = f"scoring:attempts:{job_id}"
    deaths = 0
    try:
        with client.pipeline(transaction=False) as pipe:
            pipe.hincrby(key, str(index), 1)
            pipe.expire(key, KEPT_SECONDS)
            deaths = int(pipe.execute()[0]) - 1
    except redis.RedisError as error:
        log.warning("attempt not counted", error=str(error))
    try:
        yield deaths
    except SoftTimeLimitExceeded:
        raise
    except BaseException:
        _forget(client, key, index)
        raise
    _forget(client, key, index)


def _forget(client: redis.Redis, key: str, index: int | str) -> None:
    with contextlib.suppress(redis.RedisError):
        client.hdel(key, str(index))
