"""Leases in Redis: a process works on a step now, so the sweep does not send it a second time.

Like the progress, leases only save work: without one a step may run twice, with the same outcome.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import redis
import structlog

from shared.processes import has_ended, process_token
from shared.queue.state.scripts import Argument, Key, Script

LEASE_SECONDS = 10
"""A lease outlives its process by this time at most."""

POLL_SECONDS = 1.0
"""The interval of checks for leases to renew."""

log = structlog.get_logger()


@dataclass(kw_only=True)
class _DropLease(Script[None]):
    """Deletes a lease in one round trip, unless another process has taken it since."""

    lease: Key
    holder: Argument

    lua = "if redis.call('get', lease) == holder then redis.call('del', lease) end"


@contextlib.contextmanager
def leased(client: redis.Redis, name: str) -> Iterator[bool]:
    """Holds a lease while the block runs; yields False when another process holds it.

    Without Redis every process gets True, so work continues.
    """
    lease = _Lease(client=client, name=name, holder=process_token().encode())
    if not lease.take():
        yield False
        return
    keeper = _keeper
    keeper.add(lease)
    try:
        yield True
    finally:
        keeper.drop(lease)
        with contextlib.suppress(redis.RedisError):
            _DropLease(lease=_key(name), holder=lease.holder).run(client)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lease:
    client: redis.Redis
    name: str
    holder: bytes

    def take(self) -> bool:
        """Takes the lease if it is free or its holder is gone, and renews our own; False when another process holds it."""
        key = _key(self.name)
        try:
            if self.client.set(key, self.holder, nx=True, ex=LEASE_SECONDS):
                return True
            current = self.client.get(key)
            if isinstance(current, bytes) and current != self.holder and not has_ended(current.decode(errors="replace")):
                return False
            self.client.set(key, self.holder, ex=LEASE_SECONDS)
            return True
        except redis.RedisError as error:
            log.warning("lease not renewed", lease=self.name, error=str(error))
            return True


class _Keeper:
    """Renews all leases of a process in one thread that stays: starting one for each step takes longer than a small chunk."""

    def __init__(self) -> None:
        self._due: dict[_Lease, float] = {}
        self._changing = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, lease: _Lease) -> None:
        """Renews the lease from now on."""
        with self._changing:
            self._due[lease] = time.monotonic() + LEASE_SECONDS / 3
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)
                self._thread.start()

    def drop(self, lease: _Lease) -> None:
        """Stops renewing a lease: once this returns, no renewal is under way."""
        with self._changing:
            del self._due[lease]

    def _keep(self) -> None:
        while True:
            time.sleep(min(POLL_SECONDS, LEASE_SECONDS / 6))
            with self._changing:
                for lease, due in self._due.items():
                    if due <= time.monotonic():
                        lease.take()
                        self._due[lease] = time.monotonic() + LEASE_SECONDS / 3


_keeper = _Keeper()


def _replace_keeper() -> None:
    global _keeper  # noqa: PLW0603 - no thread survives a fork, and the lock may be the thread's
    _keeper = _Keeper()


os.register_at_fork(after_in_child=_replace_keeper)


def are_leased(client: redis.Redis, names: Sequence[str]) -> list[bool]:
    """For each name, whether a process holds its lease; raises redis.RedisError."""
    holders = client.mget([_key(name) for name in names]) if names else []
    return [isinstance(holder, bytes) and not has_ended(holder.decode(errors="replace")) for holder in holders]


def _key(name: str) -> str:
    return f"scoring:lease:{name}"
