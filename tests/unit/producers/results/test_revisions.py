"""Every result of a place is listed, with a command that puts an older one back."""

import json
import shlex

import pytest
from click.testing import CliRunner, Result

from producers.cli import root
from producers.enqueue.score import enqueue_score
from shared.bucket.local import LocalBucket
from shared.jobs.folder import JobFolder
from shared.settings import Settings
from tests.handmade import PLACE, TABLE, WEIGHTS, make_job, publish_handmade, row, run_job, text_at, write_table

pytestmark = pytest.mark.server

FOLDER = f"data/predict/output/v1/{PLACE}"


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(5)])
    return bucket


def scoring(bucket: LocalBucket, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(root.scoring, list(arguments), env={"BUCKET_URL": bucket.url} | environment)


@pytest.mark.parametrize("brought", [False, True])
def test_the_command_that_is_printed_puts_an_older_result_back(bucket, no_redis_url, tmp_path, brought):
    (tmp_path / "good.csv").write_bytes(bucket.read(TABLE) or b"")
    settings = Settings(redis_url=no_redis_url)
    table = str(tmp_path / "good.csv") if brought else TABLE
    first, second = (
        JobFolder(bucket, enqueue_score(settings, bucket, table=table, model="v1", again=again).job_id) for again in (False, True)
    )
    assert run_job(first).state == "done"
    place = first.outcome().result.removeprefix("data/predict/output/")
    good = text_at(bucket, f"data/predict/output/{place}")
    bad = publish_handmade(bucket, made=first.job().created, weights=[weight / 2 for weight in WEIGHTS])
    second = JobFolder(bucket, enqueue_score(settings, bucket, table=table, model=bad).job_id)
    assert run_job(second).state == "done"
    said = scoring(bucket, "results", "revisions", place)
    assert said.stdout.index(second.job_id) < said.stdout.index(first.job_id)
    assert said.stdout.count("at the place") == 1
    program, *command = shlex.split(said.stdout.splitlines()[-1])
    assert program == "scoring"
    scoring(bucket, *command, "--no-wait", REDIS_URL=no_redis_url)
    third = JobFolder(bucket, sorted(name for name in bucket.folders("jobs") if not name.startswith("_"))[-1])
    assert third.job_id > second.job_id
    assert run_job(third).state == "done"
    assert text_at(bucket, f"data/predict/output/{place}") == good
    listed = json.loads(scoring(bucket, "results", "revisions", place, "--json").stdout)
    assert [(entry["job_id"], entry["at_the_place"]) for entry in listed] == [
        (third.job_id, True),
        (second.job_id, False),
        (first.job_id, False),
    ]


def test_a_damaged_revision_is_named_and_the_others_are_listed(bucket):
    jobs = [make_job(bucket, minute=minute) for minute in (1, 2)]
    for job in jobs:
        run_job(job)
    broken = f"{FOLDER}/revisions/{jobs[0].job_id}/manifest.json"
    bucket.write(broken, b"")
    said = scoring(bucket, "results", "revisions", f"v1/{PLACE}")
    assert said.exit_code == 0
    assert jobs[1].job_id in said.stdout
    assert said.stderr.startswith(f"Warning: {broken} cannot be read")


def test_a_place_without_results_is_refused(bucket):
    said = scoring(bucket, "results", "revisions", "v1/2020/01/01")
    assert said.exception.exit_code == 2
    assert said.exception.next_step == "List them with: scoring results list"
