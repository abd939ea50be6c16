"""``scoring metrics``: what an operator watches, for Prometheus, from one small process that asks Redis and the bucket at each scrape.

Where Redis or the bucket does not answer, that is a metric too, and what it would have told is left out: an alarm can tell
"nothing waits" from "nobody knows". A bucket that is slow holds up no scrape: the figures of the last look are told, with their age.
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

from producers.schedule.run_states import last_success, overdue, read_entries
from shared.bucket.interface import Bucket
from shared.bucket.local import LocalBucket
from shared.bucket.opening import open_bucket
from shared.errors import PermanentError, RequestError, TransientError
from shared.jobs.folder import JobStatus, inspect_job, open_jobs
from shared.jobs.states import FINAL_STATES, OPEN_STATES, JobState
from shared.queue import active_workers, counters, heartbeat, progress
from shared.queue.backlog import UNKNOWN, waiting_since
from shared.queue.routes import QUEUES
from shared.settings import Settings

UNACKED = "unacked"
"""Redis hash of the messages that workers have taken and not yet acknowledged; kombu's name for it."""

KINDS = ("score", "train")
JOBS_LOOKED_AT = 200
"""Open jobs that are opened at a scrape, the oldest first; of more only the number is told."""
BUCKET_SECONDS = 5.0
"""So long a scrape waits for the bucket; Prometheus gives up after ten, and then knows nothing at all."""


@dataclass(frozen=True, kw_only=True)
class Scraped:
    """What one look at Redis, or at the bucket, found."""

    metrics: list[Metric]
    answered: bool
    took_seconds: float
    ended: float
    """By the monotonic clock."""


def scrape(ask: Callable[[], list[Metric]]) -> Scraped:
    """Ask once; what does not answer is found too."""
    began = time.monotonic()
    try:
        metrics, answered = ask(), True
    except (redis.RedisError, TransientError, OSError):
        metrics, answered = [], False
    ended = time.monotonic()
    return Scraped(metrics=metrics, answered=answered, took_seconds=ended - began, ended=ended)


class BackgroundScrape:
    """Looks in a thread of its own, one look at a time, and always knows what the last one found."""

    def __init__(self, ask: Callable[[], list[Metric]]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._last: Scraped | None = None

    def begin(self) -> None:
        """Begin a look, unless one goes on."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="look", daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> Scraped | None:
        """The last look that has ended, which is the one begun if it ends in time; None when none ever has."""
        if self._thread is not None:
            self._thread.join(max(seconds, 0.0))
        return self._last

    def _run(self) -> None:
        self._last = scrape(self._ask)


class Scrape(Collector):
    """Asks Redis and the bucket anew each time Prometheus comes."""

    def __init__(self, client: redis.Redis, bucket: Bucket) -> None:
        self._client, self._bucket = client, bucket
        self._bucket_look = BackgroundScrape(self._of_bucket)

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("scoring_up", "1 where it answers.", labels=["what"])
        took = GaugeMetricFamily("scoring_scrape_seconds", "How long it took to ask.", labels=["what"])
        age = GaugeMetricFamily("scoring_bucket_figures_age_seconds", "Since the bucket was looked at; what it told is as old.")
        began = time.monotonic()
        self._bucket_look.begin()
        looks = {"redis": scrape(self._of_redis), "bucket": self._bucket_look.wait(began + BUCKET_SECONDS - time.monotonic())}
        for what, found in looks.items():
            up.add_metric([what], int(found is not None and found.answered))
            if found is not None:
                took.add_metric([what], found.took_seconds)
                yield from found.metrics
        if (found := looks["bucket"]) is not None:
            age.add_metric([], time.monotonic() - found.ended)
        yield up
        yield took
        yield age

    def _of_redis(self) -> list[Metric]:
        return [*self._queues(), self._workers(), *self._memory(), *self._signs(), *_counts(counters.read_counters(self._client))]

    def _queues(self) -> list[Metric]:
        length = GaugeMetricFamily("scoring_queue_length", "Messages that wait.", labels=["queue"])
        age = GaugeMetricFamily("scoring_oldest_message_age_seconds", "Age of the message that waits longest; 0: none.", labels=["queue"])
        for queue in QUEUES:
            length.add_metric([queue], int(self._client.llen(queue)))
            since = waiting_since(self._client, queue)
            if since == UNKNOWN:
                continue  # an age of decades would tell nobody anything
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
        yield GaugeMetricFamily("scoring_redis_memory_bytes", "Memory that Redis uses.", value=int(memory["used_memory"]))
        # absent without a limit: a share of nothing would be infinite
        if limit := int(memory.get("maxmemory", 0)):
            yield GaugeMetricFamily("scoring_redis_memory_limit_bytes", "Its maxmemory; absent without one.", value=limit)

    def _signs(self) -> list[Metric]:
        found: list[Metric] = []
        for name, key, what in (
            ("scoring_beat_age_seconds", heartbeat.BEAT, "Since beat last sent a sweep."),
            ("scoring_sweep_age_seconds", heartbeat.SWEEP, "Since a worker last ended a sweep."),
        ):
            seconds = heartbeat.seconds_since(self._client, key)
            if seconds is not None:
                found.append(GaugeMetricFamily(name, what, value=seconds))
        return found

    def _of_bucket(self) -> list[Metric]:
        ids = open_jobs(self._bucket)
        statuses = [inspect_job(self._bucket, job_id) for job_id in ids[:JOBS_LOOKED_AT]]
        states = Counter(status.state for status in statuses)
        states[JobState.QUEUED] += len(ids) - len(statuses)
        jobs = GaugeMetricFamily("scoring_jobs", "Jobs that have not ended, or of whose end people were not told yet.", labels=["state"])
        for state in sorted({*OPEN_STATES, *states}):
            jobs.add_metric([state], states[state])
        oldest = [status.job.created.timestamp() for status in statuses if isinstance(status, JobStatus) and status.state in OPEN_STATES]
        age = GaugeMetricFamily("scoring_oldest_job_age_seconds", "Age of the oldest job that has not ended; 0: none.")
        age.add_metric([], max(time.time() - min(oldest), 0.0) if oldest else 0)
        return [jobs, age, *self._disk(), *self._schedule()]

    def _disk(self) -> Iterator[Metric]:
        """Of a bucket on a disk; an object store has no end."""
        if not isinstance(self._bucket, LocalBucket):
            return
        root = self._bucket.root
        # it is made with the first file
        disk = os.statvfs(next(folder for folder in (root, *root.parents) if folder.exists()))
        yield GaugeMetricFamily("scoring_bucket_disk_free_bytes", "Room on the disk of the bucket.", value=disk.f_bavail * disk.f_frsize)
        yield GaugeMetricFamily("scoring_bucket_disk_size_bytes", "Size of the disk of the bucket.", value=disk.f_blocks * disk.f_frsize)
        # some file systems make inodes as they need them, and say 0
        if disk.f_files:
            yield GaugeMetricFamily(
                "scoring_bucket_disk_free_inodes", "Files that the disk of the bucket can still take.", value=disk.f_favail
            )
            yield GaugeMetricFamily("scoring_bucket_disk_inodes", "Files that it can take at all.", value=disk.f_files)

    def _schedule(self) -> list[Metric]:
        success = GaugeMetricFamily(
            "scoring_schedule_last_success_timestamp_seconds", "When a run of this entry was done last.", labels=["name"]
        )
        late = GaugeMetricFamily(
            "scoring_schedule_overdue_seconds", "How long the oldest run since the last success is late; 0: none is.", labels=["name"]
        )
        now = datetime.now(UTC)
        for entry in read_entries(self._bucket)[0]:
            # a job that cannot be read is told of among the jobs
            with contextlib.suppress(PermanentError):
                if entry.enabled:
                    late.add_metric([entry.name], overdue(self._bucket, entry, now).total_seconds())
                    moment = last_success(self._bucket, entry, now)
                    if moment is not None:
                        success.add_metric([entry.name], moment.timestamp())
        return [success, late]


def _counts(counted: counters.Counters) -> Iterator[Metric]:
    yield CounterMetricFamily("scoring_chunks", "Chunks that were scored.", value=counted.chunks)
    yield CounterMetricFamily("scoring_rows", "Rows of them.", value=counted.rows)
    yield CounterMetricFamily("scoring_rejects", "Rows of them that could not be scored.", value=counted.rejects)
    yield CounterMetricFamily("scoring_cache_hits", "Chunks whose release was in memory.", value=counted.releases_kept)
    yield CounterMetricFamily("scoring_cache_misses", "Chunks whose release was read from the bucket.", value=counted.releases_loaded)
    ended = CounterMetricFamily("scoring_jobs_ended", "Jobs that people were told of.", labels=["kind", "state"])
    # each from the start: a series that begins with 1 has not grown, so nobody would be told of the first failure
    ends: dict[tuple[str, str], int] = {(kind, state): 0 for kind in KINDS for state in FINAL_STATES} | counted.ended
    for (kind, state), count in sorted(ends.items()):
        ended.add_metric([kind, state], count)
    yield ended
    seconds = HistogramMetricFamily("scoring_chunk_seconds", "How long each stage of a chunk took.", labels=["stage"])
    for stage, histogram in counted.stages.items():
        upto, buckets = 0, []
        for bound, count in zip([*map(str, counters.BOUNDS), "+Inf"], histogram.counts, strict=True):
            upto += count
            buckets.append((bound, float(upto)))
        seconds.add_metric([stage], buckets=buckets, sum_value=histogram.seconds)
    yield seconds


def registry(settings: Settings) -> CollectorRegistry:
    """What is served: our metrics and no others."""
    found = CollectorRegistry()
    found.register(Scrape(progress.connect(settings.broker_url), open_bucket(settings.bucket_url, settings.signer)))
    return found


def serve(settings: Settings, host: str, port: int) -> tuple[Callable[[], None], threading.Thread]:
    """Serve the metrics; returns what stops it, and its thread.

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
