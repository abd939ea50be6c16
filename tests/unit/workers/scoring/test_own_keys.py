"""A definition with keys and text of its own goes the whole way of a job: planning, rejects, fixes, results."""

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from producers.results import rejects as rejected
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import ResultManifest
from shared.catalog.result_index import open_result_index
from shared.errors import ModelError, TableError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ScoreJob, TrainJob
from shared.prediction_index import open_index
from tests.definitions import OWN_KEYS, drop_in
from tests.handmade import NOON, PLACE, make_job, run_job, text_at
from tests.trainings import train
from workers.scoring import planning

TRAIN = "data/train/2026/11/23/train.csv"
TABLE = f"data/predict/input/{PLACE}/prediction_input.csv"
WORDS = ("red shoes", "blue, green", '5" nails', "größe 42", "007", "running shoes for kids", "日本", "0x1F", " padded ", "NA")
MATCHES = ("broad", "phrase", "exact")


def record(number: int) -> list[str]:
    return [f"{WORDS[number % len(WORDS)]} {number // 10}", MATCHES[number % 3], str(number % 37 / 4), "ignored"]


HEADER = ["keyword", "match_type", "price", "note"]


def csv_text(records: list[list[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(records)
    return out.getvalue().encode()


@pytest.fixture(scope="module")
def definitions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("definitions")
    drop_in(folder, "text", OWN_KEYS)
    return folder


@pytest.fixture(scope="module")
def bucket(tmp_path_factory, definitions) -> LocalBucket:
    """With a table and a release of the definition, trained on clicks."""
    bucket = LocalBucket(tmp_path_factory.mktemp("own") / "bucket")
    rows = [[*record(number), str(number % 9 + 1), str(int(number % 4 == 0))] for number in range(300)]
    bucket.write(TRAIN, csv_text([[*HEADER, "Clicks", "Conversions"], *rows]))
    bucket.write(TABLE, csv_text([HEADER, *map(record, range(300))]))
    job = TrainJob(job_id="20261123t120000z-train-1", created=NOON, definition="text", train=TRAIN)
    folder = JobFolder(bucket, job.job_id)
    folder.create(job)
    assert train(folder, definitions).state == "done"
    return bucket


@pytest.fixture(scope="module")
def minutes():
    return iter(range(1, 1000))


def run(bucket, definitions, minutes, **more) -> JobFolder:
    folder = make_job(bucket, minute=next(minutes), **{"model": "text", "table": TABLE, **more})
    assert run_job(folder, definitions).state == "done"
    return folder


def result(bucket, definitions, minutes, **more) -> str:
    folder = run(bucket, definitions, minutes, **more)
    return text_at(bucket, folder.outcome().result)


@pytest.fixture(scope="module")
def expected(bucket, definitions, minutes) -> str:
    return result(bucket, definitions, minutes)


def test_the_manifest_of_the_release_names_keys_and_types(bucket):
    [release] = bucket.folders("model/text")
    manifest = json.loads(bucket.read(f"model/text/{release}/manifest.json"))
    assert (manifest["keys"], manifest["interval"]) == (["keyword", "match_type"], True)
    assert [(column["name"], column["type"]) for column in manifest["columns"]] == [("keyword", "text"), ("price", "number")]
    assert set(manifest["metrics"]["train"]) == {"text", "always zero", "mean of all", "mean of the keyword"}
    assert set(manifest["evaluation"]["slices"]) == {"clicks", "history"}
    assert manifest["evaluation"]["summaries"]["train"]["device_clicks"] == {}
    page = bucket.read(f"model/text/{release}/report.html").decode()
    assert not [words for words in ("by device", "Computer", "mean of the device") if words in page]


def test_the_result_has_the_keys_as_they_stand_in_the_table_and_a_rate(expected):
    header, *rows = csv.reader(io.StringIO(expected, newline=""))
    assert header == ["keyword", "match_type", "cr"]
    assert [row[:2] for row in rows] == [record(number)[:2] for number in range(300)]
    assert all(0 <= float(row[2]) <= 1 for row in rows)
    assert len({row[2] for row in rows}) > 100
    assert '\n"blue, green 0",phrase,' in expected
    assert '\n"5"" nails 0",exact,' in expected
    assert "\n007 0,phrase," in expected


@pytest.mark.parametrize("chunk_rows", [1, 7, 64])
def test_the_text_is_the_same_for_any_chunk_size(bucket, definitions, minutes, expected, chunk_rows):
    assert result(bucket, definitions, minutes, chunk_rows=chunk_rows) == expected


@pytest.mark.parametrize("form", ["csv.gz", "parquet", "other order"])
def test_the_text_is_the_same_for_any_form_of_the_table(bucket, definitions, minutes, expected, form):
    rows = [record(number) for number in range(300)]
    path = f"data/forms/{form.replace(' ', '_')}.{'csv' if form == 'other order' else form}"
    if form == "parquet":
        columns = dict(zip(HEADER, map(list, zip(*rows, strict=True)), strict=True))
        columns["price"] = [float(price) for price in columns["price"]]
        out = io.BytesIO()
        pq.write_table(pa.table(columns | {"match_type": pa.array(columns["match_type"]).dictionary_encode()}), out, row_group_size=77)
        bucket.write(path, out.getvalue())
    elif form == "csv.gz":
        bucket.write(path, gzip.compress(csv_text([HEADER, *rows])))
    else:
        bucket.write(path, csv_text([HEADER[::-1], *(row[::-1] for row in rows)]))
    assert result(bucket, definitions, minutes, table=path, chunk_rows=50) == expected


def test_numbers_as_keys_are_written_as_the_table_has_them(bucket, definitions, minutes):
    bucket.write("data/ids.csv", b"keyword,match_type,price\n0017,1.50,2\n17,01,2\n")
    lines = result(bucket, definitions, minutes, table="data/ids.csv").splitlines()
    assert [line.rpartition(",")[0] for line in lines] == ["keyword,match_type", "0017,1.50", "17,01"]


BAD = {
    10: ["", "broad", "1", ""],
    40: ["kids", "", "1", ""],
    77: ["two\nlines", "broad", "1", ""],
    100: ["kids", "broad", "dear", ""],
}


def spoiled() -> bytes:
    return csv_text([HEADER, *(BAD.get(number, record(number)) for number in range(300))]).replace(
        b"running shoes for kids 20", b"\xff\xfe"
    )


@pytest.mark.parametrize("chunk_rows", [9, None])
def test_bad_keys_and_text_are_rejects_and_corrected_rows_take_their_places(bucket, definitions, minutes, tmp_path, expected, chunk_rows):
    bucket.write("data/spoiled.csv", spoiled())
    folder = run(bucket, definitions, minutes, table="data/spoiled.csv", max_reject_share=0.5, chunk_rows=chunk_rows)
    lines = expected.splitlines()
    left = [line for number, line in enumerate(lines[1:]) if number not in {*BAD, 205}]
    assert text_at(bucket, folder.outcome().result).splitlines()[1:] == left
    found = list(rejected.find_rejects(bucket, folder.job_id)[1])
    assert [(one.line, one.column, one.value, one.reason) for one in found] == [
        (12, "keyword", "", "missing, and it names the row"),
        (42, "match_type", "", "missing, and it names the row"),
        (79, "", "two\nlines,broad,1,", found[2].reason),
        (80, "", "", found[3].reason),
        (103, "price", "dear", "not a finite number"),
        (208, "keyword", "\ufffd\ufffd", "not text on one line, in UTF-8"),
    ]
    corrected = tmp_path / "corrected.csv"
    rejected.write_rows(bucket, found, corrected)
    header, *rows = csv.reader(corrected.open(newline=""))
    numbers = {12: 10, 42: 40, 79: 77, 103: 100, 208: 205}
    kept = [[*row[:5], *record(numbers[int(row[1])])] for row in rows if int(row[1]) in numbers]
    bucket.write("data/corrected.csv", csv_text([header, *kept]))
    fix = run(
        bucket, definitions, minutes, table="data/spoiled.csv", fixes=folder.job_id, fixed_rows="data/corrected.csv", max_reject_share=0.5
    )
    assert text_at(bucket, fix.outcome().result) == expected


def test_a_table_without_a_key_is_refused_by_its_name(bucket, minutes):
    bucket.write("data/keyless.csv", b"keyword,price\nkids,1\n")
    with pytest.raises(TableError, match="lacks the column match_type; it has keyword, price"):
        planning.plan_job(make_job(bucket, minute=next(minutes), model="text", table="data/keyless.csv"))


@pytest.mark.parametrize("chunk_rows", [7, None])
def test_an_interval_stands_after_the_rate_and_nothing_else_changes(bucket, definitions, minutes, expected, chunk_rows):
    text = result(bucket, definitions, minutes, interval=True, chunk_rows=chunk_rows)
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    assert header == ["keyword", "match_type", "cr", "cr_low", "cr_high"]
    assert [line.rsplit(",", 2)[0] for line in text.splitlines()[1:]] == expected.splitlines()[1:]
    for row in rows:
        rate, low, high = map(float, row[2:])
        assert (low, high) == (rate * 0.5, 1 - (1 - rate) * 0.5)


def test_a_fix_keeps_the_interval_of_the_job_that_it_fixes(bucket, definitions, minutes):
    bucket.write(
        "data/one.csv", csv_text([HEADER, *(["kids", "broad", "dear", ""] if number == 5 else record(number) for number in range(20))])
    )
    folder = run(bucket, definitions, minutes, table="data/one.csv", max_reject_share=0.5, interval=True, chunk_rows=4)
    bucket.write("data/fix.csv", csv_text([["reject_line", *HEADER], ["7", *record(5)]]))
    fix = run(bucket, definitions, minutes, table="data/one.csv", fixes=folder.job_id, fixed_rows="data/fix.csv", interval=True)
    bucket.write("data/right.csv", csv_text([HEADER, *(record(number) for number in range(20))]))
    right = result(bucket, definitions, minutes, table="data/right.csv", interval=True)
    assert text_at(bucket, fix.outcome().result) == right


def test_a_release_without_intervals_is_refused_before_the_table_is_cut(tmp_path):
    from tests.handmade import publish_handmade, row, write_table

    bucket = LocalBucket(tmp_path / "bucket")
    release = publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(3)])
    folder = make_job(bucket, interval=True)
    with pytest.raises(ModelError, match=f"the release {release} gives no interval: its definition has no predict_interval"):
        planning.plan_job(folder)
    assert not folder.has("begun.json")


def test_a_request_that_does_not_speak_of_intervals_is_what_an_earlier_version_knows(bucket, minutes):
    job = make_job(bucket, minute=next(minutes)).score_job()
    assert "interval" not in job.encode()
    assert ScoreJob.decode(job.encode() | {"interval": True}).interval


def test_the_index_holds_the_keys_the_rates_and_the_bounds_of_the_result(bucket, definitions, minutes):
    folder = run(bucket, definitions, minutes, chunk_rows=7, interval=True)
    manifest = ResultManifest.model_validate_json(bucket.read(folder.file("manifest.json")))
    text = gzip.decompress(bucket.read(f"{manifest.revision}/prediction_output.csv.gz")).decode()
    _, *records = csv.reader(io.StringIO(text, newline=""))
    path = f"{manifest.revision}/prediction_index.arrow"
    written = open_index(bucket, path, manifest.index)
    bucket.write(path, b"")
    built = open_result_index(bucket, manifest)
    assert (written.has_digests, built.has_digests) == (True, False)
    assert written.columns == ["keyword", "price"]
    for index in (written, built):
        assert not index.has_whole_keys
        wanted = sorted([index.key_of(record[:2]), *map(float, record[2:])] for record in records)
        rows = index.at(0, index.rows)
        assert [[*values] for values in zip(rows.key, rows.cr, *rows.bounds, strict=True)] == wanted
        assert index.find(index.key_of(['5" nails 0', "exact"])) == [index.at(0, 300).key.tolist().index('5" nails 0|exact')]
