"""Heartbeats of the workers in Redis: which workers are alive, and the queues that each consumes.

A sorted set ``scoring:workers`` maps each worker to the time of its last heartbeat, by the server's clock. It may be lost at any moment;
the next heartbeats restore it.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import redis

from shared.queue.state.scripts import Argument, Key, Script

KEY = "scoring:workers"
PERIOD_SECONDS = 10
ALIVE_SECONDS = 35
"""A worker without a heartbeat for this time, three of them missing, is not counted."""


@dataclass(kw_only=True)
class _Beat(Script[None]):
    """Records the heartbeat of a worker by the server's clock, and drops the workers without one."""

    workers: Key
    worker: Argument
    alive_seconds: Argument

    lua = """
local now = tonumber(redis.call('time')[1])
redis.call('zadd', workers, now, worker)
for _, gone in ipairs(redis.call('zrangebyscore', workers, '-inf', now - alive_seconds)) do redis.call('zrem', workers, gone) end
redis.call('expire', workers, alive_seconds)
"""


@dataclass(kw_only=True)
class _Alive(Script[list[bytes]]):
    """Lists the workers with a recent heartbeat."""

    workers: Key
    alive_seconds: Argument

    lua = "return redis.call('zrangebyscore', workers, tonumber(redis.call('time')[1]) - alive_seconds, '+inf')"


def beat(client: redis.Redis, worker: str, queues: Collection[str]) -> None:
    """Records a heartbeat of this worker; raises redis.RedisError."""
    _Beat(workers=KEY, worker=_member(worker, queues), alive_seconds=ALIVE_SECONDS).run(client)


def stop(client: redis.Redis, worker: str, queues: Collection[str]) -> None:
    """Removes a worker that stops; raises redis.RedisError."""
    client.zrem(KEY, _member(worker, queues))


def workers_by_queue(client: redis.Redis, queues: Collection[str]) -> dict[str, int]:
    """Returns how many workers consume each queue now; raises redis.RedisError."""
    members = _Alive(workers=KEY, alive_seconds=ALIVE_SECONDS).run(client)
    served = Counter(queue for member in members for queue in member.decode(errors="replace").split(" ")[0].split(","))
    return {queue: served[queue] for queue in queues}


def _member(worker: str, queues: Collection[str]) -> str:
    return f"{','.join(sorted(queues))} {worker}"
