"""What Prometheus reads is what is in Redis and in the bucket, and it can tell nothing from not known."""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from producers.enqueue.deduplication import ScheduledRun
from producers.operations import metrics
from producers.operations.metrics import registry, serve
from producers.schedule.run_states import Since, find_entry, overdue
from producers.schedule.runs import Run
from producers.schedule.schedule_file import SCHEDULE
from shared.bucket.local import LocalBucket
from shared.errors import RequestError
from shared.jobs.folder import Outcome
from shared.jobs.messages import StepMessage
from shared.queue.backlog import INSPECTED_MESSAGES
from shared.queue.broker import make_app, send
from shared.queue.client import connect_to_redis
from shared.queue.routes import QUEUE_CONTROL, QUEUES, SCORE_PLAN, SWEEP
from shared.queue.state import active_workers, counters, heartbeat, progress
from shared.settings import Settings
from tests.conftest import REPOSITORY, free_port, wait_until
from tests.handmade import make_job

pytestmark = pytest.mark.server


@pytest.fixture
def settings(redis_url, tmp_path):
    return Settings(redis_url=redis_url, bucket_url=str(tmp_path / "bucket"))


def read(settings: Settings) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, in the order of their names."""
    port = free_port()
    stop, thread = serve(settings, "127.0.0.1", port)
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    finally:
        stop()
        thread.join(10)
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value for sample in samples}


def test_an_idle_stack_has_nothing_waiting(settings):
    found = read(settings)
    assert found["scoring_up", "redis"] == found["scoring_up", "bucket"] == 1
    assert {queue: found["scoring_queue_length", queue] for queue in ("control", "score", "train")} == dict.fromkeys(
        ("control", "score", "train"), 0
    )
    assert found["scoring_jobs", "queued"] == found["scoring_jobs", "running"] == 0
    assert ("scoring_beat_age_seconds",) not in found


def test_what_waits_and_its_age_are_measured(settings):
    app = make_app(settings)
    for _ in range(3):
        send(app, SCORE_PLAN, [StepMessage(job_id="20261123t101500000z-score-9bfad3")])
    client = connect_to_redis(settings.broker_url)
    # as if all had been sent a minute ago
    messages = [json.loads(message) for message in client.lrange(QUEUE_CONTROL, 0, -1)]
    client.delete(QUEUE_CONTROL)
    for message in messages:
        message["headers"]["sent_at"] -= 60
        client.rpush(QUEUE_CONTROL, json.dumps(message))
    client.hset("unacked", "one", "taken")
    found = read(settings)
    assert found["scoring_queue_length", "control"] == 3
    assert 60 <= found["scoring_oldest_message_age_seconds", "control"] < 120
    assert found["scoring_oldest_message_age_seconds", "score"] == 0
    assert found["scoring_messages_in_hand",] == 1


def test_jobs_chunks_and_signs_are_measured(settings, tmp_path):
    job = make_job(LocalBucket(tmp_path / "bucket")).job()
    client = connect_to_redis(settings.broker_url)
    heartbeat.update_heartbeat(client, heartbeat.BEAT)
    heartbeat.update_heartbeat(client, heartbeat.SWEEP)
    counts = counters.of_chunk(rows=10, rejects=2, stages={"read": 0.02, "predict": 5.0}, release_was_kept=True)
    progress.mark_part(client, job.job_id, 0, counts=counts, attempts="begun")
    counters.count_end(client, "score", "failed")
    found = read(settings)
    assert found["scoring_jobs", "queued"] == 1
    assert found["scoring_oldest_job_age_seconds",] == pytest.approx(time.time() - job.created.timestamp(), abs=10)
    assert (found["scoring_rows_total",], found["scoring_chunks_total",], found["scoring_rejects_total",]) == (10, 1, 2)
    assert found["scoring_jobs_ended_total", "score", "failed"] == 1
    assert found["scoring_chunk_seconds_bucket", "0.01", "read"] == 0
    assert found["scoring_chunk_seconds_bucket", "0.03", "read"] == found["scoring_chunk_seconds_bucket", "+Inf", "read"] == 1
    assert found["scoring_chunk_seconds_sum", "predict"] == 5
    assert found["scoring_chunk_seconds_count", "predict"] == 1
    assert found["scoring_beat_age_seconds",] < 10
    assert found["scoring_sweep_age_seconds",] < 10


def test_without_redis_the_bucket_is_still_reported_and_no_queue_is_called_empty(no_redis_url, tmp_path):
    found = read(Settings(redis_url=no_redis_url, bucket_url=str(tmp_path / "bucket")))
    assert (found["scoring_up", "redis"], found["scoring_up", "bucket"]) == (0, 1)
    assert ("scoring_queue_length", "score") not in found
    assert found["scoring_jobs", "running"] == 0


def test_every_end_is_counted_from_nothing_on(settings):
    found = read(settings)
    ends = {name: value for name, value in found.items() if name[0] == "scoring_jobs_ended_total"}
    states = [("score", state) for state in ("cancelled", "done", "failed", "held")] + [
        ("train", state) for state in ("cancelled", "done", "failed")
    ]
    assert ends == {("scoring_jobs_ended_total", *names): 0 for names in states}


def test_an_age_that_nobody_knows_is_left_out(settings):
    client = connect_to_redis(settings.broker_url)
    for _ in range(INSPECTED_MESSAGES):
        client.rpush(QUEUE_CONTROL, json.dumps({"headers": {"task": SWEEP, "sent_at": time.time()}}))
    found = read(settings)
    assert found["scoring_queue_length", "control"] == INSPECTED_MESSAGES
    assert ("scoring_oldest_message_age_seconds", "control") not in found
    assert found["scoring_oldest_message_age_seconds", "score"] == 0


@pytest.fixture
def slow(settings, tmp_path, monkeypatch):
    """A scrape whose bucket is as slow as the test wants: it answers while the event is set."""
    monkeypatch.setattr(metrics, "BUCKET_SECONDS", 0.2)
    scrape = metrics.Scrape(connect_to_redis(settings.broker_url), LocalBucket(tmp_path / "bucket"))
    may_answer = threading.Event()
    whole = scrape._bucket_scrape._ask

    def ask():
        may_answer.wait(30)
        return whole()

    scrape._bucket_scrape._ask = ask
    yield scrape, may_answer
    may_answer.set()


def samples_of(scrape):
    return {(sample.name, *sample.labels.values()): sample.value for family in scrape.collect() for sample in family.samples}


def test_a_bucket_that_hangs_holds_up_no_scrape_and_its_last_figures_are_reported_with_their_age(slow):
    scrape, may_answer = slow
    began = time.monotonic()
    first = samples_of(scrape)
    assert time.monotonic() - began < 5
    assert (first["scoring_up", "redis"], first["scoring_up", "bucket"]) == (1, 0)
    assert ("scoring_jobs", "queued") not in first
    assert ("scoring_bucket_figures_age_seconds",) not in first
    may_answer.set()
    wait_until(lambda: ("scoring_jobs", "queued") in samples_of(scrape), what="the look that was late")
    may_answer.clear()
    samples_of(scrape)
    late = samples_of(scrape)
    assert (late["scoring_up", "bucket"], late["scoring_jobs", "queued"]) == (1, 0)
    assert late["scoring_bucket_figures_age_seconds",] >= 0.3
    assert threading.active_count() < 20


def test_scrapes_that_come_while_the_bucket_hangs_begin_no_other_look(slow):
    scrape, _ = slow
    samples_of(scrape)
    before = {*threading.enumerate()}
    for _ in range(3):
        samples_of(scrape)
    assert {*threading.enumerate()} <= before


SIX = datetime(2026, 11, 23, 6, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ENTRY = {"name": "daily", "cron": "0 6 * * *", "time_zone": "UTC", "score": "data/predict/input/{date:%Y/%m/%d}", "model": "v1"}


@pytest.fixture
def scheduled(tmp_path):
    """The bucket, its only entry, which came into force five days before, and what ends one of its runs."""
    bucket = LocalBucket(tmp_path / "bucket")
    bucket.write(SCHEDULE, json.dumps([ENTRY]).encode())
    entry = find_entry(bucket, "daily")
    bucket.write(f"schedule/daily/{entry.timing}.json", Since(since=SIX - 5 * DAY).to_json())

    minutes = itertools.count()

    def end(run_at, state, monkeypatch):
        folder = make_job(bucket, minute=next(minutes))
        folder.write_outcome(Outcome(state=state, at=run_at + HOUR, definition="v1", release="", result="", next_step=""))
        key = Run(entry=entry, at=run_at).key
        whole = ScheduledRun.newest_job
        monkeypatch.setattr(ScheduledRun, "newest_job", lambda self, bucket: folder if self.key == key else whole(self, bucket))

    return bucket, entry, end


def test_a_run_is_overdue_from_the_moment_that_its_entry_calls_late(scheduled):
    bucket, entry, _ = scheduled
    first = SIX - 4 * DAY
    assert overdue(bucket, entry, first + entry.late_after - HOUR) == timedelta(0)
    assert overdue(bucket, entry, first + entry.late_after + HOUR) == HOUR


def test_the_oldest_run_since_the_last_success_is_the_one_that_counts(scheduled, monkeypatch):
    bucket, entry, end = scheduled
    now = SIX + entry.late_after + HOUR
    assert overdue(bucket, entry, now) == HOUR + 4 * DAY
    end(SIX - 2 * DAY, "done", monkeypatch)
    assert overdue(bucket, entry, now) == HOUR + DAY
    end(SIX, "failed", monkeypatch)
    assert overdue(bucket, entry, now) == HOUR + DAY
    end(SIX, "done", monkeypatch)
    assert overdue(bucket, entry, now) == timedelta(0)


def test_a_later_run_that_is_done_ends_the_alarm_before_it_is_late_itself(scheduled, monkeypatch):
    bucket, entry, end = scheduled
    now = SIX + 2 * HOUR
    assert overdue(bucket, entry, now) > timedelta(0)
    end(SIX, "done", monkeypatch)
    assert overdue(bucket, entry, now) == timedelta(0)


def test_an_entry_that_nobody_has_seen_yet_has_missed_nothing(tmp_path):
    bucket = LocalBucket(tmp_path)
    bucket.write(SCHEDULE, json.dumps([ENTRY]).encode())
    assert overdue(bucket, find_entry(bucket, "daily"), SIX + DAY) == timedelta(0)


@pytest.mark.parametrize("enabled", [True, False])
def test_only_entries_that_are_switched_on_are_reported(settings, tmp_path, enabled):
    bucket = LocalBucket(tmp_path / "bucket")
    bucket.write(SCHEDULE, json.dumps([ENTRY | {"enabled": enabled}]).encode())
    found = read(settings)
    assert [name for name in found if name[0].startswith("scoring_schedule")] == (
        [("scoring_schedule_overdue_seconds", "daily")] if enabled else []
    )


def test_sigterm_ends_it_as_it_must_for_the_first_process_of_a_container(settings, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "producers.cli", "metrics", "--port", str(port)]
    environment = os.environ | {"REDIS_URL": settings.broker_url, "BUCKET_URL": settings.bucket_url}
    serving = subprocess.Popen(command, env=environment, cwd=REPOSITORY)
    try:

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(answers, 60, "the metrics")
        serving.terminate()
        # not -15: the signal was heard, where the first process of a container would not have been ended by it
        assert serving.wait(20) == 0
    finally:
        serving.kill()
        serving.wait()


def test_the_memory_of_redis_and_the_disk_of_the_bucket_are_reported_with_their_ends(settings, tmp_path):
    client = connect_to_redis(settings.broker_url)
    found = read(settings)
    assert found["scoring_redis_memory_bytes",] > 100_000
    assert ("scoring_redis_memory_limit_bytes",) not in found
    client.config_set("maxmemory", "64mb")
    try:
        found = read(settings)
    finally:
        client.config_set("maxmemory", "0")
    assert found["scoring_redis_memory_limit_bytes",] == 64 << 20
    disk = shutil.disk_usage(tmp_path)
    assert found["scoring_bucket_disk_size_bytes",] == disk.total
    assert abs(found["scoring_bucket_disk_free_bytes",] - disk.free) < 0.2 * disk.total
    assert 0 < found["scoring_bucket_disk_free_inodes",] <= found["scoring_bucket_disk_inodes",]


def test_workers_are_counted_by_queue_and_none_is_said(settings):
    assert [read(settings)["scoring_workers", queue] for queue in QUEUES] == [0, 0, 0]
    active_workers.beat(connect_to_redis(settings.broker_url), "score@one", ["score", "train"])
    assert {queue: read(settings)["scoring_workers", queue] for queue in QUEUES} == {"control": 0, "score": 1, "train": 1}


def test_only_our_metrics_are_served(settings):
    assert {family.name.partition("_")[0] for family in registry(settings).collect()} == {"scoring"}


def test_a_port_that_is_taken_is_refused_in_one_sentence(settings):
    port = free_port()
    stop, thread = serve(settings, "127.0.0.1", port)
    try:
        with pytest.raises(RequestError, match=f"cannot be served on 127.0.0.1:{port}"):
            serve(settings, "127.0.0.1", port)
    finally:
        stop()
        thread.join(10)
