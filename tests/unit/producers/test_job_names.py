"""A job is named by its id, by a piece of it that no other has, or as the last one."""

import json

import pytest
from click.testing import CliRunner, Result

from producers.cli import root
from producers.job_names import find_job
from producers.results import finding
from shared.bucket.local import LocalBucket
from shared.errors import RequestError
from shared.jobs.folder import JobFolder, Outcome
from tests.handmade import NOON, PLACE, make_job, publish_handmade, row, run_job, write_table
from tests.trainings import make_training


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(5)])
    return bucket


def scoring(bucket: LocalBucket, *arguments: str) -> Result:
    return CliRunner().invoke(root.scoring, list(arguments), env={"BUCKET_URL": bucket.url})


def test_last_means_the_newest_job_and_for_results_the_newest_that_scores(bucket):
    with pytest.raises(RequestError, match="there is no job yet"):
        find_job(bucket, "last")
    scores, trains = make_job(bucket), make_training(bucket, minute=1)
    assert find_job(bucket, "last") == trains.job_id
    assert find_job(bucket, "last", scores=True) == scores.job_id
    assert run_job(scores).state == "done"
    assert finding.find_result(bucket, "last")[1].job_id == scores.job_id
    assert json.loads(scoring(bucket, "jobs", "show", "last", "--json").stdout)["job"]["job_id"] == trains.job_id
    assert scores.job_id in scoring(bucket, "results", "show", "last").stdout
    assert len(scoring(bucket, "results", "head", "last", "-n", "2").stdout.splitlines()) == 3
    assert f"Job {scores.job_id} has no rejects" in scoring(bucket, "results", "rejects", "last").stdout


def test_a_piece_that_only_one_job_has_is_enough(bucket):
    jobs = [make_job(bucket, minute=minute) for minute in (1, 2, 12)]
    assert find_job(bucket, "20261123t1201") == jobs[0].job_id
    assert find_job(bucket, "000002") == jobs[1].job_id, "the end of an id is its shortest piece"
    for job in jobs:
        assert find_job(bucket, job.job_id) == job.job_id
    with pytest.raises(RequestError, match=f"20261123t12 fits 3 jobs: {jobs[2].job_id}, {jobs[1].job_id}, {jobs[0].job_id}"):
        find_job(bucket, "20261123t12")
    for unknown in ("abc", "20991231", "../..", "_open", "v1/2026/11/23", "No Job"):
        assert find_job(bucket, unknown) == unknown


def test_a_channel_is_a_result_and_no_job(bucket):
    older, newer = (make_job(bucket, minute=minute, channel="live", guard_off="on purpose") for minute in (1, 2))
    for job in (older, newer):
        assert run_job(job).state == "done"
    for command in (
        ["jobs", "show"],
        ["jobs", "cancel"],
        ["results", "refuse", "--reason", "x"],
        ["results", "rollback", "live", "--reason", "x", "--to"],
    ):
        error = scoring(bucket, *command, "live").exception
        assert isinstance(error, RequestError)
        assert error.message == "live is a channel, not a job"
        assert f"It shows the result of job {newer.job_id}." in error.next_step
    place = f"v1/{PLACE}"
    error = scoring(bucket, "results", "revisions", "live").exception
    assert f"it shows a result of data/predict/output/{place}" in error.message
    assert error.next_step == f"Type: scoring results revisions {place}"
    assert newer.job_id in scoring(bucket, "results", "show", "live").stdout
    assert len(scoring(bucket, "results", "head", "live", "-n", "2").stdout.splitlines()) == 3
    assert f"Job {newer.job_id} has no rejects" in scoring(bucket, "results", "rejects", "live").stdout
    with pytest.raises(RequestError, match="there is no job shop"):
        JobFolder(bucket, find_job(bucket, "shop")).job()
    bucket.delete(f"data/predict/output/{place}/revisions/{newer.job_id}/manifest.json")
    for command in ("show", "head", "rejects", "revisions"):
        error = scoring(bucket, "results", command, "live").exception
        assert "the result that live shows" in error.message
        assert "is gone or cannot be read" in error.message


def test_an_id_that_begins_another_means_its_own_job(bucket):
    short = make_job(bucket)
    longer = JobFolder(bucket, f"{short.job_id}-more")
    longer.create(short.job().model_copy(update={"job_id": longer.job_id}))
    assert find_job(bucket, short.job_id) == short.job_id


def test_jobs_are_cancelled_by_a_piece_of_their_id(bucket, no_redis_url, monkeypatch):
    monkeypatch.setenv("REDIS_URL", no_redis_url)
    job = make_job(bucket, minute=7)
    assert scoring(bucket, "jobs", "cancel", "000007").stdout.startswith(f"Cancelled {job.job_id}.")


def test_jobs_of_one_state_are_listed_alone(bucket):
    done, failed, waiting = (make_job(bucket, minute=minute) for minute in (1, 2, 3))
    run_job(done)
    own = f"jobs/{failed.job_id}/input/mine.csv"
    failed.write_outcome(Outcome(state="failed", at=NOON, reason=f"4 of 90 rows of {own} are rejected: {own} line 2"))
    bucket.write("jobs/20261123t120500z-score-broken/job.json", b"")

    def listed(*states: str) -> list[str]:
        options = [word for state in states for word in ("--state", state)]
        found = json.loads(scoring(bucket, "jobs", "list", "--json", *options).stdout)
        return [status["job"]["job_id"] for status in found]

    assert listed("failed") == [failed.job_id]
    assert listed("failed", "done") == [failed.job_id, done.job_id]
    assert listed("queued") == [waiting.job_id]
    assert listed("unreadable") == ["20261123t120500z-score-broken"]
    assert "4 of 90 rows of mine.csv are rejected: mine.csv line 2" in scoring(bucket, "jobs", "list", "--state", "failed").stdout
    assert f"No job in the bucket {bucket.url} is cancelled" in scoring(bucket, "jobs", "list", "--state", "cancelled").stdout


@pytest.mark.parametrize("command", [("jobs", "list"), ("models", "list"), ("results", "list")])
def test_a_bucket_folder_that_does_not_exist_is_said(tmp_path, command):
    said = scoring(LocalBucket(tmp_path / "nobucket"), *command)
    assert said.exit_code == 0
    assert (
        f"in the bucket {tmp_path / 'nobucket'}: that folder does not exist. If it should, check BUCKET_URL for a mistake." in said.stdout
    )
    (tmp_path / "there").mkdir()
    assert f"in the bucket {tmp_path / 'there'}" in scoring(LocalBucket(tmp_path / "there"), *command).stdout


def test_a_result_outlives_the_folder_of_its_job(bucket):
    job = make_job(bucket)
    write_table(bucket, [row(1), "7,0,0,0,x,Tablet"])
    job.bucket.write(job.file("job.json"), job.job().model_copy(update={"max_reject_share": 1.0}).to_json())
    assert run_job(job).state == "done"
    bucket.delete_folder(f"jobs/{job.job_id}")
    folder, manifest = finding.find_result(bucket, job.job_id)
    assert (folder, manifest.job_id) == (f"data/predict/output/v1/{PLACE}/revisions/{job.job_id}", job.job_id)
    assert "not a finite number" in scoring(bucket, "results", "rejects", job.job_id).stdout
    assert scoring(bucket, "results", "show", "20991231t000000z-score-aaaaaa").exception.exit_code == 2


@pytest.mark.parametrize("words", [("cancel",), ("resume",), ("resume", "--accept-rejects")])
def test_a_command_that_changes_a_job_refuses_last_and_names_the_id_to_type(bucket, words):
    job = make_job(bucket)
    said = scoring(bucket, "jobs", *words, "last")
    assert said.exception.exit_code == 2
    assert said.exception.next_step.endswith(f"type: scoring jobs {' '.join(words)} {job.job_id}")
    assert job.outcome() is None
