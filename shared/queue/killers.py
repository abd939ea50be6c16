"""Releases that killed or hung the process that loaded them, in the Redis hash ``scoring:killers``: ``scoring doctor`` names them.

Only for people: whoever loads such a release again finds out anew, and so does everybody once Redis was emptied.
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
    """That a release killed its loader, and which job failed for it."""

    release: ReleaseId
    at: Timestamp
    job_id: Annotated[str, Field(max_length=200)]
    what: Annotated[str, Field(max_length=500)]
    """What it did, in words."""


def note_killer(client: redis.Redis, killer: Killer) -> None:
    """Remember a release that killed its loader; raises redis.RedisError."""
    with client.pipeline(transaction=True) as pipe:
        pipe.hset(KEY, killer.release, killer.to_json())
        pipe.expire(KEY, KEPT_SECONDS)
        pipe.execute()


def forget_killer(client: redis.Redis, release: str) -> None:
    """Forget a release that could be loaded after all; raises redis.RedisError."""
    client.hdel(KEY, release)


def read_killers(client: redis.Redis) -> list[Killer]:
    """What is remembered, the newest first, at most ``MOST``; raises redis.RedisError."""
    found = []
    for text in client.hvals(KEY):
        try:
            found.append(decode(Killer, text))
        except MessageError:  # of another version
            continue
    return sorted(found, key=lambda killer: killer.at, reverse=True)[:MOST]
