"""A mark in Redis that somebody works on a step right now, so that the sweep does not send it a second time.

Like the hint it only saves work: without it a step may run twice, with the same outcome.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence

import redis
import structlog

LEASE_SECONDS = 15
"""A mark outlives its process by this long at most."""

log = structlog.get_logger()


@contextlib.contextmanager
def leased(client: redis.Redis, name: str) -> Iterator[None]:
    """Keep the mark alive while the block runs; Redis being away is no reason to stop."""
    ended = threading.Event()

    def keep() -> None:
        while True:
            try:
                client.set(_key(name), "1", ex=LEASE_SECONDS)
            except redis.RedisError as error:
                log.warning("lease not renewed", lease=name, error=str(error))
            if ended.wait(LEASE_SECONDS / 3):
                return

    keeper = threading.Thread(target=keep, name=f"lease {name}", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
        with contextlib.suppress(redis.RedisError):
            client.delete(_key(name))


def are_leased(client: redis.Redis, names: Sequence[str]) -> list[bool]:
    """For each name, whether somebody holds it; raises redis.RedisError."""
    return [value is not None for value in client.mget([_key(name) for name in names])] if names else []


def _key(name: str) -> str:
    return f"scoring:lease:{name}"
