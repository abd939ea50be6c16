"""The check of the queues: a worker must answer a message through each."""

import contextlib
import time
from collections.abc import Container, Iterable, Iterator

import redis

from producers.operations.checks.examined import Examined
from producers.operations.checks.finding import Finding, error, ok, warning
from shared.bucket.interface import Bucket
from shared.errors import ScoringError
from shared.queue.broker import make_app, send_probe
from shared.queue.probe import Answer, Probe, probe_file, read_answers
from shared.queue.routes import QUEUE_CONTROL, QUEUES

POLL_SECONDS = 0.02


def check_queues(examined: Examined) -> Iterator[Finding]:
    """Checks that a worker takes a message from each queue, and stores its answers for the checks of workers."""
    if examined.client is None:
        return
    probes = {queue: Probe(tell_people=examined.send_test_notice and queue == QUEUE_CONTROL) for queue in QUEUES}
    with probe_files(examined.bucket, probes.values()) as are_there:
        app = make_app(examined.settings)
        began = time.monotonic()
        try:
            for queue, probe in probes.items():
                send_probe(app, queue, probe)
        except ScoringError as reason:
            yield error("workers", reason.message, reason.next_step)
            return
        took: dict[str, float] = {}
        while len(took) < len(QUEUES) and time.monotonic() - began < examined.probe_seconds:
            for queue, answer in _new_answers(examined.client, probes, took):
                # without the files an answer says nothing about the bucket
                examined.answers[queue] = answer if are_there else answer.model_copy(update={"sees_bucket": None})
                took[queue] = time.monotonic() - began
            time.sleep(POLL_SECONDS)
        for queue in QUEUES:
            yield _finding(examined, examined.client, queue, took.get(queue))


def _new_answers(client: redis.Redis, probes: dict[str, Probe], known: Container[str]) -> Iterator[tuple[str, Answer]]:
    for queue in [queue for queue in probes if queue not in known]:
        found = read_answers(client, probes[queue])
        if queue in found:
            yield queue, found[queue]


def _finding(examined: Examined, client: redis.Redis, queue: str, seconds: float | None) -> Finding:
    """The finding of a queue; ``seconds`` is the time until a worker took the message, None when none did."""
    if seconds is not None:
        return ok(f"queue {queue}", f"{examined.answers[queue].host} took a message after {seconds * 1e3:,.0f} ms")
    waiting = int(client.llen(queue))
    return (warning if waiting > 1 else error)(
        f"queue {queue}",
        f"no worker took a message within {examined.probe_seconds:.0f} s; {waiting:,} wait",
        f"Start a worker for the queue {queue} (locally: scoring up), or wait if its workers are busy.",
    )


@contextlib.contextmanager
def probe_files(bucket: Bucket | None, probes: Iterable[Probe]) -> Iterator[bool]:
    """Keeps a file for each probe in the bucket, so that workers can check that they use the same one; yields False when that fails."""
    if bucket is None:
        yield False
        return
    try:
        for probe in probes:
            bucket.write(probe_file(probe), b"")
    except ScoringError:
        yield False
        return
    try:
        yield True
    finally:
        with contextlib.suppress(ScoringError):
            for probe in probes:
                bucket.delete(probe_file(probe))
