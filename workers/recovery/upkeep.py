"""Counts the deaths of the sweep and of retention, which belong to no job, and announces what they skip because of them."""

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import timedelta

import redis
import structlog
from celery.exceptions import SoftTimeLimitExceeded

from shared.bucket.interface import Bucket
from shared.errors import ScoringError
from shared.jobs.messages import Notice
from shared.jobs.outbox import announce
from shared.memory_limit import describe_memory
from shared.queue import heartbeat, routes
from shared.queue.upkeep import LEFT_OUT_FOR, MAX_DEATHS, OUTSIDE_PIECES, Deaths, Upkeep, begin

SWEEP_RESTS_FOR = timedelta(minutes=10)
"""The pause of a sweep that dies before it reaches a job; short, because nothing else recovers lost work."""

FIRST_REST, LONGER = timedelta(minutes=1), 4
"""A job that a sweep skips rests this long after three deaths, and this many times as long after each further death, up to a day.

The job may be innocent: when something else kills whole workers, as a release does in a container, a sweep that is running dies with them.
"""

ORPHANS, NOTICES = "stray files", "notices to tell"
"""The pieces of a sweep other than inspecting jobs; no job has such a name."""

NAMES = {routes.SWEEP: "the sweep", routes.GC: "the removal of what is old"}

log = structlog.get_logger()


@contextlib.contextmanager
def counted_upkeep(client: redis.Redis, bucket: Bucket, step: str) -> Iterator[Upkeep]:
    """Counts the start and the end of a step of upkeep; an interruption at its time limit counts as a death, like a kill.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    upkeep = begin(client, step, heartbeat.time_of(client), describe_memory(), pause_after)
    for deaths in upkeep.left_out:
        _tell(bucket, deaths)
    try:
        yield upkeep
    except SoftTimeLimitExceeded:
        log.error("step of upkeep took too long", step=step, piece=upkeep.piece)
        return
    except BaseException:
        upkeep.end()
        raise
    upkeep.end()


def pause_after(deaths: Deaths) -> timedelta:
    """Returns how long a step of upkeep, or a piece of it, is not tried after its last death."""
    if deaths.step != routes.SWEEP:
        return LEFT_OUT_FOR
    if deaths.piece == OUTSIDE_PIECES:
        return SWEEP_RESTS_FOR
    times = max(0, min(deaths.count, 2 * MAX_DEATHS + 3) - MAX_DEATHS)
    return min(LEFT_OUT_FOR, FIRST_REST * LONGER**times)


def _tell(bucket: Bucket, deaths: Deaths) -> None:
    """Announces once what is skipped."""
    name = NAMES.get(deaths.step, deaths.step)
    notice = Notice(
        good=False,
        title=f"{name} leaves out what kills or hangs its process" if deaths.piece else f"{name} kills or hangs its process and rests",
        facts={
            **({"left out": deaths.piece} if deaths.piece else {}),
            "deaths": f"{deaths.count} in a row",
            "most likely": f"memory, of which the process had {deaths.had}",
        },
        next_step=_next_step(deaths),
    )
    digest = hashlib.sha256(deaths.piece.encode()).hexdigest()[:12]
    try:
        if announce(bucket, f"upkeep-{deaths.step}-{digest}", notice):
            log.error(notice.title, step=deaths.step, piece=deaths.piece, deaths=deaths.count, had=deaths.had)
    except ScoringError as error:
        log.warning("deaths of upkeep not announced", step=deaths.step, piece=deaths.piece, error=str(error))


def _next_step(deaths: Deaths) -> str:
    more = "Give the workers of the queue control more memory; it is tried again by itself"
    is_job = deaths.step == routes.SWEEP and deaths.piece not in (OUTSIDE_PIECES, ORPHANS, NOTICES)
    if not is_job:
        return f"{more}."
    return f"{more}, after a minute at first and later once a day. See: scoring jobs show {deaths.piece}"
