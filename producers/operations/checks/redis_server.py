"""The checks of the Redis server: version, policy, memory, persistence, clock."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import redis

from producers.operations.checks.examined import START_REDIS, Examined
from producers.operations.checks.finding import Finding, State, error, ok, warning
from shared.queue.client import connect_to_redis

OLDEST_REDIS = (6, 2)
FULL_MEMORY = 0.8
CLOCK_TRIES = 3
CLOCKS_APART_SECONDS = 1.0
"""In seconds; job ids start with the time of their request, and the newest one is published."""

Info = dict[str, Any]
"""The answer to the command INFO."""


def check_redis(examined: Examined) -> Iterator[Finding]:
    """Checks that Redis answers and is suitable, and stores a client for later checks."""
    client = connect_to_redis(examined.settings.broker_url)
    try:
        info: Info = client.info()
        ahead, unsure = _clock_ahead(client)
    except redis.RedisError as reason:
        yield error("Redis", f"it does not answer: {reason}", START_REDIS)
        return
    version = _check_version(info)
    if version.state == State.OK:
        examined.client = client
    yield version
    for check in INFO_CHECKS:
        yield check(info)
    yield _check_clock(ahead, unsure)


def _check_version(info: Info) -> Finding:
    version = info.get("valkey_version") or info.get("redis_version", "0")
    text = f"{info.get('server_name', 'redis')} {version}"
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        return error("Redis", text, "Use 6.2 or newer.")
    return ok("Redis", text)


def _check_policy(info: Info) -> Finding:
    policy = info.get("maxmemory_policy", "")
    text = f"maxmemory-policy {policy}"
    if policy != "noeviction":
        return error("Redis policy", text, "Set maxmemory-policy noeviction: any other drops messages when memory is short.")
    return ok("Redis policy", text)


def _check_memory(info: Info) -> Finding:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    text = f"{used / 1e6:,.0f} MB used, {f'limit {most / 1e6:,.0f} MB' if most else 'no limit'}"
    if most and used > FULL_MEMORY * most:
        return error("Redis memory", text, "Raise maxmemory, or see what waits: scoring jobs list")
    return ok("Redis memory", text)


def _check_persistence(info: Info) -> Finding:
    subject = "Redis persistence"
    if int(info.get("aof_enabled", 0)) != 1:
        return warning(subject, "nothing is kept over a restart", "Set appendonly yes; without it jobs go on by the sweep.")
    if info.get("aof_last_write_status", "ok") != "ok":
        return error(subject, "its last write failed", "Free its disk.")
    return ok(subject, "append-only file")


INFO_CHECKS: list[Callable[[Info], Finding]] = [_check_policy, _check_memory, _check_persistence]


def _check_clock(ahead: float, unsure: float) -> Finding:
    text = f"{abs(ahead):.1f} s {'ahead of' if ahead < 0 else 'behind'} that of Redis"
    if abs(ahead) - unsure > CLOCKS_APART_SECONDS:
        return error("clock", text, "Let both take their time from the network (NTP).")
    return ok("clock", text)


def _clock_ahead(client: redis.Redis) -> tuple[float, float]:
    """The seconds by which the clock of Redis is ahead of this machine's, and their uncertainty, from the fastest of a few tries."""
    tries = []
    for _ in range(CLOCK_TRIES):
        sent = time.time()
        seconds, micros = client.time()
        came = time.time()
        tries.append((came - sent, seconds + micros / 1e6 - (sent + came) / 2))
    took, ahead = min(tries)
    return ahead, took / 2
