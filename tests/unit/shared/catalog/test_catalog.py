"""One reader for all manifests: what cannot be read is named with its file, and hides nothing else."""

import os
from datetime import timedelta

import pytest

from shared.bucket.local import LocalBucket
from shared.catalog.paths import MANIFEST, release_folder
from shared.catalog.releases import FoundRelease, UnreadableRelease, list_releases, read_release
from shared.catalog.results import FoundResult, UnreadableResult, list_results, list_revisions, read_result
from shared.errors import ModelError, RequestError
from tests.handmade import NOON, PLACE, make_job, publish_handmade, row, run_job, write_table

FOLDER = f"data/predict/output/v1/{PLACE}"


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    return LocalBucket(tmp_path / "bucket")


def later_version(text: bytes) -> bytes:
    return text.replace(b'"format": 1,', b'"format": 1,\n "shiny": true,')


DAMAGES = {
    "a field of a later version": (later_version, "shiny"),
    "a later format": (lambda text: text.replace(b'"format": 1', b'"format": 2'), "format 2"),
    "an empty file": (lambda _: b"", "it is empty"),
    "bytes that are no text": (lambda _: b"\x00\xff\xfe\x80", "wrong text"),
    "half of it": (lambda text: text[: len(text) // 2], "wrong text"),
    "a signature that is none": (lambda text: text.rstrip(b"\n}") + b',\n "signature": "none"\n}', "signature"),
    "another kind of record": (lambda _: b'{"format": 1}', "wrong"),
    "a list": (lambda _: b"[1, 2]", "wrong"),
}


@pytest.fixture
def two_results(bucket) -> LocalBucket:
    write_table(bucket, [row(number) for number in range(5)])
    publish_handmade(bucket)
    for minute in (0, 1):
        assert run_job(make_job(bucket, minute=minute)).state == "done"
    other = write_table(bucket, [row(1)], path="data/predict/input/2026/11/24/prediction_input.csv")
    job = make_job(bucket, minute=2, table=other)
    bucket.write(f"jobs/{job.job_id}/job.json", job.job().model_copy(update={"place": "2026/11/24"}).to_json())
    assert run_job(job).state == "done"
    return bucket


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_release_manifest_is_named_and_all_others_are_read(bucket, damage):
    broken, whole = publish_handmade(bucket), publish_handmade(bucket, made=NOON + timedelta(hours=1))
    path = f"{release_folder(broken)}/{MANIFEST}"
    spoil, word = DAMAGES[damage]
    bucket.write(path, spoil(bucket.read(path) or b""))
    first, second = list_releases(bucket)
    assert isinstance(first, UnreadableRelease)
    assert (first.release, first.path) == (broken, path)
    assert word in first.reason
    assert isinstance(second, FoundRelease)
    assert second.release == whole
    assert read_release(bucket, whole).manifest.created == NOON + timedelta(hours=1)
    with pytest.raises(ModelError, match=path) as raised:
        read_release(bucket, broken)
    assert raised.value.next_step == "Train it again: scoring train v1 --again"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"metrics": {}}, "log_loss_per_click"),
        ({"metrics": {"train": {"v1": {"log_loss_per_click": 0.1}}}}, "mae_by_click"),
        ({"tables": {}}, "trained on"),
        ({"release": "v1@20200101T000000Z-aaaaaa"}, "belongs to the release v1@20200101"),
    ],
)
def test_a_release_manifest_without_what_every_list_shows_is_named_too(bucket, fields, word):
    release = publish_handmade(bucket)
    path = f"{release_folder(release)}/{MANIFEST}"
    bucket.write(path, read_release(bucket, release).manifest.model_copy(update=fields).to_json())
    [found] = list_releases(bucket)
    assert isinstance(found, UnreadableRelease)
    assert word in found.reason


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_manifest_is_named_and_all_others_are_read(two_results, damage):
    path = f"{FOLDER}/{MANIFEST}"
    spoil, word = DAMAGES[damage]
    two_results.write(path, spoil(two_results.read(path) or b""))
    first, second = list_results(two_results)
    assert isinstance(first, UnreadableResult)
    assert (first.folder, first.path) == (FOLDER, path)
    assert word in first.reason
    assert isinstance(second, FoundResult)
    assert second.folder == "data/predict/output/v1/2026/11/24"
    with pytest.raises(RequestError, match=path) as raised:
        read_result(two_results, FOLDER)
    assert f"scoring results revisions v1/{PLACE}" in raised.value.next_step


def test_the_revisions_of_a_place_come_newest_first_and_a_damaged_one_is_named(two_results):
    newest, oldest = list_revisions(two_results, FOLDER)
    assert isinstance(newest, FoundResult)
    assert isinstance(oldest, FoundResult)
    assert newest.manifest.job_id > oldest.manifest.job_id
    two_results.write(f"{newest.folder}/{MANIFEST}", b"")
    first, second = list_revisions(two_results, FOLDER)
    assert isinstance(first, UnreadableResult)
    assert second == oldest


def test_a_folder_whose_name_is_not_utf8_is_left_alone_and_the_rest_is_listed(two_results):
    for name in (b"data/predict/output/v1/Schl\xc3", b"model/v\xff"):
        (two_results.root / os.fsdecode(name)).mkdir(parents=True)
    found = list(list_results(two_results))
    assert len([result for result in found if isinstance(result, FoundResult)]) == 2
    [named] = [result for result in found if isinstance(result, UnreadableResult)]
    assert "must be UTF-8" in named.reason
    assert len(list(list_releases(two_results))) == 1


def test_a_manifest_that_is_a_link_out_of_the_bucket_is_named(bucket, tmp_path):
    broken, whole = publish_handmade(bucket), publish_handmade(bucket, made=NOON + timedelta(hours=1))
    (tmp_path / "elsewhere.json").write_bytes(bucket.read(f"{release_folder(broken)}/{MANIFEST}") or b"")
    bucket.delete(f"{release_folder(broken)}/{MANIFEST}")
    bucket.place(f"{release_folder(broken)}/{MANIFEST}").symlink_to(tmp_path / "elsewhere.json")
    first, second = list_releases(bucket)
    assert isinstance(first, UnreadableRelease)
    assert "leads outside the bucket" in first.reason
    assert isinstance(second, FoundRelease)
    assert second.release == whole
