"""Counters of the workers' work in Redis, for ``scoring metrics``; they may be lost at any moment and restart at zero.

One hash ``scoring:tally`` holds all of them: ``chunks``, ``rows``, ``rejects``, ``releases:loaded``, ``releases:kept``,
``ended:<kind>:<state>``, ``guard:<channel>:<check>:<outcome>``, and for each stage of a chunk the sum of its seconds and the number of
chunks in each histogram bin.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import redis

KEY = "scoring:tally"
KEPT_SECONDS = 30 * 24 * 3600

BOUNDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Upper ends of the histogram bins, in seconds; a last bin holds longer times."""


STAGES = ("load", "predict", "read", "write")
"""The stages of a chunk. The series of each starts at 0: one that appears with its first count has not grown."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """The times of one stage of a chunk."""

    counts: list[int]
    """Chunks in each bin: one for each of ``BOUNDS``, and one for longer times."""
    seconds: float
    """The sum of the times of all chunks."""


@dataclass(frozen=True, kw_only=True)
class Counters:
    """The counts so far."""

    chunks: int
    rows: int
    rejects: int
    releases_loaded: int
    """Times that a process read the release of a chunk from the bucket."""
    releases_kept: int
    """Times that the release was already in memory."""
    ended: dict[tuple[str, str], int]
    """Jobs by kind and final state."""
    stages: dict[str, Histogram]
    guard: dict[tuple[str, str, str], int]
    """Checks of results by channel, check and outcome."""


def of_chunk(*, rows: int, rejects: int, stages: Mapping[str, float], release_was_kept: bool) -> dict[str, float]:
    """The counts that one scored chunk adds; ``stages`` maps each stage to its seconds."""
    counts: dict[str, float] = {"chunks": 1, "rows": rows, "rejects": rejects, f"releases:{'kept' if release_was_kept else 'loaded'}": 1}
    for stage, seconds in stages.items():
        counts[f"stage:{stage}:{bisect_left(BOUNDS, seconds)}"] = 1
        counts[f"stage:{stage}:seconds"] = seconds
    return counts


def count_end(client: redis.Redis, kind: str, state: str) -> None:
    """Counts one job that has ended; raises redis.RedisError."""
    with client.pipeline(transaction=False) as pipe:
        pipe.hincrby(KEY, f"ended:{kind}:{state}", 1)
        pipe.expire(KEY, KEPT_SECONDS)
        pipe.execute()


def count_checks(client: redis.Redis, channel: str, outcomes: Iterable[tuple[str, str]]) -> None:
    """Counts the outcome of each check of one result; raises redis.RedisError."""
    with client.pipeline(transaction=False) as pipe:
        for check, outcome in outcomes:
            pipe.hincrby(KEY, f"guard:{channel}:{check}:{outcome}", 1)
        pipe.expire(KEY, KEPT_SECONDS)
        pipe.execute()


def read_counters(client: redis.Redis) -> Counters:
    """The counts so far; raises redis.RedisError."""
    found = {name.decode(): value for name, value in client.hgetall(KEY).items() if isinstance(name, bytes)}

    def count(name: str) -> int:
        return int(found.get(name, 0))

    ends = [name.split(":") for name in found if name.startswith("ended:")]
    checks = [name.split(":") for name in found if name.startswith("guard:")]
    stages = sorted({*STAGES, *(name.split(":")[1] for name in found if name.startswith("stage:"))})
    return Counters(
        chunks=count("chunks"),
        rows=count("rows"),
        rejects=count("rejects"),
        releases_loaded=count("releases:loaded"),
        releases_kept=count("releases:kept"),
        ended={(kind, state): count(f"ended:{kind}:{state}") for _, kind, state in ends},
        stages={
            stage: Histogram(
                counts=[count(f"stage:{stage}:{place}") for place in range(len(BOUNDS) + 1)],
                seconds=float(found.get(f"stage:{stage}:seconds", 0)),
            )
            for stage in stages
        },
        guard={(channel, check, outcome): count(f"guard:{channel}:{check}:{outcome}") for _, channel, check, outcome in checks},
    )
