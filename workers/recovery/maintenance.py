"""Counts the crashes of the sweep and of retention, which belong to no job, and announces what they skip because of them."""

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
from shared.queue import routes
from shared.queue.state import heartbeat
from shared.queue.state.maintenance_crashes import LEFT_OUT_FOR, MAX_CRASHES, OUTSIDE_PIECES, Crashes, Maintenance, begin

SWEEP_RESTS_FOR = timedelta(minutes=10)
"""The pause of a sweep that crashes before it reaches a job; short, because nothing else recovers lost work."""

FIRST_REST, LONGER = timedelta(minutes=1), 4
"""A job that a sweep skips rests this long after three crashes, and this many times as long after each further crash, up to a day.

The job may be innocent: when something else kills whole workers, as a release does in a container, a running sweep crashes with them.
"""

FURTHER_UP_TO_A_DAY = 6
"""After so many further crashes the rest is longer than a day, so more of them need not be raised to a power."""

ORPHANS, CHANNELS, NOTICES = "stray files", "channels", "notices to tell"
"""The pieces of a sweep other than inspecting jobs; no job has such a name."""

NAMES = {routes.SWEEP: "the sweep", routes.GC: "the removal of what is old"}

log = structlog.get_logger()


@contextlib.contextmanager
def counted_maintenance(client: redis.Redis, bucket: Bucket, step: str) -> Iterator[Maintenance]:
    """Counts the start and the end of a step of maintenance; an interruption at its time limit counts as a crash, like a kill.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    maintenance = begin(client, step, heartbeat.time_of(client), describe_memory(), pause_after)
    for crashes in maintenance.left_out:
        _tell(bucket, crashes)
    try:
        yield maintenance
    except SoftTimeLimitExceeded:
        log.error("step of maintenance took too long", step=step, piece=maintenance.piece)
        return
    except BaseException:
        maintenance.end()
        raise
    maintenance.end()


def pause_after(crashes: Crashes) -> timedelta:
    """Returns how long a step of maintenance, or a piece of it, is not tried after its last crash."""
    if crashes.step != routes.SWEEP:
        return LEFT_OUT_FOR
    if crashes.piece == OUTSIDE_PIECES:
        return SWEEP_RESTS_FOR
    further = min(crashes.count - MAX_CRASHES, FURTHER_UP_TO_A_DAY)
    return min(LEFT_OUT_FOR, FIRST_REST * LONGER**further)


def _tell(bucket: Bucket, crashes: Crashes) -> None:
    """Announces once what is skipped."""
    name = NAMES.get(crashes.step, crashes.step)
    notice = Notice(
        good=False,
        title=f"{name} leaves out what kills or hangs its process" if crashes.piece else f"{name} kills or hangs its process and rests",
        facts={
            **({"left out": crashes.piece} if crashes.piece else {}),
            "deaths": f"{crashes.count} in a row",
            "most likely": f"memory, of which the process had {crashes.had}",
        },
        next_step=_next_step(crashes),
    )
    digest = hashlib.sha256(crashes.piece.encode()).hexdigest()[:12]
    try:
        if announce(bucket, f"upkeep-{crashes.step}-{digest}", notice):
            log.error(notice.title, step=crashes.step, piece=crashes.piece, crashes=crashes.count, had=crashes.had)
    except ScoringError as error:
        log.warning("crashes of maintenance not announced", step=crashes.step, piece=crashes.piece, error=str(error))


def _next_step(crashes: Crashes) -> str:
    more = "Give the workers of the queue control more memory; it is tried again by itself"
    is_job = crashes.step == routes.SWEEP and crashes.piece not in (OUTSIDE_PIECES, ORPHANS, CHANNELS, NOTICES)
    if not is_job:
        return f"{more}."
    return f"{more}, after a minute at first and later once a day. See: scoring jobs show {crashes.piece}"
