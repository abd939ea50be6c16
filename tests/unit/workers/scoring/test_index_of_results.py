"""The index of a result agrees with its predictions row by row, whatever happened to its parts."""

import csv
import gzip
import io
import json

import numpy as np
import pytest

from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import ResultManifest
from shared.catalog.result_index import open_result_index
from shared.errors import TableError, UnreadableIndexError
from shared.jobs.files import PartFile
from shared.jobs.folder import JobFolder
from shared.prediction_index import PredictionIndex, open_index
from tests.handmade import HEADER, PLACE, TABLE, make_job, plan, publish_handmade, row, run_job, score_chunks, write_table
from workers.scoring import publishing
from workers.scoring.chunks import chunk

OUTPUT = f"data/predict/output/v1/{PLACE}"


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(40)])
    return bucket


def manifest_of(bucket: LocalBucket, folder: JobFolder) -> ResultManifest:
    return ResultManifest.model_validate_json(bucket.read(f"{OUTPUT}/revisions/{folder.job_id}/manifest.json"))


def index_of(bucket: LocalBucket, folder: JobFolder) -> PredictionIndex:
    manifest = manifest_of(bucket, folder)
    index = open_index(bucket, f"{manifest.revision}/prediction_index.arrow", manifest.index)
    index.verify()
    return index


def index_bytes(bucket: LocalBucket, folder: JobFolder) -> bytes:
    return bucket.read(f"{OUTPUT}/revisions/{folder.job_id}/prediction_index.arrow")


def predictions(bucket: LocalBucket, folder: JobFolder) -> list[tuple[int, float]]:
    """Key and rate of each row of the result, in key order."""
    text = gzip.decompress(bucket.read(f"{OUTPUT}/revisions/{folder.job_id}/prediction_output.csv.gz")).decode()
    found = [(int(id_) << 2 | int(device), float(cr)) for id_, device, cr in list(csv.reader(io.StringIO(text)))[1:]]
    return sorted(found, key=lambda pair: pair[0])


def rows_in(index: PredictionIndex) -> list[tuple[int, float]]:
    (rows,) = [*index.slices()] or [index.at(0, 0)]
    return list(zip(rows.key.tolist(), rows.cr.tolist(), strict=True))


def lines_of(bucket: LocalBucket, index: PredictionIndex) -> list[str]:
    """The line of the table that each row of an index names."""
    files = [bucket.read(path).decode().splitlines() for path in index.files]
    rows = index.at(0, index.rows)
    return [files[file][line - 1] for file, line in zip(rows.file.tolist(), rows.line.tolist(), strict=True)]


def keys_of(lines: list[str]) -> list[int]:
    devices = ("Computer", "Smartphone", "Tablet")
    return [int(line.split(",")[0]) << 2 | devices.index(line.split(",")[5]) for line in lines]


@pytest.mark.parametrize("chunk_rows", [None, 1, 7])
def test_an_index_agrees_with_the_predictions_and_names_the_line_of_each_row(bucket, chunk_rows):
    lines = [row(number * 13 % 50) for number in range(60)]
    lines[7], lines[20] = "x,1,1,1,1,Tablet", ""
    write_table(bucket, lines)
    folder = make_job(bucket, chunk_rows=chunk_rows, max_reject_share=0.5)
    run_job(folder)
    index = index_of(bucket, folder)
    assert rows_in(index) == predictions(bucket, folder)
    assert keys_of(lines_of(bucket, index)) == index.at(0, index.rows).key.tolist()
    assert index.columns == ["att1", "att2", "att3", "length"]
    good = [line.split(",") for line in lines if line and not line.startswith("x")]
    assert index.feature_counts.ones == {f"att{place}": sum(int(values[place]) for values in good) for place in (1, 2, 3)}


def test_rows_with_the_same_features_have_the_same_digest(bucket):
    folder = make_job(bucket, chunk_rows=7)
    write_table(bucket, [f"{1000 + number},1,0,1,{number % 2},Tablet" for number in range(40)])
    run_job(folder)
    rows = index_of(bucket, folder).at(0, 40)
    assert len(np.unique(rows.digest, axis=0)) == 2
    assert (rows.digest[::2] == rows.digest[0]).all()


def test_the_same_input_gives_the_same_bytes_whatever_the_chunks(bucket):
    write_table(bucket, [row(number * 7 % 40) for number in range(60)])
    folders = [make_job(bucket, minute=minute, chunk_rows=rows) for minute, rows in enumerate([None, 1, 3, 25])]
    for folder in folders:
        run_job(folder)
    assert len({index_bytes(bucket, folder) for folder in folders}) == 1


def test_a_table_of_several_files_with_and_without_clicks_gives_the_clicks_of_each_row(bucket):
    place = "data/predict/input/2026/11/24"
    header = HEADER.replace("device", "device,Clicks")
    bucket.write(f"{place}/a.csv", "\n".join([header, *(f"{row(number)},{number}" for number in range(1, 20, 2)), ""]).encode())
    write_table(bucket, [row(number) for number in range(0, 20, 2)], f"{place}/b.csv")
    folder = make_job(bucket, table=place, chunk_rows=3)
    run_job(folder)
    index = index_of(bucket, folder)
    rows = index.at(0, index.rows)
    assert index.files == [f"{place}/a.csv", f"{place}/b.csv"]
    assert rows.clicks.tolist() == [number if number % 2 else 0 for number in range(20)]
    assert keys_of(lines_of(bucket, index)) == rows.key.tolist()


def test_a_table_without_clicks_has_none_in_its_index(bucket):
    folder = make_job(bucket)
    run_job(folder)
    assert index_of(bucket, folder).at(0, 40).clicks is None


def test_rows_scored_in_isolation_give_the_same_index(bucket):
    folder, other = make_job(bucket, chunk_rows=7), make_job(bucket, minute=1, chunk_rows=7)
    run_job(folder)
    made = plan(other)
    for number in range(len(made.chunks)):
        chunk.score_chunk(other, made.chunk(number), ModelLibrary(bucket, bucket.root), isolated=True)
    publishing.finish_job(other)
    assert index_bytes(bucket, folder) == index_bytes(bucket, other)


def test_a_fix_gives_the_index_of_the_table_with_the_fixed_rows(bucket):
    lines = [row(number) for number in range(20)]
    write_table(bucket, [*lines[:9], lines[9].replace("Computer", "Watch"), *lines[10:]])
    folder = make_job(bucket, chunk_rows=4, max_reject_share=0.5)
    run_job(folder)
    bucket.write("fixed.csv", f"reject_line,{HEADER}\n11,{lines[9]}\n".encode())
    fix = make_job(bucket, minute=1, table=TABLE, fixes=folder.job_id, fixed_rows="fixed.csv", chunk_rows=4)
    run_job(fix)
    write_table(bucket, lines)
    whole = make_job(bucket, minute=2)
    run_job(whole)
    assert index_of(bucket, fix).at(0, 20).digest.tolist() == index_of(bucket, whole).at(0, 20).digest.tolist()
    assert index_bytes(bucket, fix) == index_bytes(bucket, whole)


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: data[:-20] + bytes(20), lambda data: b""])
def test_a_chunk_whose_index_is_broken_is_scored_again(bucket, damage):
    folder, other = make_job(bucket, chunk_rows=7), make_job(bucket, minute=1, chunk_rows=7)
    plan(folder)
    score_chunks(folder, bucket.root)
    path = folder.part_file(2, PartFile.INDEX)
    bucket.write(path, damage(bucket.read(path)))
    assert publishing.finish_job(folder) is None
    score_chunks(folder, bucket.root)
    assert publishing.finish_job(folder).state == "done"
    run_job(other)
    assert index_bytes(bucket, folder) == index_bytes(bucket, other)


def test_parts_of_an_earlier_version_give_an_index_without_digests_and_lines(bucket):
    write_table(bucket, [row(number * 7 % 40) for number in range(40)])
    folder = make_job(bucket, chunk_rows=7)
    plan(folder)
    score_chunks(folder, bucket.root)
    bucket.delete(folder.part_file(3, PartFile.INDEX))
    publishing.finish_job(folder)
    index = index_of(bucket, folder)
    assert rows_in(index) == predictions(bucket, folder)
    assert not index.has_digests
    assert set(index.at(0, 40).line.tolist()) == {-1}
    assert index.built_from == manifest_of(bucket, folder).text_sha256
    assert rows_in(open_result_index(bucket, manifest_of(bucket, folder))) == predictions(bucket, folder)


def test_an_index_is_in_its_revision_and_not_at_the_place_of_the_result(bucket):
    folder = make_job(bucket)
    run_job(folder)
    assert not bucket.exists(f"{OUTPUT}/prediction_index.arrow")
    assert bucket.exists(f"{OUTPUT}/revisions/{folder.job_id}/prediction_index.arrow")


def test_a_job_with_too_many_rejects_leaves_no_index(bucket):
    write_table(bucket, [*(row(number) for number in range(9)), *["x,1,1,1,1,Tablet"] * 9])
    folder = make_job(bucket, chunk_rows=7)
    plan(folder)
    score_chunks(folder, bucket.root)
    with pytest.raises(TableError):
        publishing.finish_job(folder)
    assert not bucket.folders("data/predict/output")


def without_index(bucket: LocalBucket, folder: JobFolder) -> ResultManifest:
    """The manifest of the result as an earlier version wrote it, without the file."""
    manifest = manifest_of(bucket, folder)
    bucket.delete(f"{manifest.revision}/prediction_index.arrow")
    return manifest.model_copy(update={"index": None})


def test_the_index_of_an_older_result_is_built_once_from_its_predictions(bucket, monkeypatch):
    write_table(bucket, [row(number * 7 % 40) for number in range(50)])
    folder = make_job(bucket)
    run_job(folder)
    manifest = without_index(bucket, folder)
    assert "index" not in json.loads(manifest.to_json())
    assert rows_in(open_result_index(bucket, manifest)) == predictions(bucket, folder)
    monkeypatch.setattr("shared.catalog.result_index.index_from_csv", lambda *_, **__: pytest.fail("it was built twice"))
    assert rows_in(open_result_index(bucket, manifest)) == predictions(bucket, folder)


@pytest.mark.parametrize("damage", [lambda data: data[:1000], lambda data: b"", lambda data: data[:-1] + b"x"])
def test_a_damaged_index_is_built_again_from_the_predictions(bucket, damage):
    folder = make_job(bucket)
    run_job(folder)
    manifest = manifest_of(bucket, folder)
    path = f"{manifest.revision}/prediction_index.arrow"
    assert open_result_index(bucket, manifest).has_digests
    bucket.write(path, damage(bucket.read(path)))
    index = open_result_index(bucket, manifest)
    assert not index.has_digests
    assert rows_in(index) == predictions(bucket, folder)


def test_predictions_that_are_damaged_give_no_index(bucket):
    folder = make_job(bucket)
    run_job(folder)
    manifest = without_index(bucket, folder)
    path = f"{manifest.revision}/prediction_output.csv.gz"
    text = gzip.decompress(bucket.read(path))
    for damaged in (gzip.compress(text.replace(b"0.1", b"0.2")), gzip.compress(text[:-20]), gzip.compress(text)[:-30], b"x", b""):
        bucket.write(path, damaged)
        with pytest.raises(UnreadableIndexError, match=path):
            open_result_index(bucket, manifest)
        assert not bucket.exists(f"{manifest.revision}/prediction_index.arrow")
