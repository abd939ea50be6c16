"""A table is later than the one trained on only if it holds other files, weeks and rows, however the same rows are stored."""

import gzip
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from producers.sample.tables import write_table
from shared.bucket.local import LocalBucket
from shared.catalog.manifests import TableFingerprint
from shared.records import FileDigest
from workers.tables.training.table import TrainingTable, read_training_table
from workers.training.out_of_time import why_not_out_of_time

ROWS = 4000


@pytest.fixture
def bucket(tmp_path) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    for week in (30, 31):
        made = write_table(tmp_path / f"week{week}.csv", ROWS, 1, week=week)
        bucket.upload(made.path, f"data/{week}/rows.csv")
    return bucket


def read(bucket: LocalBucket, path: str, *, with_week: bool = True) -> TrainingTable:
    return read_training_table(bucket, path, None, with_week=with_week)


def lines(bucket: LocalBucket, week: int) -> list[bytes]:
    return (bucket.read(f"data/{week}/rows.csv") or b"").splitlines(keepends=True)


@pytest.mark.parametrize("with_week", [True, False])
def test_the_next_week_is_later(bucket, with_week):
    assert why_not_out_of_time(read(bucket, "data/31", with_week=with_week), read(bucket, "data/30", with_week=with_week)) == ""


def test_the_halves_of_one_table_without_weeks_share_no_rows(bucket):
    whole = read(bucket, "data/30", with_week=False)
    first = np.arange(len(whole.frame)) < len(whole.frame) // 2
    later, earlier = whole.only(first), whole.only(~first)
    other = TableFingerprint(path="half", files={"half": FileDigest(sha256="0" * 64, size=1)}, rows=1, rejected=0)
    assert why_not_out_of_time(replace(later, fingerprint=other), earlier) == ""


def test_a_folder_that_holds_the_table_to_judge_on_was_trained_on_it(bucket):
    bucket.write("data/30/eval.csv", bucket.read("data/31/rows.csv") or b"")
    assert why_not_out_of_time(read(bucket, "data/30/eval.csv"), read(bucket, "data/30")) == (
        "it was judged on data/30/eval.csv, a file that it was trained on"
    )
    assert "a file that it was trained on" in why_not_out_of_time(read(bucket, "data/30"), read(bucket, "data/30/eval.csv"))


def test_a_table_with_a_week_that_was_trained_on_is_not_later(bucket):
    header, *rows = lines(bucket, 31)
    bucket.write("data/30/more.csv", header + b"".join(rows[:10]))
    bucket.write("data/31/rows.csv", header + b"".join(rows[10:]))
    assert (
        why_not_out_of_time(read(bucket, "data/31"), read(bucket, "data/30"))
        == "it was judged on week 31, of which it was trained on some rows"
    )


def as_gzip(bucket: LocalBucket) -> None:
    bucket.write("data/copy/rows.csv.gz", gzip.compress(bucket.read("data/30/rows.csv") or b""))


def as_parquet(bucket: LocalBucket) -> None:
    pd.read_csv(f"{bucket.root}/data/30/rows.csv").astype({"att1": "int8", "Clicks": "int32"}).to_parquet(
        f"{bucket.root}/data/rows.parquet"
    )
    bucket.write("data/copy/rows.parquet", bucket.read("data/rows.parquet") or b"")


def as_a_tenth_in_another_order(bucket: LocalBucket) -> None:
    header, *known = lines(bucket, 30)
    _, *new = lines(bucket, 31)
    bucket.write("data/copy/rows.csv", header + b"".join(new) + b"".join(reversed(known[: len(known) // 8])))


@pytest.mark.parametrize("copy", [as_gzip, as_parquet, as_a_tenth_in_another_order])
def test_rows_that_were_trained_on_are_found_in_another_file_of_a_table_without_weeks(bucket, copy):
    copy(bucket)
    why = why_not_out_of_time(read(bucket, "data/copy", with_week=False), read(bucket, "data/30", with_week=False))
    assert why.endswith("rows with conversions that it was judged on are rows that it was trained on")


def test_a_real_week_is_later_than_the_one_before_it_though_some_rows_come_again(tmp_path, real_keywords):
    bucket = LocalBucket(tmp_path / "bucket")
    for week in (30, 31):
        bucket.upload(real_keywords / f"week{week}.csv.gz", f"data/real{week}.csv.gz")
    tables = [read(bucket, f"data/real{week}.csv.gz", with_week=False) for week in (31, 30)]
    assert why_not_out_of_time(*tables) == ""


def test_what_is_in_a_table_does_not_depend_on_the_names_of_its_files():
    one, two = FileDigest(sha256="1" * 64, size=1), FileDigest(sha256="2" * 64, size=1)
    first = TableFingerprint(path="first", files={"a": one, "b": two}, rows=2, rejected=0)
    assert first.contents == first.model_copy(update={"files": {"a": two, "b": one}}).contents
