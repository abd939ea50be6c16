"""A rate is explained for any form of its table, and any way to name its rows."""

import gzip
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket
from shared.errors import RequestError
from shared.guard.explanation import Explanation, Question, RowState
from shared.jobs.folder import JobFolder
from shared.jobs.messages import TrainJob
from tests.definitions import OWN_KEYS, drop_in
from tests.handmade import HEADER, NOON, make_job, publish_handmade, row, run_job, write_table
from tests.trainings import train
from workers.explaining.explaining import explain

CHANGED = "1016,1,0,0,10.0,Smartphone"
LINES = [row(number) for number in range(40)]


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    return bucket


def put_table(bucket: LocalBucket, kind: str, lines: list[str], name: str) -> str:
    path = f"data/{name}"
    text = "\n".join([HEADER, *lines, ""]).encode()
    if kind == "folder":
        write_table(bucket, lines[:10], f"{path}/a.csv")
        write_table(bucket, lines[10:], f"{path}/b.csv")
        return path
    if kind == "parquet":
        out = io.BytesIO()
        pd.read_csv(io.BytesIO(text)).to_parquet(out, row_group_size=15)
        bucket.write(f"{path}.parquet", out.getvalue())
    else:
        bucket.write(f"{path}.{kind}", {"csv.gz": gzip.compress, "tsv": lambda data: data.replace(b",", b"\t")}[kind](text))
    return f"{path}.{kind}"


def why(bucket: LocalBucket, now: JobFolder, before: JobFolder | None, *keys: str, definitions: Path | None = None) -> Explanation:
    question = Question(job_id=now.job_id, against=None if before is None else before.job_id, keys=list(keys))
    return explain(bucket, ModelLibrary(bucket, Path(bucket.url) / "cache", definitions), question)


def assert_adds_up(found: Explanation) -> None:
    assert found.split is not None, found.why_not
    assert found.split.total == pytest.approx(found.change, abs=1e-9)
    of_row = sum(column.change for column in found.split.columns) + sum(found.split.rests.values())
    assert of_row == pytest.approx(found.split.row, abs=1e-9)


@pytest.mark.parametrize("kind", ["csv.gz", "tsv", "parquet", "folder"])
def test_a_row_is_found_in_every_form_of_table(bucket, kind):
    folders = []
    for minute, lines in enumerate((LINES, [*LINES[:16], CHANGED, *LINES[17:]]), 1):
        folders.append(make_job(bucket, minute=minute, table=put_table(bucket, kind, lines, f"t{minute}"), chunk_rows=7))
        run_job(folders[-1])
    found = why(bucket, folders[1], folders[0], "1016", "smartphone")
    assert_adds_up(found)
    assert {column.column for column in found.split.columns} == {"att1", "length"}
    assert found.now.line == {"parquet": 17, "folder": 8}.get(kind, 18)
    assert found.now.file.endswith({"folder": "t2/b.csv"}.get(kind, kind))


def test_a_row_is_explained_when_one_large_id_made_the_keys_of_one_result_text(bucket):
    lines = [[*LINES[:16], CHANGED, *LINES[17:], f"{1 << 61},1,0,0,10.0,Smartphone", "-7,1,0,0,10.0,Smartphone"], LINES]
    folders = [make_job(bucket, minute=minute, table=write_table(bucket, rows, f"data/{minute}.csv")) for minute, rows in enumerate(lines)]
    for folder in folders:
        run_job(folder)
    for now, before in (folders, folders[::-1]):
        assert_adds_up(why(bucket, now, before, "1016", "smartphone"))
    found = why(bucket, folders[0], folders[1], str(1 << 61), "Smartphone")
    assert (found.now.line, found.before.state) == (42, RowState.ABSENT)
    assert why(bucket, folders[1], folders[0], str(1 << 61), "Smartphone").now.state == RowState.ABSENT
    assert why(bucket, folders[0], folders[1], "-7", "Smartphone").now.line == 43


def test_a_corrected_row_is_read_from_the_correction(bucket):
    bad = make_job(
        bucket,
        minute=1,
        table=write_table(bucket, [*LINES[:16], "1016,x,0,0,4.0,Smartphone", *LINES[17:]]),
        chunk_rows=7,
        max_reject_share=0.5,
    )
    run_job(bad)
    assert why(bucket, bad, None, "1016", "1").now.state == RowState.REJECTED
    write_table(bucket, [CHANGED + ",data/predict/input/2026/11/23/prediction_input.csv,18"], "fixed.csv")
    text = bucket.read("fixed.csv").decode().replace(HEADER, f"{HEADER},reject_file,reject_line")
    bucket.write("fixed.csv", text.encode())
    fix = make_job(bucket, minute=2, fixes=bad.job_id, fixed_rows="fixed.csv", max_reject_share=0.5)
    run_job(fix)
    good = make_job(bucket, minute=3, table=write_table(bucket, LINES, "data/good.csv"), chunk_rows=7)
    run_job(good)
    found = why(bucket, fix, good, "1016", "1")
    assert_adds_up(found)
    assert found.now.line == 18
    assert {column.column for column in found.split.columns} == {"att1", "length"}


@pytest.fixture(scope="module")
def definitions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("definitions")
    drop_in(folder, "text", OWN_KEYS)
    return folder


def test_rows_of_a_definition_with_keys_of_its_own_are_named_by_these(bucket, definitions):
    words = [f"red shoes {number},exact,{number % 7}.5" for number in range(60)]
    rows = [f"{text},{number % 9 + 1},{int(number % 4 == 0)}" for number, text in enumerate(words)]
    bucket.write("data/train/2026/11/23/train.csv", "\n".join(["keyword,match_type,price,Clicks,Conversions", *rows, ""]).encode())
    job = TrainJob(job_id="20261123t120000z-train-1", created=NOON, definition="text", train="data/train/2026/11/23/train.csv")
    training = JobFolder(bucket, job.job_id)
    training.create(job)
    assert train(training, definitions).state == "done"
    folders = []
    for minute, price in enumerate(("3.5", "9.5"), 1):
        lines = [*words[:3], f"red shoes 3,exact,{price}", *words[4:]]
        table = f"data/words{minute}.csv"
        bucket.write(table, "\n".join(["keyword,match_type,price", *lines, ""]).encode())
        folders.append(make_job(bucket, minute=minute, model="text", table=table))
        run_job(folders[-1], definitions)
    found = why(bucket, folders[1], folders[0], "red shoes 3", "exact", definitions=definitions)
    assert found.keys == {"keyword": "red shoes 3", "match_type": "exact"}
    assert_adds_up(found)
    assert [column.column for column in found.split.columns] == ["price"]
    assert "replaced alone" in found.split.method
    with pytest.raises(RequestError, match="named by keyword, match_type, and 1 value came") as error:
        why(bucket, folders[1], None, "red shoes 3", definitions=definitions)
    assert error.value.next_step == "Type: scoring why KEYWORD MATCH_TYPE"
    shop = make_job(bucket, minute=5, table=write_table(bucket, LINES))
    run_job(shop)
    assert "have other keys, entity_id, device" in why(bucket, folders[1], shop, "red shoes 3", "exact", definitions=definitions).why_not


def test_a_manifest_of_another_place_is_refused(bucket):
    folder = make_job(bucket, minute=1, table=write_table(bucket, LINES))
    run_job(folder)
    manifest = json.loads(bucket.read(folder.file("manifest.json")))
    moved = manifest | {"revision": "model/v1/somewhere"}
    for path in (folder.file("manifest.json"), "model/v1/somewhere/manifest.json"):
        bucket.write(path, json.dumps(moved).encode())
    with pytest.raises(RequestError, match="is that of another result"):
        why(bucket, folder, None, "1016", "1")
    assert bucket.files("model/v1/somewhere") and not bucket.exists("model/v1/somewhere/prediction_index.arrow")
