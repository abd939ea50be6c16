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
MOST = 100


class Killer(Record):
    """A release that killed its loader, and the job that failed because of it."""

    release: ReleaseId
    at: Timestamp
    job_id: Annotated[str, Field(max_length=200)]
    what: Annotated[str, Field(max_length=500)]
    """The kind of failure, in words."""


def note_killer(client: redis.Redis, killer: Killer) -> None:
    """Record a release that killed its loader; raises redis.RedisError."""
    with client.pipeline(transaction=True) as pipe:
        pipe.hset(KEY, killer.release, killer.to_json())
        pipe.expire(KEY, KEPT_SECONDS)
        pipe.execute()


def forget_killer(client: redis.Redis, release: str) -> None:
    """Remove a release that loaded successfully after all; raises redis.RedisError."""
    client.hdel(KEY, release)


def read_killers(client: redis.Redis) -> list[Killer]:
    """The recorded releases, the newest first, at most ``MOST``; raises redis.RedisError."""
    found = []
    for text in client.hvals(KEY):
        try:
            found.append(decode(Killer, text))
        except MessageError:  # written by another version
            continue
    return sorted(found, key=lambda killer: killer.at, reverse=True)[:MOST]
