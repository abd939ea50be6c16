"""The step of the daily round that a worker makes."""

import os
import time

import pytest
import redis

from shared.announcements import untold
from shared.bucket import LocalBucket
from shared.retention.config import RETENTION
from shared.retention.round import PROGRESS, read_progress
from tests.conftest import own_server
from tests.handmade import TABLE, make_job, publish_handmade, row, run_job, write_table
from workers import tasks
from workers.leases import leased
from workers.removing import make_step


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(5)], TABLE)
    folder = make_job(bucket)
    run_job(folder)
    bucket.write(folder.file("notified.json"), b"{}")
    folder.close(folder.outcome())
    for file in bucket.place(folder.path).rglob("*"):
        os.utime(file, (time.time() - 86400 * 2,) * 2)
    return bucket


def test_a_step_writes_tombstones_once_a_day(bucket):
    make_step(bucket)
    progress = read_progress(bucket)
    assert (progress.phase, progress.marked, progress.removed) == ("", 1, 0)
    assert len(bucket.files("gc/tombstones")) == 1
    before = bucket.stat(PROGRESS)
    make_step(bucket)
    assert bucket.stat(PROGRESS) == before


@pytest.mark.server
def test_one_process_at_a_time_makes_a_step(bucket, tmp_path, monkeypatch):
    with own_server(tmp_path) as url, redis.Redis.from_url(url) as client:
        monkeypatch.setattr(tasks, "redis_client", lambda: client)
        monkeypatch.setattr(tasks, "bucket", lambda: bucket)
        with leased(client, "gc"):
            tasks.gc()
            assert read_progress(bucket) is None
        tasks.gc({"what": "somebody else sent"}, more=1)
    assert read_progress(bucket).phase == ""


def test_rules_that_cannot_be_used_remove_nothing_and_people_are_told_once(bucket):
    bucket.write(RETENTION, b"jobs: {dnoe: 1d}")
    make_step(bucket)
    make_step(bucket)
    assert bucket.tree("gc") == []
    [told] = untold(bucket)
    notice = told.notice()
    assert not notice.good
    assert "there is no key 'jobs.dnoe'" in notice.facts["reason"]
    bucket.write(RETENTION, b"jobs: {doen: 1d}")
    make_step(bucket)
    assert len(untold(bucket)) == 2, "another mistake is told of as well"


def test_a_bucket_that_fails_ends_the_step_quietly(bucket):
    bucket.place("jobs").chmod(0o000)
    try:
        make_step(bucket)
    finally:
        bucket.place("jobs").chmod(0o700)
    make_step(bucket)
    assert len(bucket.files("gc/tombstones")) == 1
