"""The count of finished chunks in Redis. It makes the end of a job and its progress bar quick, and may be lost at any moment.

A hash ``scoring:parts:<job>`` maps each finished chunk to its rows, so marking a chunk twice counts it once; ``scoring:rejects:<job>``
counts the rejects in them. The job's folder is the truth: every reader of this count must be right without it.
The script that marks a chunk also adds to the counters (``shared.queue.state.counters``) and removes the count of its attempts.
"""

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import redis

from shared.queue.state import counters
from shared.queue.state.scripts import Argument, Arguments, Key, Script

KEPT_SECONDS = 24 * 3600
"""No key outlives its job by more than a day."""


@dataclass(frozen=True, kw_only=True)
class Marked:
    """The progress of a job after a chunk was marked."""

    chunks: int
    rejected: int
    """Rejects in all marked chunks; 0 when this chunk has none."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of a job: finished chunks and their rows."""

    chunks: int
    rows: int


@dataclass(kw_only=True)
class _MarkPart(Script[list[int]]):
    """Marks a chunk as done in one round trip; each costs some tenths of a millisecond, in which a processor may be idle.

    ``pcall``: a count that fails does not keep the chunk from being marked.
    """

    parts: Key
    rejects: Key
    tally: Key
    attempts: Key
    index: Argument
    rows: Argument
    rejected: Argument
    parts_kept_seconds: Argument
    tally_kept_seconds: Argument
    counts: Arguments
    """Names and numbers in turn."""

    lua = """
redis.pcall('hdel', attempts, index)
local is_new = redis.call('hset', parts, index, rows)
redis.call('expire', parts, parts_kept_seconds)
local all_rejected = 0
if rejected ~= '0' then
  all_rejected = redis.call('incrby', rejects, is_new == 1 and rejected or 0)
  redis.call('expire', rejects, parts_kept_seconds)
end
if is_new == 1 then
  for place = 1, #counts, 2 do redis.pcall('hincrbyfloat', tally, counts[place], counts[place + 1]) end
  redis.pcall('expire', tally, tally_kept_seconds)
end
return {redis.call('hlen', parts), all_rejected}
"""


def mark_part(client: redis.Redis, job_id: str, index: int, *, counts: Mapping[str, float], attempts: str) -> Marked:
    """Marks a chunk as done and returns the progress of the job; raises redis.RedisError.

    ``counts`` are added to the counters unless the chunk was marked before; ``attempts`` is the hash with the attempts of the job.
    """
    chunks, total = _MarkPart(
        parts=_key(job_id),
        rejects=_rejects_key(job_id),
        tally=counters.KEY,
        attempts=attempts,
        index=index,
        rows=counts["rows"],
        rejected=counts["rejects"],
        parts_kept_seconds=KEPT_SECONDS,
        tally_kept_seconds=counters.KEPT_SECONDS,
        counts=[item for pair in counts.items() for item in pair],
    ).run(client)
    return Marked(chunks=chunks, rejected=total)


def mark_parts(client: redis.Redis, job_id: str, indexes: Collection[int], rejected: int) -> None:
    """Marks chunks whose parts existed before the first chunk was scored, with all their rejects; raises redis.RedisError."""
    key = _key(job_id)
    with client.pipeline(transaction=True) as pipe:
        for index in indexes:
            pipe.hsetnx(key, str(index), "0")
        pipe.expire(key, KEPT_SECONDS)
        pipe.set(_rejects_key(job_id), rejected, ex=KEPT_SECONDS)
        pipe.execute()


def read_progress(client: redis.Redis, job_id: str) -> Progress:
    """The progress so far; raises redis.RedisError."""
    rows = client.hvals(_key(job_id))
    return Progress(chunks=len(rows), rows=sum(map(int, rows)))


def forget(client: redis.Redis, job_id: str) -> None:
    """Deletes the count of a job that has ended; if Redis is unavailable, the count expires."""
    with contextlib.suppress(redis.RedisError):
        client.delete(_key(job_id), _rejects_key(job_id))


def _key(job_id: str) -> str:
    return f"scoring:parts:{job_id}"


def _rejects_key(job_id: str) -> str:
    return f"scoring:rejects:{job_id}"
