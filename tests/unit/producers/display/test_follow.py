"""Following a job that nobody takes shows where it was requested."""

import io
import re
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from producers.display import follow
from shared.bucket.local import LocalBucket
from shared.errors import BrokerError, JobFailedError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import TrainJob
from tests.handmade import NOON, make_job


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


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The seconds of a clock that goes only while the follower sleeps, and what is done at each of its looks."""
    now = [0.0]
    monkeypatch.setattr(follow, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + seconds)))
    return now


def test_without_redis_the_waiting_says_so_without_a_terminal_and_ends_after_some_time(tmp_path, no_redis_url, clock):
    bucket = LocalBucket(tmp_path / "bucket")
    folder = make_job(bucket)
    said = io.StringIO()
    with pytest.raises(BrokerError) as raised:
        follow.follow(bucket, folder.job_id, no_redis_url, Console(file=said, width=220))
    assert follow.GIVE_UP_SECONDS <= clock[0] < follow.GIVE_UP_SECONDS + 2
    assert raised.value.exit_code == 6
    assert f"has not answered for 120 s, and nothing was seen of job {folder.job_id} meanwhile" in raised.value.message
    assert raised.value.next_step.endswith(f"scoring jobs show {folder.job_id} --follow")
    assert said.getvalue().count(f"{follow.NO_REDIS}. It was asked at {no_redis_url}") == 1


def test_a_job_that_moves_without_redis_is_followed_on(tmp_path, no_redis_url, clock, monkeypatch):
    bucket = LocalBucket(tmp_path / "bucket")
    folder = make_job(bucket)

    def sleep(seconds):
        clock.append(clock.pop() + seconds)
        folder.write_stage(f"still at it {clock[0] // 60}")
        if clock[0] > 3 * follow.GIVE_UP_SECONDS:
            folder.cancel()

    monkeypatch.setattr(follow.time, "sleep", sleep)
    with pytest.raises(JobFailedError, match="cancelled"):
        follow.follow(bucket, folder.job_id, no_redis_url, Console(file=io.StringIO(), width=220))


def test_a_redis_that_comes_back_is_said(tmp_path, no_redis_url, clock, monkeypatch):
    bucket = LocalBucket(tmp_path / "bucket")
    folder = make_job(bucket)
    monkeypatch.setattr(follow, "_rows", lambda *_: 0 if clock[0] > 20 else None)

    def sleep(seconds):
        clock.append(clock.pop() + seconds)
        if clock[0] > 30:
            folder.cancel()

    monkeypatch.setattr(follow.time, "sleep", sleep)
    said = io.StringIO()
    with pytest.raises(JobFailedError, match="cancelled"):
        follow.follow(bucket, folder.job_id, no_redis_url, Console(file=said, width=220))
    lines = said.getvalue().splitlines()
    away = next(number for number, line in enumerate(lines) if line.startswith(follow.NO_REDIS))
    assert lines.index(f"Redis at {no_redis_url} answers again") > away


def test_a_search_is_followed_by_its_candidate_folds_and_the_best_so_far(tmp_path):
    bucket = LocalBucket(tmp_path / "bucket")
    job = TrainJob(job_id="job-1", created=NOON, definition="v2", train="data/train/train.csv", config="jobs/job-1/params.yaml")
    folder = JobFolder(bucket, job.job_id)
    folder.create(job)
    assert follow._describe(folder.status()) == ("waits for a worker", "")
    bucket.write(folder.file("waves/0001.json"), b'{"expected": 72}')
    bucket.write(folder.file("candidates/0001.01.json"), b"{}")
    folder.write_stage("best so far 0.21342 on 1 of 3 folds: num_leaves 15")
    assert follow._describe(folder.status()) == ("1 of 72 candidate folds", "best so far 0.21342 on 1 of 3 folds: num_leaves 15")
    # fewer are expected once some candidates were stopped
    bucket.write(folder.file("waves/0002.json"), b'{"expected": 40}')
    assert (folder.status().chunks, folder.status().chunks_done, folder.status().state) == (40, 1, "running")
    for damage in (b"{", b"[]", b'{"expected": "many"}'):
        bucket.write(folder.file("waves/0002.json"), damage)
        assert folder.status().chunks == 0


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize(
    "description", ["120 of 120 candidate folds", "reading data/train/2026/11/25/" + "a-long-name-of-a-table" * 5 + ".csv.gz"]
)
def test_bar_percentage_and_times_are_seen_however_much_there_is_to_say(width, description):
    said = io.StringIO()
    console = Console(file=said, width=width, force_terminal=True, color_system=None)
    display = follow._Display(console)
    parameters = ", ".join(f"parameter_{number} 0.0123" for number in range(9))
    standing = f"best so far 0.21335 on 1 of 1 folds: {parameters}"
    display.update(display.task_ids[0], description=description, total=120, completed=60, rate="", standing=standing)
    console.print(display.get_renderable())
    bar, standing = said.getvalue().splitlines()
    assert re.search(r" ━{12} {13,} 50% +0:00:00 -:--:-- *$", bar), bar
    assert bar.startswith(f"⠋ {description} ") or (bar.startswith("⠋ reading data/train/2026/") and "… ━" in bar)
    assert standing.startswith("  best so far 0.21335 on 1 of 1 folds: parameter_0 0.0123")
    assert standing.endswith("…")
