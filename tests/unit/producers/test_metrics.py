"""What Prometheus reads is what is in Redis and in the bucket, and it can tell nothing from not known."""

import json
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from producers.metrics import registry, serve
from shared import hint, pulse, tally
from shared.broker import make_app, send
from shared.bucket import LocalBucket
from shared.errors import RequestError
from shared.messages import JobOrder
from shared.routes import QUEUE_CONTROL, SCORE_PLAN
from shared.settings import Settings
from tests.conftest import free_port
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


def test_what_waits_and_its_age_are_told(settings):
    app = make_app(settings)
    for _ in range(3):
        send(app, SCORE_PLAN, [JobOrder(job_id="20261123t101500000z-score-9bfad3")])
    client = hint.connect(settings.broker_url)
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


def test_jobs_chunks_and_signs_are_told(settings, tmp_path):
    job = make_job(LocalBucket(tmp_path / "bucket")).job()
    client = hint.connect(settings.broker_url)
    pulse.leave_sign(client, pulse.BEAT)
    pulse.leave_sign(client, pulse.SWEEP)
    tally.count_chunk(client, rows=10, rejects=2, stages={"read": 0.02, "predict": 5.0}, release_was_kept=True)
    tally.count_end(client, "score", "failed")
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


def test_without_redis_the_bucket_is_still_told_and_no_queue_is_called_empty(no_redis_url, tmp_path):
    found = read(Settings(redis_url=no_redis_url, bucket_url=str(tmp_path / "bucket")))
    assert (found["scoring_up", "redis"], found["scoring_up", "bucket"]) == (0, 1)
    assert ("scoring_queue_length", "score") not in found
    assert found["scoring_jobs", "running"] == 0


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
