"""The Celery application of the workers with traps: named points inside the steps at which a process does what the test asked for.

A trap is armed by a file that names the point, the action and how often it acts. Each process that comes to the point takes one of the
times, which makes it the only one, and acts. The product's code knows nothing of this: the traps are wrapped around its functions here.
"""

import contextlib
import errno
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import time_machine

from model_store import store
from shared import processes
from shared.bucket.local import LocalBucket
from shared.bucket.remote import RemoteBucket
from shared.queue import broker
from shared.queue.routes import QUEUE_CONTROL, QUEUE_OF_TASK
from workers.app import app
from workers.notices import slack
from workers.scoring.chunks import chunk, chunk_reader
from workers.training import fitting, releasing

__all__ = ["app"]

STAGE = Path(os.environ["FAULT_STAGE"])
"""Folder of the files by which the test and the workers talk."""

TRAP, TAKEN, SPRUNG = STAGE / "trap.json", STAGE / "trap.taken", STAGE / "trap.sprung"
"""``TAKEN`` is a folder with a file for each time that the trap acted."""
TROUBLE = STAGE / "trouble"
"""While this file is there, writing into a local bucket does what its text says: ENOSPC, EIO or slow."""
TWICE = STAGE / "twice"
"""While this file is there, every message is sent twice."""
PASSED = STAGE / "passed"
"""While this file is there, it gets a line for each named point that a process comes to."""
BEGUN = STAGE / "begun.txt"
"""A line for each time that a chunk was begun: job and index."""

CLOCK = STAGE / f"clock.{os.environ['FAULT_WORKER']}"
"""How many seconds the clocks of this worker are ahead; see ``Clock``."""

CHUNK_SECONDS = float(os.environ["FAULT_CHUNK_SECONDS"])
"""What a chunk takes more than it needs, so that faults find it under way."""
CLOCK_LOOK_SECONDS = 0.1
MEAL_BYTES = 32 << 20
MEET = "faults.meet"
MEETING_SECONDS = 60

PLACES = {
    "plan, half a slice written": ("write", r"/slices/[^/]+/000000-0*[1-9]\d{4,}\.csv$", "within"),
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
    "finish, between predictions and manifest": ("copy", r"data/predict/output/(?!channels/)(?!.*revisions).*/manifest\.json$", "before"),
    "guard, before its verdict": ("create", r"jobs/[^/]+/guard\.json$", "before"),
    "guard, after its verdict": ("create", r"jobs/[^/]+/guard\.json$", "after"),
    "channel, before its change": ("create", r"/channels/_history/[^/]+/\d+\.json$", "before"),
    "channel, after its change": ("create", r"/channels/_history/[^/]+/\d+\.json$", "after"),
    "channel, after its predictions": ("copy", r"/channels/[^/_]+/prediction_output\.csv\.gz$", "after"),
    "channel, after its manifest": ("copy", r"/channels/[^/_]+/manifest\.json$", "after"),
    "held, half its picture written": ("write", r"/revisions/[^/]+/guard\.html$", "within"),
    "held, between verdict and manifest": ("copy", r"/revisions/[^/]+/manifest\.json$", "before"),
    "held, before its mark": ("write", r"/channels/_held/[^/]+$", "before"),
    "held, after its mark": ("write", r"/channels/_held/[^/]+$", "after"),
    "held, before it is noted": ("write", r"jobs/[^/]+/held\.json$", "before"),
    "held, after it is noted": ("write", r"jobs/[^/]+/held\.json$", "after"),
    "finish, before it is marked as published": ("write", r"jobs/[^/]+/published\.json$", "before"),
    "finish, after it is marked as published": ("write", r"jobs/[^/]+/published\.json$", "after"),
    "load, before the model": ("load", r"", "before"),
    "load, with the model": ("load", r"", "after"),
    "fit, before the model": ("fit", r"", "before"),
    "fit, with the model": ("fit", r"", "after"),
    "fit, before its outcome": ("create", r"jobs/[^/]+-train-[^/]+/outcome\.json$", "before"),
    "fit, before it is marked as published": ("write", r"jobs/[^/]+-train-[^/]+/published\.json$", "before"),
    "notify, before the webhook": ("post", r"", "before"),
    "notify, after the webhook": ("post", r"", "after"),
    "notify, after its mark": ("write", r"jobs/[^/]+/notified\.json$", "after"),
}


def spring(operation: str, path: str, moment: str) -> None:
    """Acts if the armed trap is for this point; the file can be taken away only once."""
    if PASSED.exists():
        with PASSED.open("a") as passed:
            passed.writelines(f"{place}\n" for place in PLACES if _is_at(place, operation, path, moment))
    try:
        armed = json.loads(TRAP.read_text())
    except (FileNotFoundError, ValueError):
        return
    if not _is_at(armed["place"], operation, path, moment):
        return
    if _take(armed["times"]):
        SPRUNG.write_text(str(os.getpid()))
        act(armed["action"])


def _take(times: int) -> bool:
    """Takes one of the times that the trap may act; False when all were taken."""
    TAKEN.mkdir(exist_ok=True)
    for number in range(times):
        with contextlib.suppress(FileExistsError):
            (TAKEN / str(number)).touch(exist_ok=False)
            return True
    return False


def _is_at(place: str, operation: str, path: str, moment: str) -> bool:
    wanted, pattern, when = PLACES[place]
    return (operation, moment) == (wanted, when) and re.search(pattern, path) is not None


def act(action: str) -> None:
    me = psutil.Process()
    worker = me.parent()
    if action == "freeze the process":
        os.kill(me.pid, signal.SIGSTOP)
        return
    if action == "hold the process":
        while SPRUNG.exists():
            time.sleep(0.05)
        return
    if action == "eat memory":
        eaten = []
        while True:  # its limit ends it: the kernel kills it, or it is refused and Python raises MemoryError
            eaten.append(bytearray(MEAL_BYTES))
    if action == "terminate, then kill the worker":
        worker.terminate()
        time.sleep(0.5)
    if action != "kill the process":
        for process in [worker, *worker.children(recursive=True)]:
            if process.pid != me.pid:
                process.kill()
    os.kill(me.pid, signal.SIGKILL)


def trouble() -> None:
    """Fails or dawdles like a broken disk, while the test says so."""
    try:
        kind = TROUBLE.read_text()
    except FileNotFoundError:
        return
    if kind == "slow":
        time.sleep(0.2)
        return
    number = getattr(errno, kind)
    raise OSError(number, os.strerror(number))


def with_traps(kind: Any) -> None:
    """Wraps the methods of a kind of bucket that put files in place."""
    real_writer = kind.writer

    @contextlib.contextmanager
    def writer(self: Any, path: str, *, durable: bool = False) -> Iterator[Any]:
        spring("write", path, "before")
        with real_writer(self, path, durable=durable) as out:
            yield out
            out.flush()
            spring("write", path, "within")
        spring("write", path, "after")

    kind.writer = writer
    kind.create = around("create", kind.create, 1)
    kind.copy = around("copy", kind.copy, 2)


def around(operation: str, real: Callable[..., Any], path_at: int) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **options: Any) -> Any:
        path = str(arguments[path_at])
        spring(operation, path, "before")
        value = real(*arguments, **options)
        spring(operation, path, "after")
        return value

    return wrapped


with_traps(LocalBucket)
with_traps(RemoteBucket)
slack.Slack.deliver = around("post", slack.Slack.deliver, 1)  # type: ignore[method-assign]
store.load_release = around("load", store.load_release, 1)
fitting.fit = releasing.fit = around("fit", fitting.fit, 0)

real_aside = LocalBucket._aside


@contextlib.contextmanager
def aside(self: LocalBucket, path: str) -> Iterator[Path]:
    with real_aside(self, path) as place:
        trouble()
        yield place


LocalBucket._aside = aside  # type: ignore[method-assign,assignment]

real_send, real_open_chunk = broker.send, chunk_reader.open_chunk


def send(*arguments: Any) -> None:
    real_send(*arguments)
    if TWICE.exists():
        real_send(*arguments)


def open_chunk(bucket: Any, planned: Any, release: Any) -> Any:
    with BEGUN.open("a") as begun:
        begun.write(f"{planned.slices_in} {planned.index}\n")
    time.sleep(CHUNK_SECONDS)
    return real_open_chunk(bucket, planned, release)


broker.send = send
chunk.open_chunk = open_chunk

if machine := os.environ.get("FAULT_MACHINE"):
    # what remains of this process says nothing to the others, as if it had run on another machine
    processes._SPACE = f"{machine}-{os.environ['FAULT_WORKER']}"

if seconds := os.environ.get("FAULT_SOFT_SECONDS"):
    app.conf.worker_soft_shutdown_timeout = float(seconds)


# workers take no task that is not one of ours
QUEUE_OF_TASK[MEET] = QUEUE_CONTROL


@app.task(name=MEET)
def meet(folder: str, expected: int) -> None:
    """Waits until so many processes are here at once: each can do only one thing, so all of them take work from this queue."""
    place = Path(folder)
    (place / str(os.getpid())).touch()
    limit = time.monotonic() + MEETING_SECONDS
    while len(list(place.iterdir())) < expected and time.monotonic() < limit:
        time.sleep(0.02)


class Clock:
    """The clock of this process, but not its monotonic one; a process that is forked off goes on with what its parent kept."""

    def __init__(self) -> None:
        self._ahead, self._traveller = 0.0, None

    def keep(self) -> None:
        """Puts it where the file ``CLOCK`` says whenever that changes, and writes what it shows to a file whose own time is right."""
        while True:
            with contextlib.suppress(FileNotFoundError, ValueError):
                wanted = float(CLOCK.read_text())
                if wanted != self._ahead:
                    self._put_ahead(wanted)
                CLOCK.with_name(f"{CLOCK.name}.shown.{os.getpid()}").write_text(str(time.time()))
            time.sleep(CLOCK_LOOK_SECONDS)

    def _put_ahead(self, seconds: float) -> None:
        if self._traveller is not None:
            self._traveller.stop()
        self._traveller = time_machine.travel(time.time() + seconds, tick=True)
        self._traveller.start()
        self._ahead = seconds

    def start(self) -> None:
        threading.Thread(target=self.keep, daemon=True).start()


clock = Clock()
clock.start()
os.register_at_fork(after_in_child=clock.start)  # no thread survives a fork
