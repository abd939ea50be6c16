"""Whoever follows a job that nobody takes is told where it was asked for."""

import io
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from producers import follow
from shared.bucket import LocalBucket
from shared.errors import JobFailedError
from tests.handmade import make_job


def test_the_hint_names_the_bucket_and_the_redis_without_its_password(tmp_path, monkeypatch, no_redis_url):
    bucket = LocalBucket(tmp_path / "bucket")
    folder = make_job(bucket)
    monkeypatch.setattr(follow, "PATIENCE_SECONDS", 0)
    pauses: list[float] = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            folder.cancel()

    monkeypatch.setattr(follow, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pause))
    said = io.StringIO()
    address = no_redis_url.replace("//", "//:hunter2@")
    with pytest.raises(JobFailedError, match="cancelled"):
        follow.follow(bucket, folder.job_id, address, Console(file=said, width=80))
    [line] = [line for line in said.getvalue().splitlines() if line.startswith("No worker")]
    assert line.startswith(f"No worker has taken the job yet, asked through the bucket {bucket.url} and the Redis at redis://:**@")
    assert line.endswith("or for another BUCKET_URL or REDIS_URL? Start a local stack with: scoring up")
    assert "hunter2" not in line
