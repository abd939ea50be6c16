"""The Celery application of beat and Flower: the broker and the periods, and none of the workers' libraries.

Flower takes it too, rather than a bare broker URL, so that every process on the Redis agrees on ``visibility_timeout``, the address
is on no command line, and the dashboard knows the queues before a worker is there.
"""

import contextlib
import functools
from typing import Any

import redis
from celery import signals

from shared import hint, pulse
from shared.broker import make_app
from shared.logs import set_up_logs
from shared.routes import SWEEP
from shared.settings import read_settings

app = make_app(read_settings())


@signals.setup_logging.connect
def _set_up_logs(**_: Any) -> None:  # noqa: ANN401 - Celery's signals
    set_up_logs(read_settings())


@functools.cache
def _client() -> redis.Redis:
    return hint.connect(read_settings().broker_url)


@signals.after_task_publish.connect(sender=SWEEP)
def _leave_sign(**_: Any) -> None:  # noqa: ANN401 - Celery's signals
    """Beat itself says that it lives, so its age is known also when no worker takes its sweeps."""
    with contextlib.suppress(redis.RedisError):
        pulse.leave_sign(_client(), pulse.BEAT)
