"""The Celery application of the workers with traps: named points inside the steps at which a process does what the test told it to.

A trap is armed by a file (``FAULT_TRAP``) that names the point and the action. The first process that comes to the point takes the file
away, which makes it the only one, and acts. The product's code knows nothing of this: the traps are wrapped around its functions here.
"""

import contextlib
import errno
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

import shared.broker
import workers.tasks
from shared.bucket import LocalBucket
from workers import notices
from workers.app import app

__all__ = ["app"]

TRAP = Path(os.environ["FAULT_TRAP"])
TROUBLE = Path(os.environ["FAULT_TROUBLE"])
"""While this file is there, writing into the bucket does what its text says: ENOSPC, EIO or slow."""

TWICE = os.environ.get("FAULT_EVERY_MESSAGE_TWICE") == "yes"

PLACES = {
    "plan, before its file": ("create", r"jobs/[^/]+/plan\.json$", "before"),
    "plan, after its file": ("create", r"jobs/[^/]+/plan\.json$", "after"),
    "chunk, before its part": ("write", r"/parts/\d+\.csv\.gz$", "before"),
    "chunk, half its part written": ("write", r"/parts/\d+\.csv\.gz$", "within"),
    "chunk, between part and record": ("write", r"/parts/\d+\.json$", "before"),
    "chunk, after its record": ("write", r"/parts/\d+\.json$", "after"),
    "finish, half the result written": ("write", r"/revisions/[^/]+/prediction_output\.csv\.gz$", "within"),
    "finish, before the manifest": ("create", r"jobs/[^/]+/manifest\.json$", "before"),
    "finish, before the outcome": ("create", r"jobs/[^/]+/outcome\.json$", "before"),
    "finish, after the outcome": ("create", r"jobs/[^/]+/outcome\.json$", "after"),
    "finish, between predictions and manifest": ("copy", r"data/predict/output/(?!.*revisions).*/manifest\.json$", "before"),
    "finish, before it is marked as published": ("write", r"jobs/[^/]+/published\.json$", "before"),
    "finish, after it is marked as published": ("write", r"jobs/[^/]+/published\.json$", "after"),
    "notify, before the webhook": ("post", r"", "before"),
    "notify, after the webhook": ("post", r"", "after"),
    "notify, after its mark": ("create", r"jobs/[^/]+/notified\.json$", "after"),
}


def spring(operation: str, path: str, moment: str) -> None:
    """Act if the armed trap is for this point; the file can be taken away only once."""
    try:
        armed = json.loads(TRAP.read_text())
    except (FileNotFoundError, ValueError):
        return
    place = PLACES[armed["place"]]
    if (operation, moment) != (place[0], place[2]) or not re.search(place[1], path):
        return
    with contextlib.suppress(FileNotFoundError):
        TRAP.rename(TRAP.with_suffix(".sprung"))
        act(armed["action"])


def act(action: str) -> None:
    me = psutil.Process()
    if action == "kill the process":
        os.kill(me.pid, signal.SIGKILL)
    worker = me.parent()
    if action == "kill the worker":
        for process in [worker, *worker.children(recursive=True)]:
            if process.pid != me.pid:
                process.kill()
        os.kill(me.pid, signal.SIGKILL)
    if action == "terminate, then kill the worker":
        worker.terminate()
        time.sleep(0.5)
        for process in [worker, *worker.children(recursive=True)]:
            if process.pid != me.pid:
                process.kill()
        os.kill(me.pid, signal.SIGKILL)


def trouble() -> None:
    """Fail or dawdle like a broken disk, while the test says so."""
    try:
        kind = TROUBLE.read_text()
    except FileNotFoundError:
        return
    if kind == "slow":
        time.sleep(0.2)
        return
    number = getattr(errno, kind)
    raise OSError(number, os.strerror(number))


real_writer, real_create, real_copy, real_post = LocalBucket.writer, LocalBucket.create, LocalBucket.copy, notices.post
real_aside = LocalBucket._aside


@contextlib.contextmanager
def writer(self: LocalBucket, path: str, *, durable: bool = False) -> Iterator[Any]:
    spring("write", path, "before")
    with real_writer(self, path, durable=durable) as out:
        yield out
        out.flush()
        spring("write", path, "within")
    spring("write", path, "after")


@contextlib.contextmanager
def aside(self: LocalBucket, path: str) -> Iterator[Path]:
    with real_aside(self, path) as place:
        trouble()
        yield place


def around(operation: str, real: Callable[..., Any], path_at: int) -> Callable[..., Any]:
    def wrapped(*arguments: Any) -> Any:
        path = str(arguments[path_at])
        spring(operation, path, "before")
        value = real(*arguments)
        spring(operation, path, "after")
        return value

    return wrapped


LocalBucket.writer = writer  # type: ignore[method-assign,assignment]
LocalBucket._aside = aside  # type: ignore[method-assign,assignment]
LocalBucket.create = around("create", real_create, 1)  # type: ignore[method-assign]
LocalBucket.copy = around("copy", real_copy, 2)  # type: ignore[method-assign]
notices.post = around("post", real_post, 1)

if TWICE:
    real_send = shared.broker.send

    def send_twice(*arguments: Any) -> None:
        real_send(*arguments)
        real_send(*arguments)

    workers.tasks.send = send_twice
