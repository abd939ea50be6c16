"""The Celery application of the workers, ``celery -A workers.app worker``, with its process hooks."""

import os

# Before numpy is imported: a worker process is one of several on the machine, and OpenMP's threads do not survive a fork.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import contextlib
import gc
from typing import Any

import kombu.exceptions
import redis.exceptions
from celery import signals
from celery.worker import state

from model_store.definitions import list_definitions, load_definition
from model_store.trial_import import exclude_crashing_definitions
from shared.errors import ModelError
from shared.logs import set_up_logs
from shared.processes import limit_new_files
from shared.queue.broker import make_app
from shared.queue.client import connect_to_redis
from shared.queue.routes import QUEUE_SCORE, QUEUE_TRAIN, SWEEP
from shared.settings import read_settings
from workers.recovery.beat_watchdog import start_watch
from workers.recovery.shutdown import ShutdownUncounter
from workers.runtime.heartbeat import Heartbeat
from workers.runtime.memory import keep_freed_memory
from workers.runtime.stopping import limit_shutdown

limit_new_files(read_settings().umask)
app = make_app(read_settings())
# a malformed message on a queue must not stop the worker
app.conf.broker_transport = "workers.runtime.transport:Transport"
app.conf.worker_consumer = "workers.runtime.consumer:Consumer"
app.steps["consumer"].add(Heartbeat)
# imported in the parent process, so that every child has the libraries from its start
app.conf.imports = [f"workers.tasks.{module}" for module in ("score", "train", "notify", "maintenance", "probe", "explain")]


@signals.setup_logging.connect
def _set_up_logs(**_: Any) -> None:  # noqa: ANN401 - Celery's signals
    set_up_logs(read_settings())


@signals.worker_init.connect
def _prepare_for_children(sender: Any, **_: Any) -> None:  # noqa: ANN401 - Celery's signals
    """Imports every definition with its libraries once in the parent process, because this takes seconds.

    A worker of the control queue alone never predicts, and skips this. The malloc settings are inherited by the children.
    """
    keep_freed_memory()
    # imported objects stay alive: collecting garbage during the imports costs a tenth of the time
    gc.disable()
    try:
        if {QUEUE_SCORE, QUEUE_TRAIN} & set(sender.app.amqp.queues.consume_from):
            _import_definitions()
    finally:
        gc.enable()
    # the collector writes to each object that it visits, and would make each child copy the memory that it shares with the others
    gc.freeze()


def _import_definitions() -> None:
    # loads model files: without this import the first chunk of each new process, also after a kill, would take seconds
    import skops.io  # noqa: F401, PLC0415

    definitions = read_settings().definitions
    exclude_crashing_definitions(list_definitions(definitions), definitions)
    for name in list_definitions(definitions):
        # a job that needs a broken definition fails with the reason; the worker serves all other definitions
        with contextlib.suppress(ModelError):
            load_definition(name, definitions)


@signals.worker_ready.connect
def _sweep_at_start(**_: Any) -> None:  # noqa: ANN401 - Celery's signals
    """Resumes the jobs that stalled while no worker was running."""
    _send_sweep()


@signals.worker_shutting_down.connect
def _limit_shutdown(how: str = "", **_: Any) -> None:  # noqa: ANN401 - Celery's signals
    seconds = read_settings().stop_seconds
    if how == "Warm" and seconds is not None:
        limit_shutdown(app, seconds)


@signals.worker_ready.connect
def _watch_beat(**_: Any) -> None:  # noqa: ANN401 - Celery's signals
    start_watch(read_settings(), _send_sweep)


@signals.worker_ready.connect
def _uncount_at_shutdown(**_: Any) -> None:  # noqa: ANN401 - Celery's signals
    """Uncounts the running steps at shutdown: the end of a worker that is killed while it stops must not count as a crash of its work."""
    uncounter = ShutdownUncounter(lambda: connect_to_redis(read_settings().broker_url), lambda: list(state.active_requests))
    signals.worker_shutting_down.connect(uncounter.wake, weak=False)


def _send_sweep() -> None:
    # if Redis is not reachable yet, beat sends a sweep soon
    with contextlib.suppress(OSError, redis.exceptions.RedisError, kombu.exceptions.KombuError):
        app.send_task(SWEEP, expires=600, retry=False)
