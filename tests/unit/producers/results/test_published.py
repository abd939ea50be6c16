"""What is said of a job names files that are its own, what its result replaced, and what fixed it."""

import gzip
import json

import pytest
from click.testing import CliRunner

from producers.cli import root
from producers.enqueue.fix import enqueue_fix
from producers.results.published import outcome_now
from shared.bucket.local import LocalBucket
from shared.errors import TableError
from shared.jobs.folder import JobFolder
from shared.settings import Settings
from tests.handmade import PLACE, TABLE, WEIGHTS, make_job, plan, publish_handmade, row, run_job, score_chunks, write_table

pytestmark = pytest.mark.server

FOLDER = f"data/predict/output/v1/{PLACE}"
SPOILED = "7,0,0,0,x,Tablet"


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(5)])
    return bucket


def now(folder: JobFolder):
    return outcome_now(folder.bucket, folder.job(), folder.outcome())


def test_a_result_says_which_one_it_replaced_and_of_which_table(bucket):
    first, same = make_job(bucket), make_job(bucket, minute=1)
    run_job(first)
    assert now(first) == first.outcome()
    run_job(same)
    assert now(same).facts["replaces"] == f"the result of job {first.job_id}, of the same table"
    other = write_table(bucket, [row(9)], path="data/other/good.csv")
    third = make_job(bucket, minute=2, table=other)
    run_job(third)
    assert now(third).facts["replaces"] == f"the result of job {same.job_id}, of another table, {TABLE} with 5 rows"


def test_programs_get_the_figures_of_a_result_as_numbers(bucket):
    folder = make_job(bucket)
    run_job(folder)
    for more in ([], ["--follow"]):
        said = CliRunner().invoke(root.scoring, ["jobs", "show", folder.job_id, "--json", *more], env={"BUCKET_URL": bucket.url})
        figures = json.loads(said.stdout)["figures"]
        assert (figures["rows_in"], figures["rows_scored"], figures["rows_rejected"]) == (5, 5, 0)
        assert 0 < figures["mean_cr"]["Computer"] < 1


def test_the_files_of_a_result_that_was_replaced_are_those_of_its_revision(bucket):
    older = make_job(bucket, table=write_table(bucket, [row(1), SPOILED], path="data/spoiled.csv"), max_reject_share=1.0)
    newer = make_job(bucket, minute=1)
    run_job(newer)
    run_job(older)
    outcome = now(older)
    assert outcome.result == f"{FOLDER}/revisions/{older.job_id}"
    assert gzip.decompress(bucket.read(outcome.facts["rejects"])).count(b"\n") == 2
    assert outcome.facts["published"].startswith(f"not at its place: {FOLDER} holds the result of job {newer.job_id} since ")
    said = CliRunner().invoke(root.scoring, ["jobs", "show", older.job_id, "--follow"], env={"BUCKET_URL": bucket.url})
    assert f" {outcome.result}\n" in said.stdout
    assert "not at its place" in said.stdout


def test_a_failed_job_says_which_one_fixed_it_also_over_several_fixes(bucket, tmp_path, no_redis_url):
    settings = Settings(redis_url=no_redis_url)
    spoiled = [SPOILED, "8,0,0,0,y,Tablet"]
    failed = make_job(bucket, table=write_table(bucket, [row(1), *spoiled], path="data/spoiled.csv"), chunk_rows=10)
    plan(failed)
    score_chunks(failed, tmp_path / "cache")
    failed.fail(TableError("2 of 3 rows are rejected", next_step="Correct them"))
    assert now(failed).next_step == "Correct them"
    header = "reject_file,reject_line,entity_id,att1,att2,att3,length,device"
    rows = [f"data/spoiled.csv,{line},7,0,0,0,{value},Tablet" for line, value in ((3, "1"), (4, "y"))]
    (tmp_path / "corrected.csv").write_text("\n".join([header, *rows, ""]))
    first = JobFolder(
        bucket, enqueue_fix(settings, bucket, job_id=failed.job_id, rows=str(tmp_path / "corrected.csv"), max_reject_share=1.0).job_id
    )
    assert run_job(first).state == "done"
    assert now(failed).facts["fixed by"] == f"job {first.job_id}, 1 reject left"
    (tmp_path / "rest.csv").write_text("\n".join([header, "data/spoiled.csv,4,7,0,0,0,2,Tablet", ""]))
    second = JobFolder(bucket, enqueue_fix(settings, bucket, job_id=first.job_id, rows=str(tmp_path / "rest.csv")).job_id)
    assert run_job(second).state == "done"
    outcome = now(failed)
    assert outcome.facts["fixed by"] == f"job {second.job_id}"
    assert outcome.next_step == f"Nothing is left to do here. See the result with: scoring results show {second.job_id}"
    assert "the fix of it by job" in now(first).facts["published"]
    assert "replaces" not in now(second).facts


def test_a_job_that_another_release_of_the_place_overtook_is_not_called_fixed(bucket, tmp_path):
    failed = make_job(bucket, table=write_table(bucket, [SPOILED], path="data/spoiled.csv"), chunk_rows=10)
    plan(failed)
    failed.fail(TableError("all rows are rejected"))
    publish_handmade(bucket, weights=WEIGHTS)
    run_job(make_job(bucket, minute=1))
    assert "fixed by" not in now(failed).facts
