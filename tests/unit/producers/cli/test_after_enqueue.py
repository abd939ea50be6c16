"""The error of a followed job names the person's own table, not only its copy in the job's folder."""

from pathlib import Path

import pytest

from producers.cli.after_enqueue import follow_job
from producers.enqueue.score import enqueue_score
from producers.enqueue.sending import Enqueued
from shared.bucket.local import LocalBucket
from shared.errors import JobFailedError, TableError
from shared.jobs.folder import JobFolder
from shared.settings import Settings
from tests.handmade import HEADER, publish_handmade, row


@pytest.fixture
def bucket(tmp_path: Path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    return bucket


@pytest.fixture
def settings(no_redis_url: str) -> Settings:
    return Settings(redis_url=no_redis_url)


def write_csv(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([HEADER, row(1), ""]))


def failure(settings: Settings, bucket: LocalBucket, done: Enqueued, reason: str) -> str:
    """The message of a followed job that failed for this reason."""
    JobFolder(bucket, done.job_id).fail(TableError(reason))
    with pytest.raises(JobFailedError) as raised:
        follow_job(settings, bucket, done.job_id, as_json=False, copies=done.copies)
    return raised.value.message


def test_the_error_names_the_file_and_its_copy(settings: Settings, bucket: LocalBucket, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    write_csv(own)
    done = enqueue_score(settings, bucket, table=str(own), model="v1")
    copy = f"jobs/{done.job_id}/input/own.csv"
    message = failure(settings, bucket, done, f"{copy} lacks the column att7")
    assert message == f"job {done.job_id} failed: {copy} lacks the column att7; own.csv is a copy of {own}"


def test_the_error_names_the_file_of_a_folder(settings: Settings, bucket: LocalBucket, tmp_path: Path) -> None:
    own = tmp_path / "week"
    for name in ("a.csv", "b.csv"):
        write_csv(own / name)
    done = enqueue_score(settings, bucket, table=str(own), model="v1")
    copy = f"jobs/{done.job_id}/input/week"
    assert failure(settings, bucket, done, f"{copy}/b.csv is empty").endswith(f"is empty; b.csv is a copy of {own / 'b.csv'}")
    assert done.copies[copy] == str(own)


def test_a_table_of_the_bucket_has_one_name(settings: Settings, bucket: LocalBucket) -> None:
    bucket.write("data/own.csv", "\n".join([HEADER, row(1), ""]).encode())
    done = enqueue_score(settings, bucket, table="data/own.csv", model="v1")
    assert done.copies == {}
    assert failure(settings, bucket, done, "data/own.csv is empty") == f"job {done.job_id} failed: data/own.csv is empty"
