"""A rate is explained from the files of its result: where it comes from, and the exact parts of its change."""

import json
import struct
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket
from shared.errors import RequestError, UnreadableIndexError
from shared.guard.explanation import Explanation, Question, RowState
from shared.jobs.folder import JobFolder
from tests.handmade import INTERCEPT, NOON, WEIGHTS, make_job, publish_handmade, row, run_job, write_table
from workers.explaining import answering
from workers.explaining.explaining import explain

TOLERANCE = 1e-9


@dataclass
class Shop:
    """A bucket with handmade releases of v1, whose tables are scored without a queue."""

    bucket: LocalBucket
    jobs: int = 0

    def score(self, lines: list[str], *, path: str = "", model: str = "v1", **more: object) -> JobFolder:
        self.jobs += 1
        table = write_table(self.bucket, lines, path or f"data/predict/input/2026/11/{self.jobs:02d}/keywords.csv")
        folder = make_job(self.bucket, minute=self.jobs, table=table, model=model, **{"chunk_rows": 7, **more})
        run_job(folder)
        return folder

    def why(self, now: JobFolder, before: JobFolder | None, *keys: str, **options: object) -> Explanation:
        question = Question(job_id=now.job_id, against=None if before is None else before.job_id, keys=list(keys))
        return explain(self.bucket, ModelLibrary(self.bucket, Path(self.bucket.url) / "cache"), question, **options)


@pytest.fixture
def shop(tmp_path) -> Shop:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    return Shop(bucket)


LINES = [row(number) for number in range(40)]


def with_line(number: int, text: str) -> list[str]:
    return [*LINES[:number], text, *LINES[number + 1 :]]


def assert_adds_up(found: Explanation) -> None:
    split = found.split
    assert split is not None, found.why_not
    assert split.total == pytest.approx(found.change, abs=TOLERANCE)
    assert sum(column.change for column in split.columns) + sum(split.rests.values()) == pytest.approx(split.row, abs=TOLERANCE)
    assert sum(split.reasons.values()) == pytest.approx(split.history, abs=TOLERANCE)


def test_a_rate_comes_with_its_release_its_job_its_line_and_its_chunk(shop):
    folder = shop.score(LINES)
    found = shop.why(folder, None, "1016", "1")
    assert found.keys == {"entity_id": "1016", "device": "Smartphone"}
    now = found.now
    assert (now.state, now.job_id, now.line, now.chunk) == (RowState.SCORED, folder.job_id, 18, 2)
    assert (now.file, now.table) == ("data/predict/input/2026/11/01/keywords.csv",) * 2
    assert now.rate == pytest.approx(INTERCEPT + 0.015625 + 4 * WEIGHTS[5], abs=1e-15)
    assert "no earlier result" in found.why_not


def test_a_changed_row_is_split_by_weight_times_difference(shop):
    before = shop.score(LINES)
    now = shop.score(with_line(16, "1016,1,0,0,10.0,Smartphone"))
    found = shop.why(now, before, "1016", "1")
    assert_adds_up(found)
    assert (found.split.model, found.split.history) == (0.0, 0.0)
    changes = {column.column: column for column in found.split.columns}
    assert changes.keys() == {"att1", "length"}
    assert changes["att1"].change == pytest.approx(0.25, abs=1e-15)
    assert (changes["length"].before, changes["length"].now) == ("4.0", "10.0")


def test_a_changed_release_is_the_part_of_the_model(shop):
    before = shop.score(LINES)
    publish_handmade(shop.bucket, made=NOON + timedelta(hours=1), weights=[0.125, 0.03125, 0.25, -0.125, 0.03125, 1 / 3000])
    now = shop.score(with_line(16, "1016,1,0,0,4.0,Smartphone"))
    found = shop.why(now, before, "1016", "1")
    assert_adds_up(found)
    assert found.split.model == pytest.approx(0.015625, abs=1e-12)
    assert [column.column for column in found.split.columns] == ["att1"]
    assert found.before.release != found.now.release


def test_a_rate_that_is_cut_names_what_was_cut(shop):
    before = shop.score(LINES)
    now = shop.score(with_line(16, "1016,0,1,0,4.0,Smartphone"))
    found = shop.why(now, before, "1016", "1")
    assert_adds_up(found)
    assert found.now.rate == 0.0
    assert found.split.rests.keys() == {"cut to [0, 1]"}


def test_an_unchanged_row_has_no_parts(shop):
    before, now = shop.score(LINES), shop.score(LINES)
    found = shop.why(now, before, "1016", "1")
    assert (found.change, found.split.columns, found.split.rests) == (0.0, [], {})


def test_a_rejected_row_says_why_and_where(shop):
    before = shop.score(LINES)
    now = shop.score(with_line(16, "1016,2,0,0,4.0,Smartphone"), max_reject_share=0.5)
    found = shop.why(now, before, "1016", "1")
    assert found.now.state == RowState.REJECTED
    assert (found.now.line, found.now.chunk, found.now.reason) == (18, 2, "column att1: '2' is not 0 or 1")
    assert found.before.state == RowState.SCORED
    assert found.why_not == f"in the result of job {now.job_id} the row is rejected"


def test_a_row_that_is_in_no_table_says_so(shop):
    before = shop.score(LINES)
    now = shop.score(LINES[:10])
    found = shop.why(now, before, "1016", "1")
    assert (found.now.state, found.now.rate, found.before.state) == (RowState.ABSENT, None, RowState.SCORED)
    assert found.why_not == f"in the result of job {now.job_id} the row is not in the table"


def test_a_repeated_key_explains_the_first_row(shop):
    folder = shop.score([*LINES, "1016,1,1,1,1.0,Smartphone"])
    found = shop.why(folder, None, "1016", "1")
    assert (found.now.line, found.now.rows) == (18, 2)
    assert "2 rows" in found.notes[0]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (("1016",), "rows of the result of job {job} are named by entity_id, device, and 1 value came"),
        (("1016", "3"), "'3' is not a device"),
        (("1016", "Phone"), "'Phone' is not a device"),
        (("shoes", "1"), "'shoes' is not the id of a keyword"),
        ((str(10**30), "1"), f"'{10**30}' is not the id of a keyword"),
    ],
)
def test_a_key_that_cannot_be_is_refused_in_words(shop, keys, says):
    folder = shop.score(LINES)
    with pytest.raises(RequestError) as error:
        shop.why(folder, None, *keys)
    assert error.value.message.startswith(says.format(job=folder.job_id))


def test_an_unknown_job_is_refused(shop):
    with pytest.raises(RequestError, match="has no result"):
        shop.why(JobFolder(shop.bucket, "20261123t120000z-score-nothing"), None, "1", "1")


def test_a_table_that_was_replaced_leaves_the_rates_and_says_so(shop):
    before, now = shop.score(LINES), shop.score(with_line(16, "1016,1,0,0,10.0,Smartphone"))
    write_table(shop.bucket, with_line(16, "1016,0,1,0,4.0,Smartphone"), "data/predict/input/2026/11/01/keywords.csv")
    found = shop.why(now, before, "1016", "1")
    assert found.change == pytest.approx(found.now.rate - found.before.rate)
    assert found.split is None
    assert f"is not the row that job {before.job_id} scored: it holds other values" in found.why_not


def test_a_table_with_other_rows_since_says_so(shop):
    before, now = shop.score(LINES), shop.score(LINES)
    write_table(shop.bucket, LINES[::-1], "data/predict/input/2026/11/01/keywords.csv")
    assert "scored: it holds another key" in shop.why(now, before, "1016", "1").why_not
    write_table(shop.bucket, LINES[:3], "data/predict/input/2026/11/01/keywords.csv")
    assert f"is not the row that job {before.job_id} scored" in shop.why(now, before, "1016", "1").why_not


def test_a_table_that_was_only_copied_again_is_still_read(shop):
    before, now = shop.score(LINES), shop.score(with_line(16, "1016,1,0,0,10.0,Smartphone"))
    write_table(shop.bucket, LINES, "data/predict/input/2026/11/01/keywords.csv")
    assert_adds_up(shop.why(now, before, "1016", "1"))


def test_a_table_that_is_gone_leaves_the_rates(shop):
    before, now = shop.score(LINES), shop.score(LINES)
    shop.bucket.delete("data/predict/input/2026/11/01/keywords.csv")
    found = shop.why(now, before, "1016", "1")
    assert (found.before.rate, found.change) == (found.now.rate, 0.0)
    assert "the file is gone" in found.why_not


def test_a_job_whose_files_were_removed_leaves_the_rates(shop):
    before, now = shop.score(LINES), shop.score(LINES)
    shop.bucket.delete_folder(before.path)
    found = shop.why(now, before, "1016", "1")
    assert found.before.rate == found.now.rate
    assert "the files of job" in found.why_not


def test_a_release_that_is_gone_leaves_the_rates(shop):
    before, now = shop.score(LINES), shop.score(LINES)
    shop.bucket.delete_folder(f"model/v1/{found_release(now)}")
    found = shop.why(now, before, "1016", "1")
    assert found.now.rate is not None
    assert "has no model/v1/" in found.why_not


def test_an_old_release_that_is_gone_is_not_needed(shop):
    before = shop.score(LINES)
    old = found_release(before)
    publish_handmade(shop.bucket, made=NOON + timedelta(hours=1), weights=[0.125, 0.03125, 0.25, -0.125, 0.03125, 1 / 3000])
    now = shop.score(LINES)
    shop.bucket.delete_folder(f"model/v1/{old}")
    found = shop.why(now, before, "1016", "1")
    assert_adds_up(found)
    assert any(old in note for note in found.notes)


def found_release(folder: JobFolder) -> str:
    return json.loads(folder.bucket.read(folder.file("manifest.json")))["release"]


def test_a_revision_that_is_gone_is_refused(shop):
    folder = shop.score(LINES)
    manifest = json.loads(shop.bucket.read(folder.file("manifest.json")))
    shop.bucket.delete_folder(manifest["revision"])
    with pytest.raises(RequestError, match="has no result"):
        shop.why(folder, None, "1016", "1")


def index_path(folder: JobFolder) -> str:
    return json.loads(folder.bucket.read(folder.file("manifest.json")))["revision"] + "/prediction_index.arrow"


def test_a_damaged_index_is_built_again_without_lines(shop):
    before, now = shop.score(LINES), shop.score(LINES)
    shop.bucket.write(index_path(before), b"damaged")
    found = shop.why(now, before, "1016", "1")
    assert (found.before.rate, found.before.line) == (found.now.rate, None)
    assert "names no lines" in found.why_not


def test_an_index_with_other_rates_than_the_manifest_says_is_built_again(shop):
    folder = shop.score(LINES)
    whole = shop.why(folder, None, "1016", "1").now
    data = bytearray(shop.bucket.read(index_path(folder)))
    at = data.index(struct.pack("<d", whole.rate))
    data[at : at + 8] = struct.pack("<d", 0.75)
    shop.bucket.write(index_path(folder), bytes(data))
    assert shop.why(folder, None, "1016", "1").now.rate == whole.rate


def test_an_old_row_without_a_column_of_the_new_release_is_not_split(shop):
    before, now = shop.score(LINES), shop.score(LINES)
    release = found_release(now)
    path = f"model/v1/{release}/manifest.json"
    manifest = json.loads(shop.bucket.read(path))
    manifest["columns"].append({"name": "price", "type": "number"})
    shop.bucket.write(path, json.dumps(manifest).encode())
    found = shop.why(now, before, "1016", "1")
    assert "lacks what the other release needs" in found.why_not
    assert "price" in found.why_not


def test_an_unexpected_error_is_an_answer_too(shop, monkeypatch):
    folder = shop.score(LINES)
    monkeypatch.setattr(answering, "explain", lambda *_, **__: 1 / 0)
    question = Question(job_id=folder.job_id, against=None, keys=["1016", "1"])
    given = answering.answer(shop.bucket, ModelLibrary(shop.bucket, Path("no-cache")), question, enter=lambda _: None)
    assert (given.explanation, given.exit_code) == (None, 1)
    assert "ZeroDivisionError" in given.error


def test_a_result_whose_index_and_predictions_are_damaged_is_refused(shop):
    folder = shop.score(LINES)
    shop.bucket.write(index_path(folder), b"damaged")
    shop.bucket.write(index_path(folder).replace("prediction_index.arrow", "prediction_output.csv.gz"), b"damaged")
    with pytest.raises(UnreadableIndexError):
        shop.why(folder, None, "1016", "1")
