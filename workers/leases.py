"""A mark in Redis that somebody works on a step right now, so that the sweep does not send it a second time.

Like the hint it only saves work: without it a step may run twice, with the same outcome.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence

import redis
import structlog

from shared.processes import is_gone, mark_of_process

LEASE_SECONDS = 10
"""A mark outlives its process by this long at most."""

log = structlog.get_logger()


@contextlib.contextmanager
def leased(client: redis.Redis, name: str) -> Iterator[bool]:
    """Keep the mark alive while the block runs; gives False when somebody else holds it.

    Redis being away is no reason to stop: then everybody gets True.
    """
    holder = mark_of_process().encode()
    is_ours = _take(client, name, holder)
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(LEASE_SECONDS / 3):
            _take(client, name, holder)

    keeper = threading.Thread(target=keep, name=f"lease {name}", daemon=True)
    keeper.start()
    try:
        yield is_ours
    finally:
        ended.set()
        keeper.join()
        with contextlib.suppress(redis.RedisError):
            if client.get(_key(name)) == holder:
                client.delete(_key(name))


def _take(client: redis.Redis, name: str, holder: bytes) -> bool:
    """Take the mark if it is free or its holder is gone, keep it if it is ours; False when it is another's."""
    key = _key(name)
    try:
        if client.set(key, holder, nx=True, ex=LEASE_SECONDS):
            return True
        current = client.get(key)
        if isinstance(current, bytes) and current != holder and not is_gone(current.decode(errors="replace")):
            return False
        client.set(key, holder, ex=LEASE_SECONDS)
        return True
    except redis.RedisError as error:
        log.warning("lease not renewed", lease=name, error=str(error))
        return True


def are_leased(client: redis.Redis, names: Sequence[str]) -> list[bool]:
    """For each name, whether somebody holds it; raises redis.RedisError."""
    holders = client.mget([_key(name) for name in names]) if names else []
    return [isinstance(holder, bytes) and not is_gone(holder.decode(errors="replace")) for holder in holders]


def _key(name: str) -> str:
    return f"scoring:lease:{name}"
