"""Every step of a score job may run any number of times, broken or late ones included, and the result is the same and whole."""

import contextlib
import dataclasses
import gzip
import io
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from model_store import store
from model_store.library import ModelLibrary
from shared.bucket.local import LocalBucket
from shared.errors import ModelError, RequestError, StaleMessageError, TableError
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.messages import TrainJob
from shared.signatures import Signature, Signer
from tests.handmade import (
    HEADER,
    NOON,
    PLACE,
    TABLE,
    die_after,
    make_job,
    plan,
    publish_handmade,
    replace_in_place,
    row,
    run_job,
    score_chunks,
    text_at,
    tree,
    write_table,
)
from workers.notices.delivery import compose
from workers.scoring import joining, planning, publishing
from workers.scoring.chunks import chunk, chunk_reader
from workers.scoring.parts import missing_chunks
from workers.scoring.plan import Chunk, read_pinned_inputs, read_plan
from workers.tables import compression, output
from workers.tables.parquet import cuts
from workers.tables.parquet import rows as parquet_rows

OUTPUT = f"data/predict/output/v1/{PLACE}"


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    publish_handmade(bucket)
    write_table(bucket, [row(number) for number in range(40)])
    return bucket


def predicting(monkeypatch, change) -> None:
    """Lets every loaded release predict what ``change`` makes of the rates of the hand-made one."""

    class Changed:
        def __init__(self, model):
            self._model = model

        def predict(self, X):
            return change(self._model.predict(X))

    load_release = store.load_release

    def load(*arguments):
        release = load_release(*arguments)
        return dataclasses.replace(release, model=Changed(release.model))

    monkeypatch.setattr(store, "load_release", load)


# --- twice is once


def test_a_plan_made_twice_is_the_first_plan(bucket):
    folder = make_job(bucket, chunk_rows=7)
    first = plan(folder)
    publish_handmade(bucket, made=NOON.replace(hour=13))
    before = tree(bucket.root)
    assert plan(folder) == first
    assert len(first.chunks) == 6
    assert tree(bucket.root) == before


def test_two_plans_at_the_same_time_are_one_and_leave_one_set_of_slices(bucket):
    bucket.write(f"{TABLE}.gz", gzip.compress(bucket.read(TABLE)))
    folder = make_job(bucket, table=f"{TABLE}.gz", chunk_rows=7)
    with ThreadPoolExecutor(4) as threads:
        plans = list(threads.map(lambda _: planning.plan_job(folder), range(4)))
    assert all(made == plans[0] for made in plans)
    assert bucket.folders(folder.file("slices")) == [plans[0].slices]
    score_chunks(folder, bucket.root)
    assert publishing.finish_job(folder).facts["scored"] == "40"


def test_a_chunk_scored_twice_is_scored_once(bucket):
    folder = make_job(bucket, chunk_rows=7)
    made = plan(folder)
    first = chunk.score_chunk(folder, made.chunk(2), ModelLibrary(folder.bucket, bucket.root))
    before = tree(bucket.root)
    assert chunk.score_chunk(folder, made.chunk(2), ModelLibrary(folder.bucket, bucket.root)) == first
    assert tree(bucket.root) == before
    assert missing_chunks(folder, made) == [0, 1, 3, 4, 5]


def test_a_finish_waits_for_every_part_and_then_happens_once(bucket):
    folder = make_job(bucket, chunk_rows=7)
    made = plan(folder)
    for index in (5, 0, 3, 1, 2):
        chunk.score_chunk(folder, made.chunk(index), ModelLibrary(folder.bucket, bucket.root))
        assert publishing.finish_job(folder) is None
    assert not bucket.folders("data/predict/output")
    chunk.score_chunk(folder, made.chunk(4), ModelLibrary(folder.bucket, bucket.root))
    outcome = publishing.finish_job(folder)
    before = tree(bucket.root)
    assert publishing.finish_job(folder) == outcome
    assert tree(bucket.root) == before
    assert text_at(bucket, outcome.result).count("\n") == 41
    assert planning.plan_job(folder) is None


def test_finishes_at_the_same_time_agree_on_one_result(bucket):
    folder = make_job(bucket, chunk_rows=3)
    plan(folder)
    score_chunks(folder, bucket.root)
    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(lambda _: publishing.finish_job(folder), range(4)))
    assert all(outcome == outcomes[0] and outcome.state == "done" for outcome in outcomes)
    assert text_at(bucket, OUTPUT) == text_at(bucket, f"{OUTPUT}/revisions/{folder.job_id}")


def test_a_finish_that_was_killed_after_any_of_its_writes_is_completed_by_the_next(bucket, monkeypatch):
    undisturbed = run_job(make_job(bucket, chunk_rows=9))
    expected = text_at(bucket, undisturbed.result)
    writes = 0
    for minute in range(1, 30):
        folder = make_job(bucket, minute=minute, chunk_rows=9)
        plan(folder)
        score_chunks(folder, bucket.root)
        with monkeypatch.context() as patch:
            die_after(patch, bucket, minute, ("create", "writer", "copy", "delete"))
            try:
                publishing.finish_job(folder)
            except KeyboardInterrupt:
                writes += 1
        outcome = publishing.finish_job(folder)
        assert outcome.state == "done"
        assert folder.has("published.json")
        assert text_at(bucket, outcome.result) == expected
        assert json.loads(bucket.read(f"{outcome.result}/manifest.json"))["job_id"] == folder.job_id
    assert 5 <= writes < 29, "the kills did not go through the whole finish"


# --- what is broken on the way


@pytest.mark.parametrize("ending", ["csv.gz", "rejects.csv.gz", "json"])
@pytest.mark.parametrize("harm", ["changed", "cut", "emptied"])
def test_a_broken_part_is_made_again(bucket, ending, harm):
    spoiled = [row(number) for number in range(40)]
    spoiled[10] = spoiled[10].replace("Smartphone", "Watch")
    write_table(bucket, spoiled)
    folder = make_job(bucket, chunk_rows=8, max_reject_share=0.5)
    plan(folder)
    score_chunks(folder, bucket.root)
    path = bucket.place(folder.part_file(1, ending))
    data = path.read_bytes()
    path.write_bytes({"changed": data[:-3] + b"abc", "cut": data[: len(data) // 2], "emptied": b""}[harm])
    assert publishing.finish_job(folder) is None
    assert missing_chunks(folder, read_plan(folder)) == [1]
    assert not bucket.exists(f"{OUTPUT}/manifest.json")
    score_chunks(folder, bucket.root)
    outcome = publishing.finish_job(folder)
    assert (outcome.facts["scored"], outcome.facts["rejected"]) == ("39", "1")
    assert text_at(bucket, outcome.result).count("\n") == 40
    assert b"12,device,Watch" in gzip.decompress(bucket.read(f"{outcome.result}/rejects.csv.gz"))


@pytest.mark.parametrize("ending", ["csv.gz", "rejects.csv.gz", "json"])
def test_a_part_that_is_gone_is_made_again(bucket, ending):
    write_table(bucket, [row(0), row(1).replace("Smartphone", "Watch"), row(2)])
    folder = make_job(bucket, max_reject_share=0.5)
    plan(folder)
    score_chunks(folder, bucket.root)
    bucket.delete(folder.part_file(0, ending))
    assert publishing.finish_job(folder) is None
    score_chunks(folder, bucket.root)
    assert publishing.finish_job(folder).facts["scored"] == "2"


def test_a_part_that_vanishes_while_the_finish_runs_never_shortens_the_result(bucket, monkeypatch):
    folder = make_job(bucket, chunk_rows=8)
    plan(folder)
    score_chunks(folder, bucket.root)
    seen = missing_chunks

    def then_one_goes(*arguments):
        missing = seen(*arguments)
        bucket.delete(folder.part_file(3, "json"))
        return missing

    monkeypatch.setattr(joining, "missing_chunks", then_one_goes)
    assert publishing.finish_job(folder) is None
    assert folder.outcome() is None


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("harm", ["changed", "removed"])
def test_a_table_that_changes_under_the_job_is_refused(bucket, form, harm):
    path = TABLE
    if form == "parquet":
        path = TABLE.replace(".csv", ".parquet")
        packed = io.BytesIO()
        pd.read_csv(bucket.place(TABLE)).to_parquet(packed)
        bucket.write(path, packed.getvalue())
    folder = make_job(bucket, chunk_rows=7, table=path)
    made = plan(folder)
    chunk.score_chunk(folder, made.chunk(0), ModelLibrary(folder.bucket, bucket.root))
    if harm == "changed":
        bucket.write(path, bucket.read(path).replace(b"1003", b"1999"))
    else:
        bucket.delete(path)
    with pytest.raises(TableError, match=f"{path} was changed or removed while it was scored. Score it again"):
        chunk.score_chunk(folder, made.chunk(1), ModelLibrary(folder.bucket, bucket.root))


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("way", ["cp", "rsync"])
def test_a_table_that_is_replaced_by_one_of_the_same_size_and_time_is_refused(bucket, form, way):
    path = TABLE
    if form == "parquet":
        path = TABLE.replace(".csv", ".parquet")
        packed = io.BytesIO()
        pd.read_csv(bucket.place(TABLE)).to_parquet(packed)
        bucket.write(path, packed.getvalue())
    folder = make_job(bucket, chunk_rows=7, table=path)
    plan(folder)
    made = read_plan(folder)
    chunk.score_chunk(folder, made.chunk(0), ModelLibrary(folder.bucket, bucket.root))
    replace_in_place(bucket, path, b"1003", b"1999", way=way)
    with pytest.raises(TableError, match=f"{path} was changed or removed while it was scored. Score it again"):
        chunk.score_chunk(folder, read_plan(folder).chunk(1), ModelLibrary(folder.bucket, bucket.root))


def test_a_job_that_an_earlier_version_planned_goes_on_without_versions(bucket):
    folder = make_job(bucket, chunk_rows=7)
    plan(folder)
    bucket.delete(folder.file("versions.json"))
    bucket.place(TABLE).chmod(0o600)
    score_chunks(folder, bucket.root)
    assert publishing.finish_job(folder).facts["scored"] == "40"


def test_what_a_plan_says_of_its_files_is_what_an_earlier_version_reads(bucket):
    folder = make_job(bucket)
    plan(folder)
    for name in ("begun.json", "plan.json"):
        (file,) = json.loads(bucket.read(folder.file(name)))["files"]
        assert file["stamp"] == bucket.stat(TABLE).stamp
        assert "version" not in file


def test_a_parquet_table_that_is_replaced_while_it_is_looked_at_changed_and_is_not_damaged(bucket, monkeypatch):
    path = TABLE.replace(".csv", ".parquet")
    packed = io.BytesIO()
    pd.read_csv(bucket.place(TABLE)).to_parquet(packed)
    bucket.write(path, packed.getvalue())
    opened = LocalBucket.open

    def half_written(self, name):
        if name == path:
            self.place(path).write_bytes(packed.getvalue()[:-200] + bytes(200))
        return opened(self, name)

    monkeypatch.setattr(LocalBucket, "open", half_written)
    with pytest.raises(TableError, match="was changed or removed while it was scored"):
        plan(make_job(bucket, table=path))


def test_a_compressed_table_may_change_once_it_is_planned(bucket):
    bucket.write(f"{TABLE}.gz", gzip.compress(bucket.read(TABLE)))
    folder = make_job(bucket, table=f"{TABLE}.gz", chunk_rows=7)
    plan(folder)
    bucket.write(f"{TABLE}.gz", b"something else")
    score_chunks(folder, bucket.root)
    assert publishing.finish_job(folder).facts["scored"] == "40"


def test_a_compressed_table_that_unpacks_to_too_much_is_refused_and_leaves_no_slice(bucket, monkeypatch):
    monkeypatch.setattr(compression, "ALWAYS_ALLOWED_BYTES", 1 << 20)
    lines = "\n".join([HEADER, *[row(0)] * 200_000])
    bucket.write(f"{TABLE}.gz", gzip.compress(lines.encode()))
    folder = make_job(bucket, table=f"{TABLE}.gz")
    with pytest.raises(TableError, match=r"unpacks to more than the \d+ MB .* SCORING_MAX_UNPACKED_RATIO") as refused:
        planning.plan_job(folder, max_unpacked_ratio=20)
    assert refused.value.message.startswith(f"{TABLE}.gz")
    assert not bucket.folders(folder.file("slices"))
    allowed = planning.plan_job(make_job(bucket, minute=1, table=f"{TABLE}.gz"), max_unpacked_ratio=10_000)
    assert allowed.rows_at_most == 200_000


def test_all_compressed_files_of_a_table_share_one_limit(bucket, monkeypatch):
    monkeypatch.setattr(compression, "ALWAYS_ALLOWED_BYTES", 3 << 20)
    for name in range(4):
        bucket.write(f"data/many/{name}.csv.gz", gzip.compress("\n".join([HEADER, *[row(0)] * 40_000]).encode()))
    with pytest.raises(TableError, match=r"data/many/\d.csv.gz unpacks to more than the 3 MB"):
        planning.plan_job(make_job(bucket, table="data/many"), max_unpacked_ratio=1)


@pytest.mark.parametrize("cut", [(0, 0, 1 << 61, 1), (0, 100, 1 << 20, 3), (0, 5, 5, 1), (7, 0, 10, 1)])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_forged_order_for_a_chunk_beyond_the_table_is_stray_and_harms_no_job(bucket, cut, form):
    path = TABLE
    if form == "parquet":
        path = TABLE.replace(".csv", ".parquet")
        packed = io.BytesIO()
        pd.read_csv(bucket.place(TABLE)).to_parquet(packed)
        bucket.write(path, packed.getvalue())
    folder = make_job(bucket, table=path)
    plan(folder)
    with pytest.raises(StaleMessageError):
        chunk.score_chunk(folder, read_pinned_inputs(folder).chunk(0, cut), ModelLibrary(folder.bucket, bucket.root))
    score_chunks(folder, bucket.root)
    assert publishing.finish_job(folder).facts["scored"] == "40"


def test_a_slice_that_is_gone_is_read_from_the_table_again(bucket):
    expected = text_at(bucket, run_job(make_job(bucket, minute=1)).result)
    bucket.write(f"{TABLE}.gz", gzip.compress(bucket.read(TABLE)))
    folder = make_job(bucket, table=f"{TABLE}.gz", minute=2, chunk_rows=7)
    made = plan(folder)
    bucket.delete_folder(folder.file("slices"))
    score_chunks(folder, bucket.root)
    assert not bucket.folders(folder.file("slices"))
    assert text_at(bucket, publishing.finish_job(folder).result) == expected
    assert len(made.chunks) == 6


def test_a_slice_that_is_gone_is_not_read_from_another_table(bucket):
    bucket.write(f"{TABLE}.gz", gzip.compress(bucket.read(TABLE)))
    folder = make_job(bucket, table=f"{TABLE}.gz")
    made = plan(folder)
    bucket.delete_folder(folder.file("slices"))
    bucket.write(f"{TABLE}.gz", gzip.compress(bucket.read(TABLE) + b"\n"))
    with pytest.raises(TableError, match="was changed or removed while it was scored"):
        chunk.score_chunk(folder, made.chunk(0), ModelLibrary(folder.bucket, bucket.root))


def test_a_resumed_job_cuts_only_the_slices_that_it_lacks_and_still_needs(bucket):
    bucket.write(f"{TABLE}.gz", gzip.compress(bucket.read(TABLE)))
    folder = make_job(bucket, table=f"{TABLE}.gz", chunk_rows=7)
    made = plan(folder)
    for index in (0, 1, 2):
        chunk.score_chunk(folder, made.chunk(index), ModelLibrary(folder.bucket, bucket.root))
    names = [info.path for info in bucket.files(folder.file(f"slices/{made.slices}"))]
    folder.cancel()
    bucket.delete_folder(folder.file("slices"))
    folder.reopen()
    assert plan(folder) == made
    assert [info.path for info in bucket.files(folder.file(f"slices/{made.slices}"))] == names[3:]
    score_chunks(folder, bucket.root)
    assert publishing.finish_job(folder).facts["scored"] == "40"


def in_ranges(bucket, monkeypatch) -> str:
    """The table as Parquet, of which a chunk is read in ranges of a few rows."""
    monkeypatch.setattr(cuts, "MAX_VALUES_BYTES", 7 * 60)
    packed = io.BytesIO()
    pd.read_csv(bucket.place(TABLE)).to_parquet(packed)
    path = TABLE.replace(".csv", ".parquet")
    bucket.write(path, packed.getvalue())
    return path


def test_a_chunk_that_is_read_in_ranges_gives_the_same_text_and_a_suspect_the_same_bytes(bucket, monkeypatch):
    rows = [row(number) for number in range(40)]
    rows[13] = re.sub("Computer|Smartphone|Tablet", "Watch", rows[13])
    write_table(bucket, rows)
    plain = run_job(make_job(bucket, max_reject_share=0.5))
    path = in_ranges(bucket, monkeypatch)
    folder, suspected = (make_job(bucket, minute=minute, table=path, max_reject_share=0.5) for minute in (1, 2))
    one = chunk.score_chunk(folder, plan(folder).chunk(0), ModelLibrary(folder.bucket, bucket.root))
    other = chunk.score_chunk(suspected, plan(suspected).chunk(0), ModelLibrary(suspected.bucket, bucket.root), isolated=True)
    assert bucket.read(folder.part_file(0, "csv.gz")).count(output.compress(b"")[:10]) > 3, "not read in ranges"
    assert (one.output, one.rejects, one.devices, one.first_rejects) == (other.output, other.rejects, other.devices, other.first_rejects)
    assert (one.rows_in, one.rows_scored) == (40, 39)
    assert text_at(bucket, run_job(folder).result) == text_at(bucket, plain.result)


def test_the_time_that_the_bucket_takes_for_a_chunk_counts_as_reading(bucket, monkeypatch):
    @contextlib.contextmanager
    def slow(*arguments):
        time.sleep(0.2)
        with opened(*arguments) as chunk_records:
            yield chunk_records

    opened = chunk_reader.open_chunk
    monkeypatch.setattr(chunk, "open_chunk", slow)
    folder = make_job(bucket)
    part = chunk.score_chunk(folder, plan(folder).chunk(0), ModelLibrary(folder.bucket, bucket.root))
    assert part.stages["read"] >= 0.2


def test_a_large_chunk_of_a_job_that_is_cancelled_stops_between_its_ranges(bucket, monkeypatch):
    folder = make_job(bucket, table=in_ranges(bucket, monkeypatch))
    made = plan(folder)
    read = []

    def then_cancelled(self, start, end):
        read.append(start)
        folder.write_outcome(Outcome(state="cancelled", at=datetime.now(UTC), reason="by a person"))
        return rows_of(self, start, end)

    rows_of = parquet_rows.ParquetReader.rows
    monkeypatch.setattr(parquet_rows.ParquetReader, "rows", then_cancelled)
    assert chunk.score_chunk(folder, made.chunk(0), ModelLibrary(folder.bucket, bucket.root)) is None
    assert len(read) == 2
    assert not folder.parts_done()


def test_a_file_that_was_replaced_while_it_was_read_is_not_called_damaged(bucket, monkeypatch):
    path = in_ranges(bucket, monkeypatch)
    folder = make_job(bucket, table=path)
    made = plan(folder)

    def replaced(*_):
        bucket.write(path, b"another file")
        raise TableError(f"{path} is not a Parquet file")

    monkeypatch.setattr(parquet_rows.ParquetReader, "rows", replaced)
    with pytest.raises(TableError, match="was changed or removed"):
        chunk.score_chunk(folder, made.chunk(0), ModelLibrary(folder.bucket, bucket.root))


def test_slices_that_an_earlier_version_named_by_number_are_found(bucket):
    bucket.write(f"{TABLE}.gz", gzip.compress(bucket.read(TABLE)))
    folder = make_job(bucket, table=f"{TABLE}.gz", chunk_rows=7)
    made = plan(folder)
    for index, file in enumerate(bucket.files(folder.file(f"slices/{made.slices}"))):
        bucket.copy(file.path, folder.file(f"slices/{made.slices}/{index:07d}.csv"))
        bucket.delete(file.path)
    assert text_at(bucket, run_job(folder).result) == text_at(bucket, run_job(make_job(bucket, minute=1)).result)


@pytest.mark.parametrize("left", [0, 20])
def test_a_slice_that_was_cut_short_is_refused_and_loses_no_row_silently(bucket, left):
    bucket.write(f"{TABLE}.gz", gzip.compress(bucket.read(TABLE)))
    folder = make_job(bucket, table=f"{TABLE}.gz")
    made = plan(folder)
    [file] = bucket.files(folder.file(f"slices/{made.slices}"))[:1]
    bucket.write(file.path, bucket.read(file.path)[:left])
    with pytest.raises(TableError, match=f"the slice of chunk 0 of job {folder.job_id} is damaged"):
        chunk.score_chunk(folder, made.chunk(0), ModelLibrary(folder.bucket, bucket.root))
    assert not folder.parts_done()


def test_a_release_that_was_changed_after_it_was_published_scores_nothing(bucket):
    folder = make_job(bucket)
    made = plan(folder)
    with bucket.place(f"model/v1/{made.release}/model.skops").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match=r"the file model.skops of the release .* was changed after it was published"):
        chunk.score_chunk(folder, made.chunk(0), ModelLibrary(folder.bucket, bucket.root))
    assert not folder.parts_done()


# --- orders that do not fit


def test_a_chunk_beyond_the_plan_is_refused_and_leaves_the_job_alone(bucket):
    folder = make_job(bucket)
    made = plan(folder)
    with pytest.raises(StaleMessageError, match=f"job {folder.job_id} has 1 chunks; there is no chunk 1"):
        chunk.score_chunk(folder, made.chunk(1), ModelLibrary(folder.bucket, bucket.root))
    assert folder.outcome() is None


def test_steps_of_a_score_job_refuse_a_train_job_and_a_job_without_a_plan(bucket):
    job = TrainJob(job_id="20261123t120000z-train-1", created=NOON, definition="v1", train=TABLE)
    folder = JobFolder(bucket, job.job_id)
    folder.create(job)
    with pytest.raises(StaleMessageError, match="is a train job, not one that scores"):
        planning.plan_job(folder)
    for step in (read_plan, publishing.finish_job):
        with pytest.raises(StaleMessageError, match=f"has no plan. See what it waits for: scoring jobs show {job.job_id}"):
            step(folder)


# --- what a model predicts


def test_a_prediction_that_is_no_finite_number_makes_its_row_a_reject(bucket, monkeypatch):
    expected = text_at(bucket, run_job(make_job(bucket, chunk_rows=5)).result).splitlines()
    odd = {3: np.nan, 10: np.inf, 21: -np.inf}
    predicting(monkeypatch, lambda cr: np.array([odd.get(place, rate) for place, rate in enumerate(cr)]))
    folder = make_job(bucket, minute=1, max_reject_share=0.1)
    outcome = run_job(folder)
    assert (outcome.facts["scored"], outcome.facts["rejected"]) == ("37", "3")
    assert text_at(bucket, outcome.result).splitlines() == [line for place, line in enumerate(expected, -1) if place not in odd]
    rejects = gzip.decompress(bucket.read(f"{outcome.result}/rejects.csv.gz")).decode().splitlines()
    reason = "the prediction is not a finite number"
    assert rejects[1:] == [f"{TABLE},5,cr,nan,{reason}", f"{TABLE},12,cr,inf,{reason}", f"{TABLE},23,cr,-inf,{reason}"]


def test_a_prediction_outside_0_to_1_is_set_to_the_nearer_end_and_counted(bucket, monkeypatch):
    def beyond(cr):
        cr = cr.copy()
        cr[[2, 5, 6, 7]] = [1.0000001, -1e-300, -0.0, 7.0]
        return cr

    predicting(monkeypatch, beyond)
    folder = make_job(bucket)
    lines = text_at(bucket, run_job(folder).result).splitlines()[1:]
    assert [lines[index] for index in (2, 5, 6, 7)] == ["1002,2,1", "1005,2,0", "1006,0,0", "1007,1,1"]
    assert json.loads(bucket.read(f"{OUTPUT}/manifest.json"))["rows_clipped"] == 3


def test_predictions_of_another_number_than_the_rows_are_refused(bucket, monkeypatch):
    predicting(monkeypatch, lambda cr: cr[1:])
    folder = make_job(bucket)
    made = plan(folder)
    with pytest.raises(ModelError, match="the definition v1 gave 39 predictions for 40 rows"):
        chunk.score_chunk(folder, made.chunk(0), ModelLibrary(folder.bucket, bucket.root))


@pytest.mark.parametrize(("share", "state"), [(0.05, "done"), (0.049, "failed")])
def test_as_many_rejects_as_the_job_allows_and_not_one_more(bucket, share, state):
    rows = [row(number) for number in range(40)]
    rows[0], rows[39] = rows[0].replace("Computer", "Watch"), "1039,2,0,0,1,Computer"
    write_table(bucket, rows)
    folder = make_job(bucket, chunk_rows=7, max_reject_share=share)
    plan(folder)
    score_chunks(folder, bucket.root)
    if state == "done":
        assert publishing.finish_job(folder).facts["rejected"] == "2"
        return
    sentence = (
        r"2 of 40 rows of .* cannot be scored \(5.0%, allowed are 4.9%\); the first: .* line 2, column device: 'Watch' is .*; .* line 41"
    )
    with pytest.raises(TableError, match=sentence):
        publishing.finish_job(folder)
    assert not bucket.folders("data/predict/output")


# --- several jobs for one place


def finished_but_for_publishing(bucket, minute, rows):
    write_table(bucket, [row(number) for number in range(rows)])
    folder = make_job(bucket, minute=minute)
    plan(folder)
    score_chunks(folder, bucket.root)
    return folder


def test_an_older_job_that_finishes_late_does_not_replace_a_newer_result(bucket):
    older = finished_but_for_publishing(bucket, 0, 10)
    newer = finished_but_for_publishing(bucket, 1, 20)
    assert publishing.finish_job(newer).state == "done"
    assert publishing.finish_job(older).state == "done"
    assert text_at(bucket, OUTPUT).count("\n") == 21
    assert json.loads(bucket.read(f"{OUTPUT}/manifest.json"))["job_id"] == newer.job_id
    assert text_at(bucket, f"{OUTPUT}/revisions/{older.job_id}").count("\n") == 11
    assert older.status().state == newer.status().state == "done"


def test_a_newer_result_without_rejects_takes_those_of_the_older_away(bucket):
    write_table(bucket, [row(0), row(1).replace("Smartphone", "Watch")])
    run_job(make_job(bucket, max_reject_share=0.5))
    assert bucket.exists(f"{OUTPUT}/rejects.csv.gz")
    write_table(bucket, [row(0)])
    run_job(make_job(bucket, minute=1))
    assert not bucket.exists(f"{OUTPUT}/rejects.csv.gz")


def test_two_jobs_that_finish_at_the_same_time_leave_the_newer_whole(bucket, monkeypatch):
    copy = bucket.copy
    turn = threading.Event()
    for first in range(3, 40, 4):
        older = finished_but_for_publishing(bucket, first, first)
        newer = finished_but_for_publishing(bucket, first + 1, first + 1)
        copies = iter(range(1000))

        def slowly(source, target, stop_at=first // 4 % 7, copies=copies, **more):
            # the older one stands still after a different copy each time, until the newer one is through
            if threading.current_thread().name == "older" and next(copies) == stop_at:
                turn.wait(30)
            copy(source, target, **more)

        monkeypatch.setattr(bucket, "copy", slowly)
        turn.clear()
        late = threading.Thread(target=publishing.finish_job, args=(older,), name="older")
        late.start()
        publishing.finish_job(newer)
        turn.set()
        late.join()
        assert text_at(bucket, OUTPUT).count("\n") == first + 2
        assert json.loads(bucket.read(f"{OUTPUT}/manifest.json"))["job_id"] == newer.job_id


def test_slices_go_when_the_job_is_done_those_of_a_plan_that_was_never_written_as_well(bucket):
    table = write_table(bucket, [row(number) for number in range(40)])
    bucket.write("data/packed/table.csv.gz", gzip.compress(bucket.read(table)))
    folder = make_job(bucket, table="data/packed/table.csv.gz", chunk_rows=7)
    # a process that was killed while it cut the table
    bucket.write(folder.file("slices/0123456789ab/0000000.csv"), b"half of it")
    run_job(folder)
    assert bucket.folders(folder.path) == ["parts"]


# --- cancelled


def test_a_cancelled_job_is_never_published_and_goes_on_when_it_is_resumed(bucket):
    folder = finished_but_for_publishing(bucket, 0, 10)
    assert folder.cancel().state == "cancelled"
    assert publishing.finish_job(folder).state == "cancelled"
    assert planning.plan_job(folder) is None
    bucket.delete(folder.part_file(0, "json"))
    assert chunk.score_chunk(folder, read_plan(folder).chunk(0), ModelLibrary(folder.bucket, bucket.root)) is None
    assert not bucket.folders("data/predict/output")
    folder.reopen()
    score_chunks(folder, bucket.root)
    assert publishing.finish_job(folder).state == "done"
    assert text_at(bucket, OUTPUT).count("\n") == 11


def test_a_job_cancelled_while_it_is_joined_is_not_published_by_a_later_job_either(bucket, monkeypatch):
    folder = finished_but_for_publishing(bucket, 0, 10)
    write = folder.write_outcome
    monkeypatch.setattr(folder, "write_outcome", lambda outcome: (JobFolder(bucket, folder.job_id).cancel(), write(outcome))[1])
    assert publishing.finish_job(folder).state == "cancelled"
    assert not bucket.exists(f"{OUTPUT}/manifest.json")
    assert not bucket.exists(f"{OUTPUT}/prediction_output.csv.gz")
    publishing.finish_job(finished_but_for_publishing(bucket, 1, 5))
    assert text_at(bucket, OUTPUT).count("\n") == 6
    assert bucket.read(f"{OUTPUT}/revisions/{folder.job_id}/manifest.json") is None


def test_the_manifest_says_when_things_happened(bucket):
    before = datetime.now(UTC)
    run_job(make_job(bucket))
    manifest = json.loads(bucket.read(f"{OUTPUT}/manifest.json"))
    moments = [datetime.fromisoformat(manifest[name]) for name in ("job_created", "started", "finished")]
    assert moments[0] == NOON
    assert before <= moments[1] <= moments[2] <= datetime.now(UTC)


def test_a_result_is_signed_wherever_its_manifest_lies(bucket):
    bucket.signer = Signer((b"a key that is long enough",))
    later = NOON + timedelta(hours=1)
    folder = make_job(bucket, model=publish_handmade(bucket, made=later))
    outcome = run_job(folder)
    for place in (outcome.result, f"{outcome.result}/revisions/{folder.job_id}", folder.path):
        assert bucket.signer.check(bucket.read(f"{place}/manifest.json")) is Signature.RIGHT, place


def test_a_job_with_a_release_that_is_not_signed_is_refused_before_its_table_is_cut(bucket):
    bucket.signer = Signer((b"a key that is long enough",))
    folder = make_job(bucket)
    with pytest.raises(ModelError, match="is not signed, and SCORING_STORE_KEY is set"):
        plan(folder)
    assert not folder.has("plan.json")


@pytest.mark.parametrize("forged", ["unsigned", "garbage"])
def test_a_forged_revision_that_calls_itself_newer_is_not_published(bucket, forged):
    first = run_job(make_job(bucket))
    manifest = json.loads(bucket.read(f"{first.result}/manifest.json"))
    if forged == "unsigned":
        bucket.signer = Signer((b"a key that is long enough",))
        publish_handmade(bucket, made=NOON + timedelta(hours=1))
    place = f"{first.result}/revisions/99991231t235959z-score-ffffff"
    bucket.write(f"{place}/prediction_output.csv.gz", gzip.compress(b"entity_id,device,cr\n1,0,1.0\n"))
    bucket.write(f"{place}/manifest.json", json.dumps(manifest, indent=1).encode() if forged == "unsigned" else b"garbage")
    folder = make_job(bucket, minute=1)
    assert run_job(folder).state == "done"
    assert json.loads(bucket.read(f"{first.result}/manifest.json"))["job_id"] == folder.job_id


def copied_revision(bucket, source, name):
    """A revision of a finished job under the name of a later one, as somebody leaves it who may write to the bucket."""
    place = f"{OUTPUT}/revisions/{name}"
    for info in bucket.files(f"{OUTPUT}/revisions/{source.job_id}"):
        bucket.copy(info.path, f"{place}/{info.path.rpartition('/')[2]}")


@pytest.mark.parametrize("key", [(), (b"a key that is long enough",)])
@pytest.mark.parametrize("name", ["zzz-copy", "99991231t235959z-score-ffffff", "Not a job", "zzz.Z"])
def test_a_copy_of_an_older_revision_under_a_later_name_is_never_published(bucket, key, name):
    bucket.signer = Signer(key)
    publish_handmade(bucket, made=NOON + timedelta(hours=1))
    older = finished_but_for_publishing(bucket, 0, 20)
    assert publishing.finish_job(older).state == "done"
    copied_revision(bucket, older, name)
    newer = finished_but_for_publishing(bucket, 1, 30)
    assert publishing.finish_job(newer).state == "done"
    assert text_at(bucket, OUTPUT).count("\n") == 31
    assert json.loads(bucket.read(f"{OUTPUT}/manifest.json"))["job_id"] == newer.job_id


@pytest.mark.parametrize("end", ["none", "failed", "elsewhere"])
def test_a_revision_whose_job_did_not_end_well_at_this_place_is_not_newer(bucket, end):
    later = finished_but_for_publishing(bucket, 9, 20)
    assert publishing.finish_job(later).state == "done"
    outcome = later.outcome()
    bucket.delete(later.file("outcome.json"))
    if end != "none":
        changed = {"state": "failed"} if end == "failed" else {"result": "data/predict/output/v1/2026/11/24"}
        later.write_outcome(outcome.model_copy(update=changed))
    older = finished_but_for_publishing(bucket, 1, 30)
    assert publishing.finish_job(older).state == "done"
    assert json.loads(bucket.read(f"{OUTPUT}/manifest.json"))["job_id"] == older.job_id


def test_a_job_that_finds_a_newer_result_at_its_place_says_so(bucket):
    older = finished_but_for_publishing(bucket, 0, 10)
    newer = finished_but_for_publishing(bucket, 1, 20)
    publishing.finish_job(newer)
    outcome = publishing.finish_job(older)
    fact = f"at {OUTPUT} lies a newer result, that of job {newer.job_id}; this one is kept as a revision"
    assert older.with_publication_facts(outcome).facts["newer result"] == fact
    assert compose(older, outcome).facts["newer result"] == fact
    assert "newer result" not in newer.with_publication_facts(newer.outcome()).facts


@pytest.mark.parametrize("name", ["revisions", "manifest.json", "prediction_output.csv.gz", "rejects.csv.gz"])
def test_a_place_inside_the_results_of_another_place_is_refused(bucket, name):
    write_table(bucket, [row(0)])
    folder = JobFolder(bucket, "20261123t120000z-score-place")
    folder.create(make_job(bucket).job().model_copy(update={"job_id": folder.job_id, "place": f"{PLACE}/{name}/zzzz"}))
    with pytest.raises(RequestError, match=f"holds {name}, a name that is reserved at the place of a result"):
        plan(folder)
    assert not folder.has("plan.json")


def test_a_mark_that_a_power_cut_left_empty_does_not_count_and_the_result_is_published_again(bucket):
    folder = finished_but_for_publishing(bucket, 0, 10)
    publishing.finish_job(folder)
    bucket.write(folder.file("published.json"), b"")
    bucket.write(f"{OUTPUT}/prediction_output.csv.gz", b"")
    assert folder.status().state == "finishing"
    publishing.finish_job(folder)
    assert folder.status().state == "done"
    assert text_at(bucket, OUTPUT).count("\n") == 11


def test_the_result_at_its_place_is_on_the_disk_before_the_job_counts_as_published(bucket, monkeypatch):
    folder = finished_but_for_publishing(bucket, 0, 10)
    copy, copies = bucket.copy, []
    monkeypatch.setattr(bucket, "copy", lambda source, target, **more: (copies.append((target, more)), copy(source, target, **more)))
    settle = bucket.settle
    monkeypatch.setattr(bucket, "settle", lambda place: (copies.append((place, {"settled": not folder.is_published})), settle(place)))
    publishing.finish_job(folder)
    assert copies == [
        (f"{OUTPUT}/revisions/{folder.job_id}/manifest.json", {"durable": True}),
        (f"{OUTPUT}/prediction_output.csv.gz", {"durable": True}),
        (f"{OUTPUT}/manifest.json", {"durable": True}),
        (OUTPUT, {"settled": True}),
    ]


# --- while the table is still being cut


def test_chunks_scored_before_the_plan_are_those_of_the_plan(bucket):
    folder = make_job(bucket, chunk_rows=7)
    early = []

    def ready(chunks):
        for index in range(len(early), len(chunks)):
            early.append(
                chunk.score_chunk(folder, read_pinned_inputs(folder).chunk(index, chunks[index]), ModelLibrary(folder.bucket, bucket.root))
            )

    made = planning.plan_job(folder, ready)
    assert [part.chunk for part in early] == made.chunks
    assert missing_chunks(folder, made) == []
    undisturbed = run_job(make_job(bucket, minute=1))
    assert text_at(bucket, publishing.finish_job(folder).result) == text_at(bucket, undisturbed.result)


def test_a_part_of_a_slice_that_is_not_the_plans_is_made_again(bucket):
    folder = make_job(bucket, chunk_rows=7)
    begun = planning._begin(folder, folder.score_job())
    other = Chunk(0, len(HEADER) + 1, len(HEADER) + 1 + len(row(0)) + 1, 2)
    chunk.score_chunk(folder, begun.chunk(0, other), ModelLibrary(folder.bucket, bucket.root))
    made = plan(folder)
    assert made.chunks[0] != other
    for index in range(1, len(made.chunks)):
        chunk.score_chunk(folder, made.chunk(index), ModelLibrary(folder.bucket, bucket.root))
    assert publishing.finish_job(folder) is None
    assert missing_chunks(folder, made) == [0]
    score_chunks(folder, bucket.root)
    assert text_at(bucket, publishing.finish_job(folder).result) == text_at(bucket, run_job(make_job(bucket, minute=1)).result)


def test_a_plan_that_was_begun_keeps_its_release_and_its_files(bucket):
    folder = make_job(bucket)
    begun = planning._begin(folder, folder.score_job())
    publish_handmade(bucket, made=NOON + timedelta(hours=1))
    assert planning._begin(folder, folder.score_job()) == begun
    assert plan(folder).release == begun.release
    changed = make_job(bucket, minute=1)
    planning._begin(changed, changed.score_job())
    write_table(bucket, [row(number) for number in range(41)])
    with pytest.raises(TableError, match="was changed or removed"):
        plan(changed)


@pytest.mark.parametrize("cut", [(1, 0, 5, 1), (0, 9, 9, 1), (0, 9, 8, 1)])
def test_a_chunk_that_cannot_be_is_refused_before_the_plan_is_there(bucket, cut):
    folder = make_job(bucket)
    with pytest.raises(StaleMessageError, match="has no chunk"):
        planning._begin(folder, folder.score_job()).chunk(0, cut)
