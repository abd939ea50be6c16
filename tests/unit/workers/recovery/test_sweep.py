"""The sweep looks at every open job and sends exactly what is missing, and no job that is broken keeps it from the others."""

import json
import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket
from shared.errors import BucketError
from shared.jobs.folder import JobFolder, Outcome, open_jobs
from shared.jobs.messages import ScoreJob, TrainJob
from shared.queue.routes import NOTIFY, SCORE_CHUNK, SCORE_FINISH, SCORE_PLAN, TRAIN_FIT
from tests.handmade import TABLE, plan, publish_handmade, row, score_chunks, write_table
from workers.recovery import sweep as recovery_sweep
from workers.recovery.sweep import CLOCKS_APART, Rules, Traffic, Turn, sweep
from workers.scoring import publishing
from workers.scoring.chunks import chunk

NO_GRACE = timedelta(0)
DAY = timedelta(hours=24)
LONG_AGO = datetime.fromtimestamp(0, UTC)
IDLE = Traffic(waiting_since=lambda _: None, are_leased=lambda names: [False] * len(names))


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(10)])
    return bucket


def job(bucket, number=1, kind="score", created=None, **more) -> JobFolder:
    created = created or datetime.now(UTC)
    if kind == "score":
        wanted = ScoreJob(job_id=f"job-{number}", created=created, model="v1", table=TABLE, place="2026/11/23", chunk_rows=4, **more)
    else:
        wanted = TrainJob(job_id=f"job-{number}", created=created, definition="v1", train=TABLE)
    folder = JobFolder(bucket, wanted.job_id)
    assert folder.create(wanted)
    return folder


def sent(bucket, traffic=IDLE, grace=NO_GRACE, deadline=DAY) -> list[tuple[str, str, list[int]]]:
    """What one sweep sends: task, job, and the chunks."""
    return [
        (missing.task, missing.messages[0].job_id, [message.index for message in missing.messages if missing.task == SCORE_CHUNK])
        for missing in sweep(bucket, traffic, Rules(grace=grace, deadline=deadline))
    ]


def make_older(folder, seconds=100) -> None:
    for file in folder.bucket.place(folder.path).rglob("*"):
        info = file.stat()
        os.utime(file, (info.st_atime - seconds, info.st_mtime - seconds))


# --- what is missing


def test_a_score_job_is_sent_what_it_lacks_from_its_beginning_to_its_end(bucket):
    folder = job(bucket)
    assert sent(bucket) == [(SCORE_PLAN, "job-1", [])]
    made = plan(folder)
    assert sent(bucket) == [(SCORE_CHUNK, "job-1", [0, 1, 2])]
    chunk.score_chunk(folder, made.chunk(1), ModelLibrary(folder.bucket, bucket.root))
    assert sent(bucket) == [(SCORE_CHUNK, "job-1", [0, 2])]
    score_chunks(folder, bucket.root)
    assert sent(bucket) == [(SCORE_FINISH, "job-1", [])]
    publishing.finish_job(folder)
    assert sent(bucket) == [(NOTIFY, "job-1", [])]
    bucket.delete(folder.file("published.json"))
    assert sent(bucket) == [(SCORE_FINISH, "job-1", [])]
    bucket.write(folder.file("notified.json"), b"{}")
    assert sent(bucket) == []
    assert open_jobs(bucket) == []


def test_a_train_job_is_sent_again_until_its_release_is_published(bucket):
    folder = job(bucket, kind="train")
    assert sent(bucket) == [(TRAIN_FIT, "job-1", [])]
    folder.write_outcome(Outcome(state="done", at=datetime.now(UTC), definition="v1"))
    assert sent(bucket) == [(TRAIN_FIT, "job-1", [])]
    bucket.write(folder.file("published.json"), b"{}")
    assert sent(bucket) == [(NOTIFY, "job-1", [])]


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_job_that_ended_badly_only_needs_its_notice(bucket, state):
    job(bucket).write_outcome(Outcome(state=state, at=datetime.now(UTC)))
    assert sent(bucket) == [(NOTIFY, "job-1", [])]


def test_a_part_that_was_taken_back_is_sent_again(bucket):
    folder = job(bucket)
    plan(folder)
    score_chunks(folder, bucket.root)
    bucket.place(folder.part_file(2, "csv.gz")).write_bytes(b"broken")
    assert publishing.finish_job(folder) is None
    assert sent(bucket) == [(SCORE_CHUNK, "job-1", [2])]


def test_the_oldest_job_comes_first_and_no_more_chunks_than_a_queue_likes(bucket, monkeypatch):
    monkeypatch.setattr(recovery_sweep, "CHUNKS_AT_ONCE", 2)
    for number in (3, 1, 2):
        plan(job(bucket, number))
    assert sent(bucket) == [(SCORE_CHUNK, f"job-{number}", [0, 1]) for number in (1, 2, 3)]


# --- what is on its way


def test_a_step_gets_its_time_before_it_is_sent_again(bucket):
    minute = timedelta(minutes=1)
    old = job(bucket, 2, created=datetime.now(UTC) - timedelta(minutes=5))
    assert sent(bucket, grace=timedelta(minutes=10)) == []
    assert sent(bucket, grace=minute) == [(SCORE_PLAN, "job-2", [])]
    assert sent(bucket, grace=minute) == [], "it was sent just now"
    made = plan(old)
    make_older(old)
    assert sent(bucket, grace=minute) == [], "the plan was made just now"
    chunk.score_chunk(old, made.chunk(0), ModelLibrary(old.bucket, bucket.root))
    assert sent(bucket) == [(SCORE_CHUNK, "job-2", [1, 2])]


def test_a_step_is_lost_only_when_nothing_as_old_waits_in_its_queue(bucket):
    job(bucket, created=datetime.now(UTC) - timedelta(minutes=5))

    def waiting(minutes):
        return Traffic(waiting_since=lambda _: datetime.now(UTC) - timedelta(minutes=minutes), are_leased=IDLE.are_leased)

    assert sent(bucket, traffic=waiting(6)) == []
    assert sent(bucket, traffic=waiting(5)) == []
    assert sent(bucket, traffic=waiting(3)) == [(SCORE_PLAN, "job-1", [])]


def test_chunks_that_wait_are_not_sent_again_where_the_clock_of_the_store_is_a_minute_late(bucket):
    folder = job(bucket)
    plan(folder)
    assert sent(bucket) == [(SCORE_CHUNK, "job-1", [0, 1, 2])]
    make_older(folder, seconds=CLOCKS_APART.total_seconds())  # as that store says when the sweep sent them
    waiting = Traffic(waiting_since=lambda _: datetime.now(UTC) - timedelta(seconds=1), are_leased=IDLE.are_leased)
    assert sent(bucket, traffic=waiting) == []


def test_a_worker_whose_clock_is_a_day_ahead_fails_no_job(bucket):
    job(bucket)
    ahead_of_redis = Rules(grace=NO_GRACE, deadline=DAY, now=datetime.now(UTC))  # what the clock of Redis shows, whatever the worker's own
    assert [missing.task for missing in sweep(bucket, IDLE, ahead_of_redis)] == [SCORE_PLAN]


def test_what_a_worker_wrote_whose_clock_is_a_day_ahead_waits_for_no_day(bucket):
    """Once, a process died in the first try of a notice, and the next one came when the time of its outcome had come: a day later."""
    minute, ahead = timedelta(minutes=1), datetime.now(UTC) + timedelta(hours=25)
    job(bucket).write_outcome(Outcome(state="failed", at=ahead))
    job(bucket, 2, created=ahead)
    assert sent(bucket, grace=minute) == [(NOTIFY, "job-1", []), (SCORE_PLAN, "job-2", [])]
    waiting = Traffic(waiting_since=lambda _: datetime.now(UTC) - 3 * minute, are_leased=IDLE.are_leased)
    assert sent(bucket, traffic=waiting, grace=minute) == [], "messages as old wait: these may be among them"


# --- many open jobs


class SlowStore(LocalBucket):
    """Answers each read after a while, as an object store does, and counts the jobs that were looked at."""

    is_remote = True

    def __init__(self, root):
        super().__init__(root)
        self.looked_at = []

    def read(self, path):
        if path.endswith("outcome.json"):
            self.looked_at.append(path.split("/")[1])
        time.sleep(0.02)
        return super().read(path)


def test_a_sweep_ends_in_its_time_and_the_next_one_goes_on_where_it_stopped(bucket):
    ids = [f"job-{number:03d}" for number in range(200)]
    for number in range(200):
        job(bucket, f"{number:03d}")
    store, turn, rounds = SlowStore(bucket.root), Turn(seconds=0.05), 0
    tasks = []
    while set(store.looked_at) != set(ids):
        before = len(store.looked_at)
        tasks += [missing.messages[0].job_id for missing in sweep(store, IDLE, Rules(grace=timedelta(seconds=3600), deadline=DAY), turn)]
        assert len(store.looked_at) - before < 200, "all of them at once"
        rounds += 1
        assert rounds < 200
    assert tasks == []
    assert rounds > 1


def test_a_turn_begins_after_the_job_that_was_looked_at_last_and_comes_to_the_others_too(bucket):
    for number in (1, 2, 3):
        job(bucket, number)
    turn = Turn(after="job-1")
    assert [missing.messages[0].job_id for missing in sweep(bucket, IDLE, Rules(grace=NO_GRACE, deadline=DAY), turn)] == [
        "job-2",
        "job-3",
        "job-1",
    ]
    assert turn.after == "", "all were looked at"
    gone = Turn(after="job-2x")  # that job ended meanwhile
    assert [mark.path[-1] for mark in gone.in_order(bucket.files("jobs/_open"))] == ["3", "1", "2"]


def test_an_outcome_gets_its_time_as_well(bucket):
    job(bucket).write_outcome(Outcome(state="failed", at=datetime.now(UTC) - timedelta(seconds=30)))
    assert sent(bucket, grace=timedelta(seconds=60)) == []
    assert sent(bucket, grace=timedelta(seconds=20)) == [(NOTIFY, "job-1", [])]


def test_nothing_is_sent_to_a_queue_that_is_not_empty(bucket):
    plan(job(bucket, 1))
    job(bucket, 2)
    job(bucket, 3, kind="train")
    for busy, expected in {
        "score": [(SCORE_PLAN, "job-2", []), (TRAIN_FIT, "job-3", [])],
        "control": [(SCORE_CHUNK, "job-1", [0, 1, 2]), (TRAIN_FIT, "job-3", [])],
        "train": [(SCORE_CHUNK, "job-1", [0, 1, 2]), (SCORE_PLAN, "job-2", [])],
    }.items():
        traffic = Traffic(waiting_since=lambda queue, busy=busy: LONG_AGO if queue == busy else None, are_leased=IDLE.are_leased)
        assert sent(bucket, traffic) == expected, busy


def test_a_step_that_somebody_works_on_is_not_sent_again(bucket):
    plan(job(bucket, 1))
    job(bucket, 2)
    held = {"score.chunk:job-1:1", "score.plan:job-2"}
    traffic = Traffic(waiting_since=lambda _: None, are_leased=lambda names: [name in held for name in names])
    assert sent(bucket, traffic) == [(SCORE_CHUNK, "job-1", [0, 2])]


# --- what goes no further


@pytest.mark.parametrize("kind", ["score", "train"])
def test_a_job_past_its_deadline_is_failed_and_people_are_notified(bucket, kind):
    folder = job(bucket, kind=kind, created=datetime.now(UTC) - timedelta(hours=25))
    assert NOTIFY not in [task for task, _, _ in sent(bucket)], "it was asked for, or let go on, just now"
    mark = bucket.place("jobs/_open/job-1")
    os.utime(mark, (mark.stat().st_atime, mark.stat().st_mtime - 25 * 3600))
    assert sent(bucket) == [(NOTIFY, "job-1", [])]
    outcome = folder.outcome()
    assert (outcome.state, outcome.reason, outcome.exit_code) == ("failed", "the job did not end within 24 hours", 5)
    assert outcome.next_step == "Go on from what is there with: scoring jobs resume job-1"
    assert sent(bucket) == [(NOTIFY, "job-1", [])]
    assert folder.outcome() == outcome


def test_a_job_that_is_done_has_no_deadline(bucket):
    folder = job(bucket, created=datetime.now(UTC) - timedelta(days=30))
    plan(folder)
    score_chunks(folder, bucket.root)
    publishing.finish_job(folder)
    assert sent(bucket) == [(NOTIFY, "job-1", [])]
    assert folder.outcome().state == "done"


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("job.json", b'{"format": 2, "kind": "score"}', "a ScoreJob has format 2 but this version reads format 1; upgrade the older side"),
        ("job.json", b"", "a ScoreJob has a wrong text"),
        ("job.json", b"[" * 70_000, "a ScoreJob message is 70,000 bytes long"),
        ("plan.json", b'{"format": 9}', "the plan of job job-1 is damaged: a Plan has format 9"),
        ("plan.json", b"\x00", "the plan of job job-1 is damaged: a Plan has a wrong text"),
    ],
)
def test_a_job_whose_files_do_not_decode_is_failed_with_the_reason_and_the_others_go_on(bucket, file, content, sentence):
    broken = job(bucket, 1)
    job(bucket, 2)
    bucket.write(broken.file(file), content)
    assert sent(bucket) == [(NOTIFY, "job-1", []), (SCORE_PLAN, "job-2", [])]
    assert broken.outcome().state == "failed"
    assert broken.outcome().reason.startswith(sentence)
    assert broken.outcome().exit_code == 2
    assert sent(bucket) == [(NOTIFY, "job-1", []), (SCORE_PLAN, "job-2", [])]


def test_a_job_file_that_belongs_to_another_job_is_failed(bucket):
    first, second = job(bucket, 1), job(bucket, 2)
    bucket.write(second.file("job.json"), bucket.read(first.file("job.json")))
    assert sent(bucket) == [(SCORE_PLAN, "job-1", []), (NOTIFY, "job-2", [])]
    assert second.outcome().reason == "the job file of job-2 says that it is job job-1"


@pytest.mark.parametrize("name", ["UPPER", "x", "-", "a b", "%2e%2e", "ünï", "j" * 120])
def test_a_mark_that_is_no_job_id_does_not_stop_the_sweep(bucket, name):
    bucket.write(f"jobs/_open/{name}", b"")
    bucket.write(f"jobs/{name}/job.json", b"{}")
    job(bucket, "zzz")
    assert sent(bucket) == [(SCORE_PLAN, "job-zzz", [])]


def test_a_job_whose_outcome_is_damaged_has_failed_and_people_are_notified(bucket):
    bucket.write(job(bucket, 1).file("outcome.json"), b"half of it")
    job(bucket, 2)
    assert sent(bucket) == [(NOTIFY, "job-1", []), (SCORE_PLAN, "job-2", [])]


def test_a_file_that_cannot_be_read_does_not_keep_the_sweep_from_the_jobs_after_it(bucket, monkeypatch):
    job(bucket, 1)
    job(bucket, 2)
    read = bucket.read

    def failing(path):
        if "job-1" in path:
            raise BucketError(f"{path} in the bucket could not be read: Input/output error")
        return read(path)

    monkeypatch.setattr(bucket, "read", failing)
    assert sent(bucket) == [(SCORE_PLAN, "job-2", [])]
    monkeypatch.undo()
    assert len(sent(bucket)) == 2


def test_a_mark_whose_request_was_never_written_goes_after_an_hour_and_not_before(bucket):
    bucket.write("jobs/_open/job-1", b"")
    assert sent(bucket) == []
    assert open_jobs(bucket) == ["job-1"]
    mark = bucket.place("jobs/_open/job-1")
    os.utime(mark, (mark.stat().st_mtime - 4000,) * 2)
    assert sent(bucket) == []
    assert open_jobs(bucket) == []
    assert not bucket.exists("jobs/job-1/outcome.json")


def test_two_sweeps_at_once_send_the_same_and_change_nothing(bucket):
    plan(job(bucket, 1))
    later = datetime.now(UTC) + timedelta(seconds=1)
    first, second = (sweep(bucket, IDLE, Rules(grace=NO_GRACE, deadline=DAY, now=later)) for _ in range(2))
    assert next(first).messages == next(second).messages
    assert next(first, None) is next(second, None) is None


def test_an_empty_bucket_needs_nothing(tmp_path):
    assert sent(LocalBucket(tmp_path / "nothing")) == []


def test_what_the_sweep_writes_is_what_a_person_reads(bucket):
    folder = job(bucket)
    bucket.write(folder.file("job.json"), b"{}")
    sent(bucket)
    assert json.loads(bucket.read(folder.file("outcome.json")))["next_step"]
