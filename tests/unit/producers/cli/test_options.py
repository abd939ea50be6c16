"""An option with a value that cannot be says how to write it."""

import datetime
import os

import pytest
from click.testing import CliRunner, Result

from producers.cli import root
from producers.enqueue.deduplication import ScheduledRun
from producers.enqueue.score import enqueue_score
from producers.enqueue.sources import check_day
from producers.explaining import asking
from shared.bucket.local import LocalBucket
from shared.errors import RequestError, TableError
from shared.jobs.folder import JobFolder
from shared.settings import Settings
from tests.handmade import PLACE, TABLE, make_job, publish_handmade, row, run_job, write_table

pytestmark = pytest.mark.server


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(5)])
    return bucket


@pytest.fixture
def settings(no_redis_url) -> Settings:
    return Settings(redis_url=no_redis_url)


@pytest.fixture
def scoring(bucket, no_redis_url):
    def run(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(root.scoring, list(arguments), env={"BUCKET_URL": bucket.url, "REDIS_URL": no_redis_url} | environment)

    return run


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("5", "--max-reject-share is from 0 to 1; 5 % is 0.05"),
        ("5%", "--max-reject-share is from 0 to 1; 5 % is 0.05"),
        ("0.5%", "--max-reject-share is from 0 to 1; 0.5 % is 0.005"),
        ("2.5", "--max-reject-share is from 0 to 1; 2.5 % is 0.025"),
        ("-0.1", "--max-reject-share is from 0 to 1"),
        ("nan", "--max-reject-share is from 0 to 1"),
        ("inf", "--max-reject-share is from 0 to 1"),
        ("500", "--max-reject-share is from 0 to 1"),
    ],
)
def test_a_share_that_is_none_says_what_may_have_been_meant(scoring, value, sentence):
    assert scoring("score", TABLE, "--max-reject-share", value).exception.message == sentence


def test_a_share_that_is_no_number_is_refused(scoring):
    said = scoring("score", TABLE, "--max-reject-share", "few")
    assert said.exit_code == 2
    assert "'few' is not a number: write a share from 0 to 1, like 0.05 for 5 %." in said.stderr


@pytest.mark.parametrize("value", ["23.11.2026", "2026/11/23", "2026-13-01", "2026-02-30", "today", "20261123", "2026-W48-1"])
def test_a_day_that_is_none_says_how_to_write_one(scoring, value):
    for command in (("score", TABLE, "--date", value), ("schedule", "backfill", "daily", "--from", value, "--to", "2026-11-23")):
        said = scoring(*command)
        assert said.exit_code == 2
        assert f"{value!r} is not a day: write it as year-month-day, like 2026-11-23." in said.stderr


def test_the_model_that_is_taken_when_none_is_named_is_said(scoring):
    assert "Model v1, the default; another one is taken with --model" in scoring("score", TABLE, "--no-wait").stderr
    assert "Model v1@latest, which MODEL_VER names;" in scoring("score", TABLE, "--no-wait", MODEL_VER="v1@latest").stderr
    assert "MODEL_VER" not in scoring("score", TABLE, "--model", "v1", "--no-wait").stderr


def test_a_negative_id_is_a_key_and_no_option(scoring, bucket, monkeypatch):
    folder = make_job(bucket)
    run_job(folder)
    asked = []
    monkeypatch.setattr(asking, "ask", lambda _, question: asked.append(question.keys) or 1 / 0)
    for keys in (("-5", "Computer"), ("-57", "0"), ("-5", "--", "-x"), ("--", "-5", "-x")):
        scoring("why", "--in", folder.job_id, *keys)
        assert asked.pop() == [key for key in keys if key != "--"]
    for arguments in (("-5", "Computer", "--jsno"), ("-5", "-x"), ("5", "--jsno"), ("-5x", "Computer")):
        refused = scoring("why", "--in", folder.job_id, *arguments)
        assert (refused.exit_code, asked) == (2, [])
        assert "No such option" in refused.output


def test_standard_input_is_no_table(settings, bucket):
    with pytest.raises(RequestError, match="- is not a table: standard input is not read"):
        enqueue_score(settings, bucket, table="-", model="v1")


def test_a_day_that_contradicts_the_folder_of_the_table_is_refused(settings, bucket, scoring):
    other = datetime.date(2026, 11, 25)
    refused = scoring("score", TABLE, "--date", "2026-11-25").exception
    assert refused.message == f"--date 2026-11-25 contradicts the folder of {TABLE}: its result belongs to {PLACE}"
    undated = write_table(bucket, [row(1)], path="data/predict/input/special/prediction_input.csv")
    with pytest.raises(RequestError, match="its result belongs to special"):
        check_day(bucket, undated, other)
    assert bucket.folders("jobs") == []
    same = scoring("score", TABLE, "--date", "2026-11-23", "--no-wait").stdout.strip()
    assert JobFolder(bucket, same).score_job().place == PLACE
    of_schedule = enqueue_score(
        settings, bucket, table=TABLE, model="v1", day=other, run=ScheduledRun(kind="score", key="daily-20261125t0430")
    )
    assert JobFolder(bucket, of_schedule.job_id).score_job().place == PLACE, "the table of a run may be that of another day"
    elsewhere = write_table(bucket, [row(1)], path="data/tables/mine.csv")
    free = scoring("score", elsewhere, "--date", "2026-11-25", "--no-wait").stdout.strip()
    assert JobFolder(bucket, free).score_job().place == "2026/11/25/mine"


def test_a_path_with_the_folder_of_the_bucket_before_it_means_the_table_of_the_bucket(settings, bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = enqueue_score(settings, bucket, table=f"data/predict/input/{PLACE}", model="v1")
    for named in (
        f"bucket/data/predict/input/{PLACE}",
        f"./bucket/data/predict/input/{PLACE}/",
        str(bucket.root / f"data/predict/input/{PLACE}"),
    ):
        done = enqueue_score(settings, bucket, table=named, model="v1")
        assert (done.job_id, done.fresh) == (plain.job_id, False)
    monkeypatch.chdir(bucket.root / "data")
    assert enqueue_score(settings, bucket, table=f"predict/input/{PLACE}", model="v1").job_id == plain.job_id
    (tmp_path / "mine.csv").write_bytes(bucket.read(TABLE) or b"")
    brought = enqueue_score(settings, bucket, table=str(tmp_path / "mine.csv"), model="v1")
    assert JobFolder(bucket, brought.job_id).score_job().table == f"jobs/{brought.job_id}/input/mine.csv"


def test_a_table_of_the_bucket_whose_name_is_not_utf8_is_refused_by_its_own_sentence(settings, bucket):
    folder = bucket.root / "data/predict/input" / os.fsdecode(b"Schl\xc3")
    folder.mkdir(parents=True)
    (folder / "table.csv").write_bytes(bucket.read(TABLE) or b"")
    for named in (f"data/predict/input/{folder.name}/table.csv", str(folder / "table.csv")):
        with pytest.raises(RequestError, match="must be UTF-8: rename the file or folder"):
            enqueue_score(settings, bucket, table=named, model="v1")
    with pytest.raises(TableError, match="there is no table"):
        enqueue_score(settings, bucket, table=f"data/{folder.name}", model="v1")
