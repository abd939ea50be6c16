"""``scoring metrics``: serves metrics for Prometheus from one small process that reads Redis and the bucket at each scrape.

If Redis or the bucket does not answer, a metric says so and the metrics from it are missing, so that an alert can distinguish "nothing
waits" from "unknown". A slow bucket does not delay a scrape: the figures of its last scrape are served, with their age.
"""

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import redis
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from producers.channels.held import list_held
from producers.schedule.run_states import last_success, overdue, read_entries
from shared.bucket.interface import Bucket
from shared.bucket.local import LocalBucket
from shared.bucket.opening import open_bucket
from shared.errors import PermanentError, RequestError, TransientError
from shared.jobs.folder import JobStatus, inspect_job, open_jobs
from shared.jobs.states import FINAL_STATES, OPEN_STATES, JobState
from shared.queue.backlog import UNKNOWN, waiting_since
from shared.queue.client import connect_to_redis
from shared.queue.routes import QUEUES
from shared.queue.state import active_workers, counters, heartbeat
from shared.settings import Settings

UNACKED = "unacked"
"""Redis hash of the messages that workers have taken and not yet acknowledged; kombu's name."""

KINDS = ("score", "train")
MAX_JOBS_READ = 200
"""The most open jobs that a scrape reads, the oldest first; the others are only counted."""
BUCKET_SECONDS = 5.0
"""Seconds that a scrape waits for the bucket; Prometheus gives up after ten, and then gets no metrics at all."""


@dataclass(frozen=True, kw_only=True)
class Scraped:
    """The result of one scrape of Redis or of the bucket."""

    metrics: list[Metric]
    answered: bool
    took_seconds: float
    ended: float
    """Monotonic time of its end, in seconds."""


def scrape(ask: Callable[[], list[Metric]]) -> Scraped:
    """Calls ``ask`` once; an unavailable service is a result too."""
    began = time.monotonic()
    try:
        metrics, answered = ask(), True
    except (redis.RedisError, TransientError, OSError):
        metrics, answered = [], False
    ended = time.monotonic()
    return Scraped(metrics=metrics, answered=answered, took_seconds=ended - began, ended=ended)


class BackgroundScrape:
    """Scrapes in its own thread, one scrape at a time, and keeps the last result."""

    def __init__(self, ask: Callable[[], list[Metric]]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._last: Scraped | None = None

    def begin(self) -> None:
        """Starts a scrape, unless one is running."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="bucket scrape", daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> Scraped | None:
        """The result of the last finished scrape, including one that finishes within ``seconds``; None before the first."""
        if self._thread is not None:
            self._thread.join(max(seconds, 0.0))
        return self._last

    def _run(self) -> None:
        self._last = scrape(self._ask)


class Scrape(Collector):
    """Reads Redis and the bucket each time Prometheus scrapes."""

    def __init__(self, client: redis.Redis, bucket: Bucket) -> None:
        self._client, self._bucket = client, bucket
        self._bucket_scrape = BackgroundScrape(self._of_bucket)

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("scoring_up", "1 if the service answered the last scrape, else 0.", labels=["what"])
        took = GaugeMetricFamily("scoring_scrape_seconds", "Seconds the last scrape of the service took.", labels=["what"])
        age = GaugeMetricFamily("scoring_bucket_figures_age_seconds", "Seconds since the bucket was last read.")
        began = time.monotonic()
        self._bucket_scrape.begin()
        scrapes = {"redis": scrape(self._of_redis), "bucket": self._bucket_scrape.wait(began + BUCKET_SECONDS - time.monotonic())}
        for what, found in scrapes.items():
            up.add_metric([what], int(found is not None and found.answered))
            if found is not None:
                took.add_metric([what], found.took_seconds)
                yield from found.metrics
        if (found := scrapes["bucket"]) is not None:
            age.add_metric([], time.monotonic() - found.ended)
        yield up
        yield took
        yield age

    def _of_redis(self) -> list[Metric]:
        return [*self._queues(), self._workers(), *self._memory(), *self._signs(), *_counts(counters.read_counters(self._client))]

    def _queues(self) -> list[Metric]:
        length = GaugeMetricFamily("scoring_queue_length", "Messages waiting in the queue.", labels=["queue"])
        age = GaugeMetricFamily(
            "scoring_oldest_message_age_seconds", "Seconds the oldest message has waited; 0 if none waits.", labels=["queue"]
        )
        for queue in QUEUES:
            length.add_metric([queue], int(self._client.llen(queue)))
            since = waiting_since(self._client, queue)
            if since == UNKNOWN:
                continue  # the age is unknown, and an age of decades would be misleading
            age.add_metric([queue], max(time.time() - since.timestamp(), 0.0) if since is not None else 0)
        taken = GaugeMetricFamily("scoring_messages_in_hand", "Messages that workers have taken and not yet done.")
        taken.add_metric([], int(self._client.hlen(UNACKED)))
        return [length, age, taken]

    def _workers(self) -> Metric:
        workers = GaugeMetricFamily("scoring_workers", "Workers that take messages from this queue.", labels=["queue"])
        for queue, count in active_workers.workers_by_queue(self._client, QUEUES).items():
            workers.add_metric([queue], count)
        return workers

    def _memory(self) -> Iterator[Metric]:
        memory = self._client.info("memory")
        yield GaugeMetricFamily("scoring_redis_memory_bytes", "Memory that Redis uses, in bytes.", value=int(memory["used_memory"]))
        # absent without a limit, because a ratio to it would be infinite
        if limit := int(memory.get("maxmemory", 0)):
            yield GaugeMetricFamily("scoring_redis_memory_limit_bytes", "maxmemory of Redis in bytes; absent if unlimited.", value=limit)

    def _signs(self) -> list[Metric]:
        found: list[Metric] = []
        for name, key, what in (
            ("scoring_beat_age_seconds", heartbeat.BEAT, "Seconds since beat last sent a sweep."),
            ("scoring_sweep_age_seconds", heartbeat.SWEEP, "Seconds since a worker last finished a sweep."),
        ):
            seconds = heartbeat.seconds_since(self._client, key)
            if seconds is not None:
                found.append(GaugeMetricFamily(name, what, value=seconds))
        return found

    def _of_bucket(self) -> list[Metric]:
        ids = open_jobs(self._bucket)
        statuses = [inspect_job(self._bucket, job_id) for job_id in ids[:MAX_JOBS_READ]]
        states = Counter(status.state for status in statuses)
        states[JobState.QUEUED] += len(ids) - len(statuses)
        jobs = GaugeMetricFamily("scoring_jobs", "Jobs that have not ended, or whose notice was not sent yet.", labels=["state"])
        for state in sorted({*OPEN_STATES, *states}):
            jobs.add_metric([state], states[state])
        oldest = [status.job.created.timestamp() for status in statuses if isinstance(status, JobStatus) and status.state in OPEN_STATES]
        age = GaugeMetricFamily(
            "scoring_oldest_job_age_seconds", "Seconds since the oldest job that has not ended was requested; 0 if there is none."
        )
        age.add_metric([], max(time.time() - min(oldest), 0.0) if oldest else 0)
        return [jobs, age, *self._held(), *self._disk(), *self._schedule()]

    def _held(self) -> Iterator[Metric]:
        held = list(list_held(self._bucket))
        overdue = sum(result.is_overdue for result in held)
        yield GaugeMetricFamily("scoring_results_held", "Results that wait for a person to approve or refuse them.", value=len(held))
        yield GaugeMetricFamily("scoring_results_held_overdue", "Held results that wait for longer than hold_for.", value=overdue)

    def _disk(self) -> Iterator[Metric]:
        """Metrics of the bucket's disk; an object store has no limit."""
        if not isinstance(self._bucket, LocalBucket):
            return
        root = self._bucket.root
        # the folder is created with the first file
        disk = os.statvfs(next(folder for folder in (root, *root.parents) if folder.exists()))
        yield GaugeMetricFamily("scoring_bucket_disk_free_bytes", "Free bytes on the bucket's disk.", value=disk.f_bavail * disk.f_frsize)
        yield GaugeMetricFamily(
            "scoring_bucket_disk_size_bytes", "Size of the bucket's disk in bytes.", value=disk.f_blocks * disk.f_frsize
        )
        # some file systems create inodes on demand and report 0
        if disk.f_files:
            yield GaugeMetricFamily("scoring_bucket_disk_free_inodes", "Free inodes of the bucket's disk.", value=disk.f_favail)
            yield GaugeMetricFamily("scoring_bucket_disk_inodes", "Total inodes of the bucket's disk.", value=disk.f_files)

    def _schedule(self) -> list[Metric]:
        success = GaugeMetricFamily(
            "scoring_schedule_last_success_timestamp_seconds", "Unix time of the last successful run of the entry.", labels=["name"]
        )
        late = GaugeMetricFamily(
            "scoring_schedule_overdue_seconds",
            "Seconds by which the oldest run since the last success is late; 0 if none is.",
            labels=["name"],
        )
        now = datetime.now(UTC)
        for entry in read_entries(self._bucket)[0]:
            # an unreadable job is counted among the jobs
            with contextlib.suppress(PermanentError):
                if entry.enabled:
                    late.add_metric([entry.name], overdue(self._bucket, entry, now).total_seconds())
                    moment = last_success(self._bucket, entry, now)
                    if moment is not None:
                        success.add_metric([entry.name], moment.timestamp())
        return [success, late]


def _counts(counted: counters.Counters) -> Iterator[Metric]:
    yield CounterMetricFamily("scoring_chunks", "Chunks that were scored.", value=counted.chunks)
    yield CounterMetricFamily("scoring_rows", "Rows in scored chunks.", value=counted.rows)
    yield CounterMetricFamily("scoring_rejects", "Rejected rows in scored chunks.", value=counted.rejects)
    yield CounterMetricFamily("scoring_cache_hits", "Chunks whose release was in memory.", value=counted.releases_kept)
    yield CounterMetricFamily("scoring_cache_misses", "Chunks whose release was read from the bucket.", value=counted.releases_loaded)
    ended = CounterMetricFamily("scoring_jobs_ended", "Jobs that ended and whose notice was sent.", labels=["kind", "state"])
    # each series starts at 0: one that starts at 1 has not grown, and the first failure would raise no alert
    ends: dict[tuple[str, str], int] = {
        (kind, state): 0 for kind in KINDS for state in FINAL_STATES if (kind, state) != ("train", JobState.HELD)
    } | counted.ended
    for (kind, state), count in sorted(ends.items()):
        ended.add_metric([kind, state], count)
    yield ended
    checks = CounterMetricFamily(
        "scoring_guard_checks", "Checks of results before their publication on a channel.", labels=["channel", "check", "verdict"]
    )
    for labels, count in sorted(counted.guard.items()):
        checks.add_metric(labels, count)
    yield checks
    seconds = HistogramMetricFamily("scoring_chunk_seconds", "Seconds that each stage of a chunk took.", labels=["stage"])
    for stage, histogram in counted.stages.items():
        upto, buckets = 0, []
        for bound, count in zip([*map(str, counters.BOUNDS), "+Inf"], histogram.counts, strict=True):
            upto += count
            buckets.append((bound, float(upto)))
        seconds.add_metric([stage], buckets=buckets, sum_value=histogram.seconds)
    yield seconds


def registry(settings: Settings) -> CollectorRegistry:
    """A registry with the metrics of this product only."""
    found = CollectorRegistry()
    found.register(Scrape(connect_to_redis(settings.broker_url), open_bucket(settings.bucket_url, settings.signer)))
    return found


def serve(settings: Settings, host: str, port: int) -> tuple[Callable[[], None], threading.Thread]:
    """Serves the metrics; returns a function that stops the server, and its thread.

    Raises:
        RequestError: the address cannot be bound.
    """
    try:
        server, thread = start_http_server(port, host, registry(settings))
    except OSError as error:
        raise RequestError(
            f"the metrics cannot be served on {host}:{port}: {error.strerror or error}", next_step="Choose another with --port or --host."
        ) from error
    return server.shutdown, thread
