"""The clicks of a scored table are read where it has them, and a row without them is never a reject."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.catalog.manifests import Column
from workers.tables import rows as table_rows
from workers.tables.csv import rows as csv_rows
from workers.tables.csv.rows import read_csv_rows
from workers.tables.parquet.rows import ParquetReader
from workers.tables.rows import Rows
from workers.tables.schema import TableSchema, table_schema_for

BITS = [f"att{number}" for number in range(1, 10)]
FEATURES = [*(Column(name=name, type="binary") for name in BITS), Column(name="score", type="number")]
COLUMNS = ["entity_id", *BITS, "Clicks", "score", "device"]

VALUES = {
    "7": 7.0,
    "2.5": 2.5,
    " 3 ": 3.0,
    "+4": 4.0,
    "1e3": 1000.0,
    "": 0.0,
    "NA": 0.0,
    "n/k": 0.0,
    "-1": 0.0,
    "-0.0": 0.0,
    "nan": 0.0,
    "inf": 0.0,
    "1_000": 0.0,
    "1.801,5": 0.0,
    "\xff": 0.0,
}


def schema_of(columns: list[str], features: list[Column] = FEATURES) -> TableSchema:
    return table_schema_for("t.csv", columns, features, reads_clicks=True)


def text_of(clicks: list[str]) -> bytes:
    lines = [f"{number},{'0,1,' * 4}0,{quoted(text)},{number / 2},Tablet\n" for number, text in enumerate(clicks)]
    return "".join(lines).encode("latin-1")


def quoted(text: str) -> str:
    return f'"{text}"' if "," in text else text


def read(data: bytes, columns: list[str] = COLUMNS) -> Rows:
    return read_csv_rows(data, schema_of(columns), 2)


def slow_path_fails(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(csv_rows, "_read_records", lambda *_: pytest.fail("the slow path was taken"))


@pytest.mark.parametrize("text", [text for text in VALUES if "," not in text])
def test_a_row_without_valid_clicks_has_none_and_leaves_its_chunk_on_the_fast_path(text, monkeypatch):
    slow_path_fails(monkeypatch)
    rows = read(text_of(["5", text, "6"]))
    assert rows.clicks.tolist() == [5.0, VALUES[text], 6.0]
    assert not rows.rejects
    assert rows.frame.columns.tolist() == ["entity_id", "computer", "smartphone", *BITS, "score"]


@given(st.lists(st.sampled_from([*VALUES]), max_size=8))
@settings(max_examples=100, deadline=None)
def test_clicks_are_the_same_whichever_way_a_chunk_is_read(texts):
    data, wanted = text_of(texts), [VALUES[text] for text in texts]
    assert read(data).clicks.tolist() == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "_is_plain", lambda _: False)
        assert read(data).clicks.tolist() == wanted


def test_clicks_stay_with_their_rows_when_others_are_rejected():
    data = text_of(["1", "2", "3", "4"]).replace(b"\n1,0", b"\nx,0")
    rows = read(data)
    assert [reject.line for reject in rows.rejects] == [3]
    assert rows.clicks.tolist() == [1.0, 3.0, 4.0]
    kept = table_rows.reject_rows(rows, np.array([True, False, False]), np.zeros(3), "wrong")
    assert kept.clicks.tolist() == [3.0, 4.0]
    assert table_rows.without_lines(kept, [5]).clicks.tolist() == [3.0]


def test_a_value_over_several_lines_in_the_column_of_clicks_is_no_reject():
    data = text_of(["1", "2"]).replace(b"0,2,", b'0,"2\n",')
    rows = read(data)
    assert not rows.rejects
    assert rows.clicks.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("columns", [[name for name in COLUMNS if name != "Clicks"], [*COLUMNS, "Clicks"]])
def test_a_table_with_no_such_column_or_two_has_no_clicks(columns):
    assert schema_of(columns).clicks == ()


def test_clicks_that_are_a_feature_are_read_once_and_rejected_when_they_are_wrong():
    features = [*FEATURES, Column(name="Clicks", type="number")]
    data = text_of(["5", "n/k", "-2"])
    rows = read_csv_rows(data, schema_of(COLUMNS, features), 2)
    assert [reject.column for reject in rows.rejects] == ["Clicks"]
    assert rows.clicks.tolist() == [5.0, 0.0]
    assert rows.frame["Clicks"].tolist() == [5.0, -2.0]


@pytest.mark.parametrize(
    ("clicks", "wanted"),
    [
        (pa.array([1, None, 3], pa.int32()), [1.0, 0.0, 3.0]),
        (pa.array([1.5, float("nan"), -1.0]), [1.5, 0.0, 0.0]),
        (pa.array(["2", "n/k", None]), [2.0, 0.0, 0.0]),
        (pa.array([[1], [2], [3]]), [0.0, 0.0, 0.0]),
    ],
)
def test_clicks_of_a_parquet_table_of_any_type_reject_no_row(clicks, wanted):
    columns = {"entity_id": [1, 2, 3], **{name: pa.array([0, 1, 0], pa.int8()) for name in BITS}, "Clicks": clicks}
    columns |= {"score": [0.5, 1.0, 1.5], "device": ["Tablet"] * 3}
    raw = io.BytesIO()
    pq.write_table(pa.table(columns), raw)
    rows = ParquetReader(raw, schema_of(COLUMNS), 3).rows(0, 3)
    assert rows.clicks.tolist() == wanted
    assert not rows.rejects
