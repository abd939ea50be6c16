"""Releases that killed or hung the process that loaded them, in the Redis hash ``scoring:killers``; ``scoring doctor`` lists them.

Only for people. Nothing depends on it: a worker that loads such a release finds out by itself, also after Redis was emptied.
"""

from typing import Annotated

import redis
from pydantic import Field

from shared.errors import MessageError
from shared.records import Record, ReleaseId, Timestamp, decode

KEY = "scoring:killers"
KEPT_SECONDS = 7 * 24 * 3600
MAX_LISTED = 100
"""The most releases that are listed, the newest first."""


class CrashingRelease(Record):
    """A release that killed or hung its loader, and the job that failed because of it."""

    release: ReleaseId
    at: Timestamp
    job_id: Annotated[str, Field(max_length=200)]
    what: Annotated[str, Field(max_length=500)]
    """The kind of failure, in words."""


def record_crashing_release(client: redis.Redis, found: CrashingRelease) -> None:
    """Records a release that killed its loader; raises redis.RedisError."""
    with client.pipeline(transaction=True) as pipe:
        pipe.hset(KEY, found.release, found.to_json())
        pipe.expire(KEY, KEPT_SECONDS)
        pipe.execute()


def forget_crashing_release(client: redis.Redis, release: str) -> None:
    """Removes a release that loaded successfully after all; raises redis.RedisError."""
    client.hdel(KEY, release)


def read_crashing_releases(client: redis.Redis) -> list[CrashingRelease]:
    """The recorded releases, the newest first, at most ``MAX_LISTED``; raises redis.RedisError."""
    found = []
    for text in client.hvals(KEY):
        try:
            found.append(decode(CrashingRelease, text))
        except MessageError:  # written by another version
            continue
    return sorted(found, key=lambda release: release.at, reverse=True)[:MAX_LISTED]
