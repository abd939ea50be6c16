"""A process that keeps its freed memory takes no new pages for the next chunk."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

PROGRAM = """
import ctypes, resource, sys
from workers.runtime.memory import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else False
for round in range(12):
    if round == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"x" * (16 << 20) for _ in range(3)]
    del blocks
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way: str) -> tuple[str, int]:
    """Whether the memory is kept, and the pages that ten rounds of 48 MB took."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, way], capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return kept, int(count)


def test_no_new_pages_are_taken_once_the_memory_is_there():
    kept, count = faults("keep")
    if kept != "True":
        pytest.skip("this C library has no mallopt")
    _, otherwise = faults("leave")
    assert otherwise > 10_000, "the system gives and takes pages all the time"
    assert count < otherwise / 20


WORKER = """
import gc, os, resource
from celery import signals
from workers.app import app
import workers.tasks

app.amqp.queues.select(["control"])
signals.worker_init.send(sender=type("Worker", (), {"app": app}))
if os.fork():
    print(gc.isenabled(), os.waitpid(-1, 0)[1], flush=True)
else:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    gc.collect()
    copied = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() >> 20
    os._exit(min(copied, 255))
"""


def test_a_child_that_looks_for_garbage_copies_nothing_of_what_its_worker_imported():
    done = subprocess.run([sys.executable, "-c", WORKER], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    enabled, copied_mb = done.stdout.split()
    assert enabled == "True"
    assert int(copied_mb) >> 8 < 5
