"""The Celery application of beat and Flower: the broker, the periods and the schedule, without the workers' libraries.

Beat runs the schedule in its own thread: a hanging bucket must not delay the sweep, nor an unavailable Redis the schedule.

Flower uses this application instead of a bare broker URL, so that every process on the Redis agrees on ``visibility_timeout``, no command
line contains the address, and the dashboard knows the queues before a worker starts.
"""

import contextlib
import functools
import threading
import time
from typing import Any

import redis
import structlog
from celery import signals

from producers.schedule.scheduler import Schedule, run_once
from shared.bucket.opening import open_bucket
from shared.errors import TransientError
from shared.logs import set_up_logs
from shared.processes import limit_new_files
from shared.queue.broker import make_app
from shared.queue.client import connect_to_redis
from shared.queue.routes import SWEEP
from shared.queue.state import heartbeat
from shared.queue.state.stacks import JOIN, OwnStack
from shared.settings import read_settings

limit_new_files(read_settings().umask)
app = make_app(read_settings())
log = structlog.get_logger()

LONGEST_PAUSE_SECONDS = 60.0
"""The longest interval between ticks of the schedule; otherwise it equals the interval of the sweep."""
STANDS_STILL_SECONDS = LONGEST_PAUSE_SECONDS + 60.0
"""A call to a hanging bucket fails long before this time."""


@signals.setup_logging.connect
def _set_up_logs(**_: Any) -> None:  # noqa: ANN401 - Celery's signals
    set_up_logs(read_settings())


@functools.cache
def _client() -> redis.Redis:
    return connect_to_redis(read_settings().broker_url)


class Keeper(threading.Thread):
    """Runs the schedule in intervals, in a thread."""

    def __init__(self) -> None:
        super().__init__(name="schedule", daemon=True)
        settings = read_settings()
        bucket = open_bucket(settings.bucket_url, settings.signer)
        self._schedule = Schedule(settings, bucket)
        self._stack = OwnStack(bucket, _client(), settings.cluster)
        self._pause = min(settings.sweep_seconds, LONGEST_PAUSE_SECONDS)
        self._looked: float | None = None

    def run(self) -> None:
        while True:
            self.tick()
            time.sleep(self._pause)

    def tick(self) -> None:
        """Runs the schedule once. No error ends the thread."""
        try:
            if not self._is_ours() or run_once(self._schedule):
                self._looked = time.monotonic()
        except Exception:
            # a defect of this program, or an unforeseen file, must not end the schedule
            log.exception("schedule tick failed")

    def _is_ours(self) -> bool:
        """Returns False when the bucket and its schedule belong to another stack, which runs it itself."""
        try:
            claim = self._stack.claim()
        except TransientError:
            return True  # the tick fails as well, and logs the error
        if not claim.is_ours:
            log.warning("schedule of another stack skipped", cluster=claim.own, owner=claim.owner, to_do=JOIN)
        return claim.is_ours

    @property
    def stands_still(self) -> bool:
        """True when no tick has succeeded for a long time, or ever: a beat that is restarted again and again runs no schedule."""
        return self._looked is None or time.monotonic() - self._looked > STANDS_STILL_SECONDS


@functools.cache
def _keeper() -> Keeper:
    return Keeper()


@signals.beat_init.connect
def _keep_schedule(**_: Any) -> None:  # noqa: ANN401 - Celery's signals
    _keeper().start()


@signals.after_task_publish.connect(sender=SWEEP)
def _leave_sign(**_: Any) -> None:  # noqa: ANN401 - Celery's signals
    """Records beat's heartbeat, so that its age is known even if no worker takes its sweeps; not while the schedule stands still."""
    if _keeper().stands_still:
        return
    with contextlib.suppress(redis.RedisError):
        heartbeat.update_heartbeat(_client(), heartbeat.BEAT)
