"""Rows whose key another row has as well are counted and reported."""

import json

import pytest

from shared.bucket.local import LocalBucket
from shared.catalog.manifests import MAX_KEYS_COUNTED, ResultManifest
from shared.jobs.files import PartFile
from tests.handmade import TABLE, make_job, plan, publish_handmade, row, run_job, score_chunks, write_table
from workers.scoring import publishing


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    return bucket


def manifest_of(bucket, outcome) -> ResultManifest:
    return ResultManifest.model_validate_json(bucket.read(f"{outcome.result}/manifest.json"))


@pytest.mark.parametrize("chunk_rows", [None, 1, 7])
def test_keys_that_occur_twice_are_counted_in_the_manifest_and_the_facts(bucket, chunk_rows):
    write_table(bucket, [row(number) for number in [*range(20), *range(15), 3]])
    outcome = run_job(make_job(bucket, chunk_rows=chunk_rows))
    assert outcome.facts["repeated keys"] == "16 rows have the key of an earlier row"
    assert manifest_of(bucket, outcome).rows_repeated == 16


def test_one_id_on_several_devices_is_no_repeated_key_and_nothing_is_said(bucket):
    write_table(bucket, [row(number).rpartition(",")[0].replace(str(1000 + number), "7") + f",{number}" for number in range(3)])
    outcome = run_job(make_job(bucket))
    assert "repeated keys" not in outcome.facts
    assert "rows_repeated" not in json.loads(bucket.read(f"{outcome.result}/manifest.json"))


def test_rejects_repeat_no_key(bucket):
    write_table(bucket, [row(0), row(1), row(0).replace("Computer", "Watch")])
    assert "repeated keys" not in run_job(make_job(bucket, max_reject_share=0.5)).facts


def test_repeated_keys_are_counted_beside_parts_of_an_earlier_version(bucket):
    write_table(bucket, [row(number % 10) for number in range(20)])
    folder = make_job(bucket, chunk_rows=7)
    plan(folder)
    score_chunks(folder, bucket.root)
    bucket.delete(folder.part_file(1, PartFile.INDEX))
    assert publishing.finish_job(folder).facts["repeated keys"] == "10 rows have the key of an earlier row"


def test_the_count_of_a_large_result_of_an_earlier_version_is_an_estimate(bucket):
    write_table(bucket, [row(number % 10) for number in range(20)])
    outcome = run_job(make_job(bucket))
    manifest = manifest_of(bucket, outcome).model_copy(update={"rows_scored": MAX_KEYS_COUNTED + 1})
    assert manifest.repeated == "10 rows have the key of an earlier row"
    assert manifest.model_copy(update={"index": None}).repeated == "about 10 rows have the key of an earlier row"


def test_a_fix_counts_the_keys_of_the_rows_that_it_takes_over(bucket):
    write_table(bucket, [*(row(number) for number in range(10)), row(3), row(4).replace("Smartphone", "Watch")])
    folder = make_job(bucket, chunk_rows=4, max_reject_share=0.5)
    assert run_job(folder).facts["repeated keys"] == "1 row has the key of an earlier row"
    header = "reject_line,entity_id,att1,att2,att3,length,device"
    bucket.write("fixed.csv", f"{header}\n13,{row(4)}\n".encode())
    outcome = run_job(make_job(bucket, minute=1, table=TABLE, fixes=folder.job_id, fixed_rows="fixed.csv", chunk_rows=4))
    assert outcome.facts["repeated keys"] == "2 rows have the key of an earlier row"
