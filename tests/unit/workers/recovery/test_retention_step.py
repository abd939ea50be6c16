"""The step of the daily round that a worker makes."""

import os
import time
from datetime import UTC, datetime, timedelta

import pytest
import redis

from shared.bucket.local import LocalBucket
from shared.jobs.outbox import undelivered
from shared.queue.state import heartbeat
from shared.queue.state.leases import leased
from shared.queue.state.stacks import OwnStack
from shared.retention.config import RETENTION
from shared.retention.round import PROGRESS, read_progress
from tests.conftest import own_server
from tests.handmade import TABLE, make_job, publish_handmade, row, run_job, tree, write_table
from workers.recovery import retention
from workers.recovery.retention import make_step
from workers.tasks import context, delivering, maintenance


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(5)], TABLE)
    folder = make_job(bucket)
    run_job(folder)
    bucket.write(folder.file("notified.json"), b"{}")
    folder.remove_open_mark(folder.outcome())
    for file in bucket.place(folder.path).rglob("*"):
        os.utime(file, (time.time() - 86400 * 2,) * 2)
    return bucket


def test_a_step_writes_tombstones_once_a_day(bucket):
    make_step(bucket, datetime.now(UTC))
    progress = read_progress(bucket)
    assert (progress.phase, progress.marked, progress.removed) == ("", 1, 0)
    assert len(bucket.files("gc/tombstones")) == 1
    before = bucket.stat(PROGRESS)
    make_step(bucket, datetime.now(UTC))
    assert bucket.stat(PROGRESS) == before


@pytest.mark.server
def test_one_process_at_a_time_makes_a_step(bucket, tmp_path, monkeypatch):
    with own_server(tmp_path) as url, redis.Redis.from_url(url) as client:
        monkeypatch.setattr(context, "redis_client", lambda: client)
        monkeypatch.setattr(context, "bucket", lambda: bucket)
        with leased(client, "gc"):
            maintenance.gc()
            assert read_progress(bucket) is None
        maintenance.gc({"what": "somebody else sent"}, more=1)
    assert read_progress(bucket).phase == ""


class DayAhead(datetime):
    """The clock of a worker that is 25 hours ahead."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(hours=25)


@pytest.mark.server
def test_a_worker_whose_clock_is_a_day_ahead_removes_nothing_that_was_just_marked(bucket, redis_url, monkeypatch):
    client = redis.Redis.from_url(redis_url)
    monkeypatch.setattr(context, "redis_client", lambda: client)
    monkeypatch.setattr(context, "bucket", lambda: bucket)
    monkeypatch.setattr(context, "stack", lambda: OwnStack(bucket, client, ""))
    maintenance.gc()
    assert read_progress(bucket).marked == 1
    files = tree(bucket.place("jobs"))
    monkeypatch.setattr(retention, "datetime", DayAhead)
    for _ in range(3):
        maintenance.gc()
    assert tree(bucket.place("jobs")) == files


@pytest.mark.server
def test_a_mark_of_a_notice_is_no_orphan_to_a_worker_whose_clock_is_ahead(bucket, redis_url, monkeypatch):
    client = redis.Redis.from_url(redis_url)
    monkeypatch.setattr(context, "bucket", lambda: bucket)
    monkeypatch.setattr("time.time", lambda: 4e9)
    bucket.write("notices/_open/half", b"")
    delivering.deliver_announced(client, heartbeat.time_of(client))
    assert len(undelivered(bucket)) == 1


def test_rules_that_cannot_be_used_remove_nothing_and_people_are_notified_once(bucket):
    bucket.write(RETENTION, b"jobs: {dnoe: 1d}")
    make_step(bucket, datetime.now(UTC))
    make_step(bucket, datetime.now(UTC))
    assert bucket.tree("gc") == []
    [announced] = undelivered(bucket)
    notice = announced.notice()
    assert not notice.good
    assert "there is no key 'jobs.dnoe'" in notice.facts["reason"]
    bucket.write(RETENTION, b"jobs: {doen: 1d}")
    make_step(bucket, datetime.now(UTC))
    assert len(undelivered(bucket)) == 2, "another mistake is reported as well"


def test_a_bucket_that_fails_ends_the_step_quietly(bucket):
    bucket.place("jobs").chmod(0o000)
    try:
        make_step(bucket, datetime.now(UTC))
    finally:
        bucket.place("jobs").chmod(0o700)
    make_step(bucket, datetime.now(UTC))
    assert len(bucket.files("gc/tombstones")) == 1
