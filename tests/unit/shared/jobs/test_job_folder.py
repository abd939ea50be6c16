"""A job's folder is its whole state: what happened to a job is read from its files, and decided once."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from shared.bucket.local import LocalBucket
from shared.errors import BucketError, JobFailedError, MessageError, RequestError
from shared.jobs.folder import JobFolder, Outcome, close_job, inspect_job, list_jobs, open_jobs
from shared.jobs.messages import ScoreJob, TrainJob

MOMENT = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)
LATER = datetime(2026, 11, 23, 11, 0, tzinfo=UTC)


@pytest.fixture
def bucket(tmp_path):
    return LocalBucket(tmp_path / "bucket")


def score_job(job_id="20261123t101500z-4f1d"):
    return ScoreJob(job_id=job_id, created=MOMENT, model="v1", table="data/table.csv", place="2026/11/23")


@pytest.fixture
def folder(bucket):
    job = score_job()
    folder = JobFolder(bucket, job.job_id)
    assert folder.create(job)
    return folder


def put_plan(folder, chunks=3):
    folder.bucket.write(folder.file("plan.json"), json.dumps({"chunks": [[0, 0, 1, 2]] * chunks}).encode())


def put_parts(folder, *numbers):
    for number in numbers:
        folder.bucket.write(folder.part_file(number, "csv.gz"), b"rows")
        folder.bucket.write(folder.part_file(number, "rejects.csv.gz"), b"rejects")
        folder.bucket.write(folder.part_file(number, "json"), b"{}")


def outcome(state="done", **more):
    return Outcome(state=state, at=LATER, **more)


# --- the request


def test_the_request_that_was_written_is_read(folder):
    assert folder.job() == score_job()
    assert folder.path == "jobs/20261123t101500z-4f1d"


def test_the_same_request_twice_is_one_job(folder):
    assert folder.create(score_job()) is False
    assert list(list_jobs(folder.bucket)) == [folder.job_id]


def test_of_eight_requests_at_once_one_is_the_job(bucket):
    job = score_job()
    start = threading.Barrier(8)

    def create(_):
        start.wait()
        return JobFolder(bucket, job.job_id).create(job)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create, range(8))) == [False] * 7 + [True]


def test_a_job_that_was_never_written_is_unknown(bucket):
    folder = JobFolder(bucket, "20261123t101500z-none")
    for ask in (folder.job, folder.status, folder.cancel):
        with pytest.raises(RequestError, match="there is no job 20261123t101500z-none") as caught:
            ask()
        assert "scoring jobs list" in caught.value.next_step
    assert folder.outcome() is None
    assert not folder.has("outcome.json")


@pytest.mark.parametrize("job_id", ["", "../x", "a/b", "/etc", "UPPER", "..", "a\0b", "x" * 101])
def test_a_job_id_that_could_leave_the_folder_of_jobs_is_refused(bucket, job_id):
    with pytest.raises(MessageError, match="is not the id of a job"):
        JobFolder(bucket, job_id)


def test_a_job_file_that_lies_in_the_folder_of_another_job_is_refused(folder):
    other = JobFolder(folder.bucket, "20261123t101500z-other")
    folder.bucket.copy(folder.file("job.json"), other.file("job.json"))
    with pytest.raises(MessageError, match=f"says that it is job {folder.job_id}"):
        other.job()


def test_a_damaged_job_file_is_refused_in_one_sentence(folder):
    folder.bucket.write(folder.file("job.json"), b'{"kind": "score"')
    with pytest.raises(MessageError, match="a ScoreJob has a wrong text"):
        folder.status()


# --- the state


def test_a_job_nobody_has_touched_is_queued(folder):
    status = folder.status()
    assert (status.state, status.chunks, status.chunks_done, status.outcome, status.has_ended) == ("queued", 0, 0, None, False)
    assert status.since == MOMENT
    assert status.reason == "waits for a worker"


def test_a_job_whose_step_said_something_is_running(folder):
    folder.write_stage("cutting the table into chunks")
    status = folder.status()
    assert (status.state, status.reason) == ("running", "cutting the table into chunks")
    assert status.since > MOMENT


def test_a_job_with_a_plan_is_running_and_counts_its_parts(folder):
    put_plan(folder, chunks=3)
    assert (folder.status().state, folder.status().chunks, folder.status().chunks_done) == ("running", 3, 0)
    put_parts(folder, 2, 0)
    assert folder.parts_done() == {0, 2}
    assert (folder.status().state, folder.status().chunks_done) == ("running", 2)


def test_a_part_without_its_record_is_not_done(folder):
    put_plan(folder, chunks=1)
    folder.bucket.write(folder.part_file(0, "csv.gz"), b"rows")
    folder.bucket.write(folder.part_file(0, "rejects.csv.gz"), b"rejects")
    assert folder.parts_done() == set()
    assert folder.status().state == "running"


def test_a_job_with_all_parts_is_finishing(folder):
    put_plan(folder, chunks=2)
    put_parts(folder, 0, 1)
    assert (folder.status().state, folder.status().chunks_done) == ("finishing", 2)


def test_a_done_job_is_finishing_until_its_result_is_at_its_place(folder):
    put_plan(folder, chunks=2)
    put_parts(folder, 0, 1)
    folder.write_outcome(outcome(result="data/predict/output/v1/2026/11/23"))
    assert folder.status().state == "finishing"
    assert not folder.status().has_ended
    folder.bucket.write(folder.file("published.json"), b"{}")
    status = folder.status()
    assert (status.state, status.has_ended, status.chunks_done, status.since) == ("done", True, 2, LATER)
    assert status.outcome.result == "data/predict/output/v1/2026/11/23"


def test_a_done_job_is_done_even_when_its_parts_were_swept_away(folder):
    put_plan(folder, chunks=2)
    folder.write_outcome(outcome())
    folder.bucket.write(folder.file("published.json"), b"{}")
    assert (folder.status().state, folder.status().chunks_done) == ("done", 2)


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_job_that_ended_without_a_result_is_final_whatever_else_is_there(folder, state):
    put_plan(folder, chunks=2)
    put_parts(folder, 0)
    folder.write_stage("scoring 2 chunks")
    folder.write_outcome(outcome(state, reason="the table is broken"))
    status = folder.status()
    assert (status.state, status.has_ended, status.reason, status.chunks_done) == (state, True, "the table is broken", 1)


def test_a_train_job_needs_no_plan(bucket):
    job = TrainJob(job_id="20261123t101500z-77aa", created=MOMENT, definition="v2", train="data/train.csv")
    folder = JobFolder(bucket, job.job_id)
    folder.create(job)
    assert (folder.status().state, folder.status().job) == ("queued", job)
    folder.write_stage("fitting v2 on 19,866 rows")
    assert folder.status().state == "running"


def test_a_step_may_say_something_long(folder):
    folder.write_stage("reading " + "x" * 2000)
    assert folder.status().reason.startswith("reading xxx")


def test_a_foreign_file_among_the_parts_is_not_counted(folder):
    put_plan(folder, chunks=1)
    for name in ["notes.json", ".json", "0000000.rejects.json", "0000000.json.tmp"]:
        folder.bucket.write(folder.file(f"parts/{name}"), b"{}")
    assert folder.parts_done() == set()


# --- the end


def test_the_first_outcome_stays(folder):
    assert folder.write_outcome(outcome("failed", reason="first")) is True
    assert folder.write_outcome(outcome("done")) is False
    assert folder.outcome() == outcome("failed", reason="first")


def test_of_eight_outcomes_at_once_one_stays(folder):
    start = threading.Barrier(8)

    def end(number):
        start.wait()
        return folder.write_outcome(outcome("failed", reason=str(number)))

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(end, range(8)))
    assert won.count(True) == 1
    assert folder.outcome().reason == str(won.index(True))


@pytest.mark.parametrize("reason", ["x" * 100_000, "line one\nline two", "ünïcödé " * 20_000, "\0\x1b[31m", ""])
def test_whatever_the_reason_the_outcome_can_be_read(folder, reason):
    assert folder.write_outcome(outcome("failed", reason=reason))
    assert folder.outcome().reason == reason
    assert folder.status().state == "failed"


def test_a_cancelled_job_says_how_to_go_on(folder):
    ended = folder.cancel()
    assert ended.state == "cancelled"
    assert ended.exit_code == JobFailedError.exit_code
    assert f"scoring jobs resume {folder.job_id}" in ended.next_step
    assert folder.status().state == "cancelled"
    assert folder.cancel() == ended, "cancelling twice changes nothing"


def test_a_job_that_has_ended_is_not_cancelled(folder):
    folder.write_outcome(outcome("done"))
    assert folder.cancel() == outcome("done")
    assert folder.outcome() == outcome("done")


# --- going on


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_reopened_job_goes_on_from_what_it_has(folder, state):
    put_plan(folder, chunks=3)
    put_parts(folder, 0, 1)
    folder.write_outcome(outcome(state, reason="the disk was full"))
    folder.bucket.write(folder.file("notified.json"), b"{}")
    close_job(folder.bucket, folder.job_id)
    folder.reopen()
    assert folder.outcome() is None
    assert not folder.has("notified.json"), "people are notified again"
    assert (folder.status().state, folder.status().chunks_done) == ("running", 2)
    assert open_jobs(folder.bucket) == [folder.job_id]
    kept = folder.bucket.files(folder.file("ended"))
    assert [json.loads(folder.bucket.read(info.path))["reason"] for info in kept] == ["the disk was full"]


def test_a_job_can_be_reopened_again_and_again(folder):
    for minute in range(3):
        folder.write_outcome(Outcome(state="failed", at=datetime(2026, 11, 23, 12, minute, tzinfo=UTC)))
        folder.reopen()
    assert len(folder.bucket.files(folder.file("ended"))) == 3
    assert folder.write_outcome(outcome("done")) is True


def test_a_job_that_is_done_or_goes_on_is_not_reopened(folder):
    with pytest.raises(RequestError, match="has not ended") as caught:
        folder.reopen()
    assert f"scoring jobs show {folder.job_id}" in caught.value.next_step
    folder.write_outcome(outcome("done"))
    with pytest.raises(RequestError, match="is done") as caught:
        folder.reopen()
    assert f"scoring results show {folder.job_id}" in caught.value.next_step
    assert folder.outcome() == outcome("done")


@pytest.mark.parametrize("data", [b"", b"half of it", b"[" * 50_000, b'{"state": "done"}'])
def test_a_job_whose_outcome_is_damaged_has_failed_and_can_go_on(folder, data):
    folder.create(score_job(folder.job_id))
    folder.bucket.write(folder.file("outcome.json"), data)
    status = folder.status()
    assert status.state == "failed"
    assert status.reason.startswith(f"jobs/{folder.job_id}/outcome.json is damaged: ")
    assert f"scoring jobs resume {folder.job_id}" in status.outcome.next_step
    folder.reopen()
    assert folder.outcome() is None


@pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 50_000, b'{"chunks": 5}', b"[]"])
def test_a_damaged_stage_or_plan_does_not_hide_the_state_of_a_job(folder, data):
    folder.create(score_job(folder.job_id))
    for name in ("stage.json", "plan.json"):
        folder.bucket.write(folder.file(name), data)
    assert (folder.status().state, folder.status().chunks) == ("queued", 0)


# --- all jobs


def test_one_damaged_job_does_not_hide_the_others(bucket):
    for job_id, text in {"job-1": None, "job-2": b"half of it", "NO ID": b"{}"}.items():
        if text is None:
            JobFolder(bucket, job_id).create(score_job(job_id))
        else:
            bucket.write(f"jobs/{job_id}/job.json", text)
    seen = {job_id: inspect_job(bucket, job_id) for job_id in list_jobs(bucket)}
    assert seen["job-1"].state == "queued"
    assert seen["job-2"].reason.startswith("a ScoreJob has a wrong text")
    assert seen["NO ID"].reason == "'NO ID' is not the id of a job"


def test_jobs_are_listed_newest_first_and_those_that_need_work_oldest_first(bucket):
    ids = ["20261123t101500z-a1", "20261124t000000z-b2", "20261122t235959z-c3"]
    for job_id in ids:
        JobFolder(bucket, job_id).create(score_job(job_id))
    bucket.write("jobs/_requests/abc.1", b"x")
    assert list(list_jobs(bucket)) == ["20261124t000000z-b2", "20261123t101500z-a1", "20261122t235959z-c3"]
    assert open_jobs(bucket) == ["20261122t235959z-c3", "20261123t101500z-a1", "20261124t000000z-b2"]
    close_job(bucket, "20261123t101500z-a1")
    close_job(bucket, "20261123t101500z-a1")
    assert open_jobs(bucket) == ["20261122t235959z-c3", "20261124t000000z-b2"]


def test_a_bucket_without_jobs_has_none(bucket):
    assert list(list_jobs(bucket)) == []
    assert open_jobs(bucket) == []


def test_the_mark_is_there_before_the_job_so_that_no_job_is_forgotten(folder, monkeypatch):
    def fail(*_):
        raise BucketError("full")

    monkeypatch.setattr(folder.bucket, "create", fail)
    other = JobFolder(folder.bucket, "20261123t101500z-half")
    with pytest.raises(BucketError):
        other.create(score_job("20261123t101500z-half"))
    assert "20261123t101500z-half" in open_jobs(folder.bucket)


def test_the_files_of_the_parts_sort_in_the_order_of_the_rows(folder):
    names = [folder.part_file(number, "csv.gz") for number in (0, 9, 10, 99, 100, 9_999_999)]
    assert names == sorted(names)
