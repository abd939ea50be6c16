"""Rows whose key another row has as well are counted and reported, in little memory."""

import json
import tracemalloc

import numpy as np
import pytest

from shared.bucket.local import LocalBucket
from shared.catalog.manifests import ResultManifest
from tests.handmade import TABLE, make_job, plan, publish_handmade, row, run_job, score_chunks, write_table
from workers.scoring import publishing, repeated_keys
from workers.scoring.repeated_keys import count_repeated, hash_keys, write_hashes


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


def test_a_part_of_an_earlier_version_has_no_hashes_and_nothing_is_counted(bucket):
    write_table(bucket, [row(number % 10) for number in range(20)])
    folder = make_job(bucket, chunk_rows=7)
    plan(folder)
    score_chunks(folder, bucket.root)
    bucket.delete(folder.part_file(1, "keys"))
    assert "repeated keys" not in publishing.finish_job(folder).facts


def test_a_table_beyond_the_limit_is_counted_in_a_sample_in_the_memory_of_the_limit(bucket, monkeypatch):
    monkeypatch.setattr(repeated_keys, "MAX_KEYS_COUNTED", 20_000)
    folder = make_job(bucket)
    ids = np.random.default_rng(1).permutation(np.repeat(np.arange(200_000), 2))
    parts = np.split(ids, 40)
    for index, part in enumerate(parts):
        write_hashes(folder, index, [hash_keys([part, np.zeros(len(part), dtype=np.int8)])])
    tracemalloc.start()
    counted = count_repeated(folder, [len(part) for part in parts])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counted == pytest.approx(200_000, rel=0.05)
    assert peak < 3 * 8 * 20_000


def test_keys_of_text_and_numbers_have_hashes_of_their_own():
    texts, numbers = np.array(["a", "b", "a", "ab"], dtype=object), np.array([1, 1, 1, 1])
    hashes = hash_keys([texts, numbers])
    assert hashes[0] == hashes[2]
    assert len(set(hashes.tolist())) == 3
    assert len(set(hash_keys([np.arange(-50_000, 50_000), np.zeros(100_000, dtype=np.int8)]).tolist())) == 100_000
    assert hash_keys([np.array([1]), np.array([2])]) != hash_keys([np.array([2]), np.array([1])])


def test_a_fix_counts_the_keys_of_the_rows_that_it_takes_over(bucket):
    write_table(bucket, [*(row(number) for number in range(10)), row(3), row(4).replace("Smartphone", "Watch")])
    folder = make_job(bucket, chunk_rows=4, max_reject_share=0.5)
    assert run_job(folder).facts["repeated keys"] == "1 row has the key of an earlier row"
    header = "reject_line,entity_id,att1,att2,att3,length,device"
    bucket.write("fixed.csv", f"{header}\n13,{row(4)}\n".encode())
    outcome = run_job(make_job(bucket, minute=1, table=TABLE, fixes=folder.job_id, fixed_rows="fixed.csv", chunk_rows=4))
    assert outcome.facts["repeated keys"] == "2 rows have the key of an earlier row"
