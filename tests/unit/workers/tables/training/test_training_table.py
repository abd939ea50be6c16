"""A training table says the same whatever kind of file it is, and every row of it is used or accounted for."""

import gzip
import hashlib
import io
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.bucket.local import LocalBucket
from shared.catalog.manifests import Column
from shared.errors import TableError
from tests.handmade import replace_in_place
from workers.tables import formats
from workers.tables.training.table import TrainingTable, choose_columns, read_training_table

FEATURES = ["computer", "smartphone", "att1", "att2", "price"]


@pytest.fixture
def bucket(tmp_path):
    return LocalBucket(tmp_path / "bucket")


def raw_table(rows: int, seed: int = 1) -> pd.DataFrame:
    chance = np.random.default_rng(seed)
    clicks = chance.integers(1, 50, rows)
    return pd.DataFrame(
        {
            "entity_id": chance.integers(-(2**62), 2**62, rows),
            "att1": chance.integers(0, 2, rows),
            "att2": chance.integers(0, 2, rows),
            "price": chance.random(rows).round(3),
            "device": chance.choice(["Computer", "Smartphone", "Tablet"], rows),
            "week": 30,
            "Clicks": clicks,
            "Conversions": np.minimum(chance.integers(0, 60, rows), clicks + 3),
        }
    )


def prepared_table(raw: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cr": np.minimum(raw["Conversions"], raw["Clicks"]) / raw["Clicks"],
            "entity_id": raw["entity_id"],
            "computer": (raw["device"] == "Computer").astype(int),
            "smartphone": (raw["device"] == "Smartphone").astype(int),
            "att1": raw["att1"],
            "att2": raw["att2"],
            "price": raw["price"],
        }
    )


def as_csv(table: pd.DataFrame, **options) -> bytes:
    return table.to_csv(index=False, **options).encode()


def as_parquet(table: pd.DataFrame) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table), out, row_group_size=7)
    return out.getvalue()


KINDS = {
    "csv": as_csv,
    "csv with CRLF": lambda table: as_csv(table, lineterminator="\r\n"),
    "csv quoted": lambda table: as_csv(table, quoting=1),
    "csv.gz": lambda table: gzip.compress(as_csv(table)),
    "csv.gz of members": lambda table: gzip.compress(as_csv(table[:5])) + gzip.compress(as_csv(table[5:], header=False)),
    "parquet": as_parquet,
}


def put(bucket, kind: str, table: pd.DataFrame, path: str = "data/train") -> str:
    path = f"{path}.{kind.split(maxsplit=1)[0]}"
    bucket.write(path, KINDS[kind](table))
    return path


def assert_same(one: TrainingTable, other: TrainingTable) -> None:
    pd.testing.assert_frame_equal(one.frame, other.frame)
    assert one.columns == other.columns
    for field in ("entity_id", "device", "conversions", "clicks"):
        np.testing.assert_array_equal(getattr(one.observations, field), getattr(other.observations, field))


# --- the same table in every kind of file


@pytest.mark.parametrize("kind", KINDS)
def test_a_raw_table_is_the_same_in_every_kind_of_file(bucket, kind):
    raw = raw_table(200)
    table = read_training_table(bucket, put(bucket, kind, raw), None)
    prepared = prepared_table(raw)
    assert table.frame.columns.tolist() == ["cr", "entity_id", *FEATURES]
    assert [str(dtype) for dtype in table.frame.dtypes] == ["float64", "int64", "int8", "int8", "int8", "int8", "float64"]
    for name in table.frame:
        assert table.frame[name].tolist() == prepared[name].tolist(), name
    assert [column.type for column in table.columns] == ["binary"] * 4 + ["number"]
    observations = table.observations
    assert observations.entity_id.tolist() == raw["entity_id"].tolist()
    assert observations.device.tolist() == [["Computer", "Smartphone", "Tablet"].index(name) for name in raw["device"]]
    assert observations.clicks.tolist() == raw["Clicks"].tolist()
    assert observations.conversions.tolist() == np.minimum(raw["Conversions"], raw["Clicks"]).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_prepared_table_is_the_same_in_every_kind_of_file(bucket, kind):
    raw = raw_table(200)
    prepared = read_training_table(bucket, put(bucket, kind, prepared_table(raw)), None)
    from_raw = read_training_table(bucket, put(bucket, "csv", raw, "data/raw"), None)
    pd.testing.assert_frame_equal(prepared.frame, from_raw.frame)
    assert prepared.columns == from_raw.columns
    assert set(prepared.observations.clicks.tolist()) == {1.0}, "a prepared table counts one click for each row"
    assert prepared.observations.conversions.tolist() == prepared.frame["cr"].tolist()


def test_a_folder_of_files_is_one_table(bucket):
    raw = raw_table(90)
    whole = read_training_table(bucket, put(bucket, "csv", raw), None)
    bucket.write("data/parts/a.csv", as_csv(raw[:20]))
    bucket.write("data/parts/b.csv.gz", gzip.compress(as_csv(raw[20:50][raw.columns[::-1]])))
    bucket.write("data/parts/c.parquet", as_parquet(raw[50:80]))
    bucket.write("data/parts/d.csv", as_csv(raw[80:80]))
    bucket.write("data/parts/e.csv", as_csv(raw[80:].assign(device=raw["device"].map({"Computer": 0, "Smartphone": 1, "Tablet": 2}))))
    assert_same(read_training_table(bucket, "data/parts", None), whole)


@given(rows=st.integers(1, 40), seed=st.integers(0, 99), rows_at_once=st.integers(1, 20), chunk_bytes=st.integers(20, 300))
@settings(max_examples=40, deadline=None)
def test_a_table_is_the_same_in_whatever_pieces_it_is_read(tmp_path_factory, rows, seed, rows_at_once, chunk_bytes):
    bucket = LocalBucket(tmp_path_factory.mktemp("bucket"))
    raw = raw_table(rows, seed)
    paths = [put(bucket, kind, raw) for kind in ("csv", "csv.gz", "parquet")]
    whole = read_training_table(bucket, paths[0], None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "TRAINING_ROWS_AT_ONCE", rows_at_once)
        patch.setattr(formats, "MAX_CHUNK_BYTES", chunk_bytes)
        for path in paths:
            assert_same(read_training_table(bucket, path, None), whole)


# --- a table that changes while it is read


class ReplacedWhileRead:
    """A file of which the second half is read after the file was replaced."""

    def __init__(self, raw, replace):
        self._raw, self._replace = raw, replace

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._raw.close()

    def __getattr__(self, name):
        return getattr(self._raw, name)

    def read(self, size=-1):
        data = self._raw.read(size)
        if self._replace:
            self._replace()
            self._replace = None
        return data

    def readinto(self, buffer):
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
@pytest.mark.parametrize("way", ["cp", "rsync"])
def test_a_table_that_is_replaced_while_it_is_read_to_train_is_refused(bucket, monkeypatch, kind, way, files):
    raw = raw_table(300)
    path = put(bucket, kind, raw)
    if files > 1:
        path = "data/many"
        for name in ("data/many/a", "data/many/b"):
            put(bucket, kind, raw, name)
    replaced = put(bucket, kind, raw) if files == 1 else f"data/many/a.{kind}"
    read_last = replaced if files == 1 else f"data/many/b.{kind}"
    opened = LocalBucket.open

    def opening(self, name):
        found = opened(self, name)
        if name != read_last:
            return found
        return ReplacedWhileRead(found, lambda: replace_in_place(bucket, replaced, b"", b"", way=way))

    monkeypatch.setattr(LocalBucket, "open", opening)
    with pytest.raises(TableError, match=f"{replaced} was changed or removed while it was read. Train again"):
        read_training_table(bucket, path, None)


# --- fingerprints


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_the_fingerprint_has_the_digest_of_every_file_and_counts_every_row(bucket, kind):
    raw = raw_table(300)
    raw.loc[7, "Clicks"] = 0
    path = put(bucket, kind, raw)
    fingerprint = read_training_table(bucket, path, None).fingerprint
    assert (fingerprint.path, fingerprint.rows, fingerprint.rejected) == (path, 299, 0)
    data = bucket.read(path)
    assert {name: (digest.sha256, digest.size) for name, digest in fingerprint.files.items()} == {
        path: (hashlib.sha256(data).hexdigest(), len(data))
    }


# --- the target


def test_conversions_are_capped_at_the_clicks(bucket):
    raw = raw_table(3).assign(Clicks=[2, 5, 1], Conversions=[7, 5, 0])
    table = read_training_table(bucket, put(bucket, "csv", raw), None)
    assert table.frame["cr"].tolist() == [1.0, 1.0, 0.0]
    assert table.observations.conversions.tolist() == [2.0, 5.0, 0.0]


@pytest.mark.parametrize(("clicks", "conversions"), [(0, 0), (0, 1), (-1, 0), (3, -1)])
def test_a_row_without_clicks_or_with_negative_counts_is_not_used(bucket, clicks, conversions):
    raw = raw_table(200)
    raw.loc[[17, 99], ["Clicks", "Conversions"]] = [clicks, conversions]
    table = read_training_table(bucket, put(bucket, "csv", raw), None)
    assert table.frame["entity_id"].tolist() == raw["entity_id"].drop([17, 99]).tolist()
    assert table.observations.device.tolist() == [["Computer", "Smartphone", "Tablet"].index(name) for name in raw["device"].drop([17, 99])]
    assert (table.fingerprint.rows, table.fingerprint.rejected) == (198, 0 if clicks == 0 and conversions >= 0 else 2)
    assert np.isfinite(table.frame["cr"]).all()


@pytest.mark.parametrize("rate", [-0.01, 1.01, math.inf, math.nan])
def test_a_row_with_an_impossible_rate_is_not_used(bucket, rate):
    prepared = prepared_table(raw_table(200))
    prepared.loc[17, "cr"] = rate
    table = read_training_table(bucket, put(bucket, "csv", prepared), None)
    assert len(table.frame) == 199
    assert table.fingerprint.rejected == 1


def test_counts_are_believed_before_a_rate(bucket):
    raw = raw_table(10).assign(cr=0.5)
    table = read_training_table(bucket, put(bucket, "csv", raw), None)
    assert table.frame["cr"].tolist() == prepared_table(raw)["cr"].tolist()
    assert "cr" not in [column.name for column in table.columns]


# --- what is used, and what is refused


def test_only_the_wanted_columns_are_read_in_their_order(bucket):
    raw = raw_table(10).assign(keyword="any, text")
    table = read_training_table(bucket, put(bucket, "csv", raw), ["price", "computer", "att2"])
    assert table.frame.columns.tolist() == ["cr", "entity_id", "price", "computer", "att2"]


def test_a_second_table_is_read_with_the_columns_of_the_first(bucket):
    train = read_training_table(bucket, put(bucket, "csv", raw_table(10)), None)
    other = raw_table(10, seed=2)
    other.insert(0, "att3", 1)
    table = read_training_table(bucket, put(bucket, "parquet", other, "data/eval"), None, train.columns)
    assert table.columns == train.columns
    assert table.frame.columns.tolist() == train.frame.columns.tolist()


def test_a_few_bad_rows_are_left_out(bucket):
    raw = raw_table(500)
    lines = as_csv(raw).decode().splitlines()
    lines[100] = "not a record"
    lines[200] = lines[200].replace(",30,", ",30,many", 1)
    lines[300] = lines[300].partition(",")[2]
    bucket.write("data/train.csv", "\n".join(lines).encode())
    table = read_training_table(bucket, "data/train.csv", None)
    assert (table.fingerprint.rows, table.fingerprint.rejected) == (497, 3)
    assert table.frame["entity_id"].tolist() == raw["entity_id"].drop([99, 199, 299]).tolist()


def refusal(bucket, path, wanted=None, columns=None) -> str:
    with pytest.raises(TableError) as caught:
        read_training_table(bucket, path, wanted, columns)
    assert caught.value.next_step
    assert "\n" not in str(caught.value)
    return caught.value.message


def test_too_many_bad_rows_are_refused_with_the_first_ones_quoted(bucket):
    raw = raw_table(100)
    raw.loc[10, "Clicks"] = -1
    lines = as_csv(raw).decode().splitlines()
    lines[21] = lines[21] + ",more"
    lines[31] = lines[31].replace(",30,", ",30,x", 1)
    bucket.write("data/train.csv", "\n".join(lines).encode())
    sentence = refusal(bucket, "data/train.csv")
    assert sentence.startswith("3 of 100 rows of data/train.csv cannot be used to train: ")
    assert "line 12: it has a negative count" in sentence
    assert "line 22: the record has 9 values, the header 8" in sentence
    assert "line 32, column Clicks: 'x" in sentence


@pytest.mark.parametrize("what", ["rows", "clicks"])
def test_more_may_be_left_out_where_the_request_says_so(bucket, what):
    raw = raw_table(100)
    bad = [10, 20, 30] if what == "rows" else [10]
    raw.loc[bad, "Conversions"] = -1
    if what == "clicks":
        raw.loc[bad, "Clicks"] = 100
    path = put(bucket, "csv", raw)
    assert "--max-left-out" in refused_step(bucket, path)
    table = read_training_table(bucket, path, None, max_left_out=0.2)
    assert (table.fingerprint.rejected, table.max_left_out) == (len(bad), 0.2)
    with pytest.raises(TableError, match="cannot be used to train"):
        read_training_table(bucket, path, None, max_left_out=0.001)


def refused_step(bucket, path) -> str:
    with pytest.raises(TableError) as caught:
        read_training_table(bucket, path, None)
    return caught.value.next_step


def test_a_table_without_a_row_is_refused(bucket):
    for kind in ("csv", "csv.gz", "parquet"):
        assert "it has a header but no row with clicks" in refusal(bucket, put(bucket, kind, raw_table(5)[:0]))


def test_a_table_without_a_target_is_refused(bucket):
    for columns in (["Clicks", "Conversions"], ["Conversions"], ["Clicks"]):
        sentence = refusal(bucket, put(bucket, "csv", raw_table(5).drop(columns=columns)))
        assert sentence == "data/train.csv has nothing to learn from: neither Clicks and Conversions nor cr"


@pytest.mark.parametrize("title", [b"Keyword report\n", b"Report,,,,,,,\n"])
@pytest.mark.parametrize("wanted", [None, ["att1"]])
def test_a_title_above_the_header_is_reported_as_when_scoring(bucket, title, wanted):
    bucket.write("data/titled.csv", title + as_csv(raw_table(5)))
    with pytest.raises(TableError) as caught:
        read_training_table(bucket, "data/titled.csv", wanted)
    assert caught.value.next_step == "Remove what stands above the header: it must be the first line."


def test_a_folder_in_which_one_file_has_another_target_is_refused(bucket):
    raw = raw_table(20)
    bucket.write("data/mixed/a.csv", as_csv(raw))
    bucket.write("data/mixed/b.csv", as_csv(prepared_table(raw)))
    assert refusal(bucket, "data/mixed").startswith("data/mixed/b.csv lacks the column Clicks and 1 more")
    bucket.write("data/mixed2/a.csv", as_csv(prepared_table(raw)))
    bucket.write("data/mixed2/b.csv", as_csv(raw))
    assert refusal(bucket, "data/mixed2").startswith("data/mixed2/b.csv lacks the column cr")


def test_a_lacking_column_is_named(bucket):
    raw = raw_table(5)
    assert "lacks the column att9" in refusal(bucket, put(bucket, "csv", raw), ["att1", "att9"])
    assert "lacks the column device (or computer and smartphone)" in refusal(bucket, put(bucket, "csv", raw.drop(columns="device")))
    assert "lacks the column entity_id" in refusal(bucket, put(bucket, "csv", raw.drop(columns="entity_id")))
    assert "lacks the column att2" in refusal(
        bucket, put(bucket, "csv", raw.drop(columns="att2")), None, [Column(name="att1", type="binary"), Column(name="att2", type="binary")]
    )


def test_a_table_without_a_feature_is_refused():
    with pytest.raises(TableError, match="has no feature beside the device"):
        choose_columns(["entity_id", "device", "week", "Clicks", "Conversions", "cr"], "t.csv", None)


def test_a_column_of_words_is_named_with_its_first_values(bucket):
    sentence = refusal(bucket, put(bucket, "csv", raw_table(50).assign(keyword="shoes")))
    assert sentence.startswith("50 of 50 rows of data/train.csv cannot be used to train: line 2, column keyword: 'shoes' is not a finite")


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"\x89PNG\r\n\x1a\n\0\0", "is not a csv table"),
        ("t.csv", b"entity_id,att1,att1,device,cr\n", "has the column 'att1' more than once"),
        ("t.csv", as_csv(raw_table(5)) + b'"1,0,0\n2,0,0\n', "has a quote on line 7 that is never closed"),
        ("t.csv.gz", gzip.compress(as_csv(raw_table(500)), mtime=0)[:-9], "is not a whole gzip file"),
        ("t.csv.gz", gzip.compress(as_csv(raw_table(500)), mtime=0) + b"garbage after", "is not a whole gzip file"),
        ("t.csv.gz", as_csv(raw_table(5)), "is not a whole gzip file"),
        ("t.parquet", as_parquet(raw_table(50))[:-9], "is not a Parquet file"),
        ("t.parquet", as_csv(raw_table(5)), "is not a Parquet file"),
        ("t.txt", b"text", "is not a table"),
    ],
)
def test_a_file_that_is_no_table_is_refused(bucket, name, data, says):
    bucket.write(f"data/{name}", data)
    sentence = refusal(bucket, f"data/{name}")
    assert sentence.startswith(f"data/{name} ")
    assert says in sentence


def test_what_is_not_there_is_refused(bucket):
    assert refusal(bucket, "data/nothing.csv").startswith("there is no table data/nothing.csv")
    bucket.write("data/notes.txt", b"")
    assert refusal(bucket, "data") == "the folder data holds no table"
