"""Signs of life of the workers in Redis: which are there now, and the queues that each takes from.

A sorted set ``scoring:workers`` maps each worker to the moment of its last sign, by the server's clock. It may be lost at any moment;
then the next signs make it again.
"""

from collections import Counter
from collections.abc import Collection

import redis

KEY = "scoring:workers"
PERIOD_SECONDS = 10
ALIVE_SECONDS = 35
"""A worker without a sign for this long, three of them missing, is not counted."""

BEAT = """
local now = tonumber(redis.call('time')[1])
redis.call('zadd', KEYS[1], now, ARGV[1])
for _, gone in ipairs(redis.call('zrangebyscore', KEYS[1], '-inf', now - ARGV[2])) do redis.call('zrem', KEYS[1], gone) end
redis.call('expire', KEYS[1], ARGV[2])
"""

ALIVE = "return redis.call('zrangebyscore', KEYS[1], tonumber(redis.call('time')[1]) - ARGV[1], '+inf')"


def beat(client: redis.Redis, worker: str, queues: Collection[str]) -> None:
    """Leave a sign of this worker; raises redis.RedisError."""
    client.eval(BEAT, 1, KEY, _member(worker, queues), ALIVE_SECONDS)


def stop(client: redis.Redis, worker: str, queues: Collection[str]) -> None:
    """Take its sign away: it stops; raises redis.RedisError."""
    client.zrem(KEY, _member(worker, queues))


def workers_by_queue(client: redis.Redis, queues: Collection[str]) -> dict[str, int]:
    """How many workers take from each queue now; raises redis.RedisError."""
    members = client.eval(ALIVE, 1, KEY, ALIVE_SECONDS)
    served = Counter(queue for member in members for queue in member.decode(errors="replace").split(" ")[0].split(","))
    return {queue: served[queue] for queue in queues}


def _member(worker: str, queues: Collection[str]) -> str:
    return f"{','.join(sorted(queues))} {worker}"
