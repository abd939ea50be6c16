"""One bad row is a reject and never touches its neighbours; good rows give the same numbers whichever way they are read."""

import csv
import gzip
import io
import math
import random
import struct
from decimal import Decimal
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model_store.definitions import load_definition
from shared.catalog.manifests import KEYS, Column
from shared.errors import TableError
from shared.index_format import DEVICES
from tests.growth import best_of
from workers.scoring.chunks import rates
from workers.tables import output, packed_flags, schema
from workers.tables import rows as table_rows
from workers.tables.chunk_size import ChunkSize
from workers.tables.csv import rows as csv_rows
from workers.tables.csv.cuts import open_csv
from workers.tables.csv.rows import read_csv_rows
from workers.tables.parquet import rows as parquet_rows
from workers.tables.parquet.rows import ParquetReader
from workers.tables.rows import Reject, Rows
from workers.tables.schema import table_schema_for

RAW = ["entity_id", "keyword", "att1", "score", "device"]
PREPARED = ["computer", "entity_id", "smartphone", "keyword", "att1", "score"]
FEATURES = [Column(name="att1", type="binary"), Column(name="score", type="number")]
RAW_LAYOUT = table_schema_for("t.csv", RAW, FEATURES)
PREPARED_LAYOUT = table_schema_for("t.csv", PREPARED, FEATURES)


def read(text: str | bytes, table_schema=RAW_LAYOUT, first_line=2) -> Rows:
    return read_csv_rows(text if isinstance(text, bytes) else text.encode(), table_schema, first_line)


def plain(rows: Rows) -> tuple[list[tuple], list[Reject]]:
    """All that was read, as values that can be compared."""
    frame = rows.frame
    lines = rows.lines[np.arange(len(frame))].tolist()
    values = [frame[name].tolist() for name in frame.columns]
    assert frame.columns.tolist() == ["entity_id", "computer", "smartphone", "att1", "score"]
    assert [str(kind) for kind in frame.dtypes] == ["int64", "int8", "int8", "int8", "float64"]
    assert rows.device.dtype == np.int8
    assert rows.frame["entity_id"].tolist() == values[0]
    return list(zip(lines, *values, rows.device.tolist(), strict=True)), rows.rejects


def read_slowly(monkeypatch_context, data: bytes, table_schema) -> Rows:
    """Record by record, whatever is in it."""
    with monkeypatch_context() as patch:
        patch.setattr(csv_rows, "_is_plain", lambda _: False)
        return read_csv_rows(data, table_schema, 2)


def rejected(rows: Rows) -> tuple[int, str, str, str]:
    (reject,) = rows.rejects
    return reject.line, reject.column, reject.value, reject.reason


# --- any way of reading


good_ids = st.sampled_from(["1", "20458", "-7", "0", "007", "9007199254740993", "-9223372036854775808", " 12 ", '"33"', "1.0", "+5"])
bad_ids = st.sampled_from(
    ["", "NA", "x", "1.5", "9223372036854775808", "1_000", "0x10", "nan", "inf", "1e400", "١٢", "--1", "1 2", '"1', "1\0"]
)
good_bits = st.sampled_from(["0", "1", "1.0", " 1", "1e0", '"0"', "0.0", "-0", "+1", "\t1"])
bad_bits = st.sampled_from(
    ["", "2", "-1", "NA", "null", "x", "0.5", "256", "257", "nan", "-nan", "#N/A", "0x1", "0X0", "1_0", "yes", "1\0", '""']
)
good_numbers = st.sampled_from(["0", "0.1", "-3.5e10", "1e-400", ".5", "5.", "123456789012345678901234567890", '"7"', "4.9e-324", "-0.0"])
bad_numbers = st.sampled_from(["", "inf", "-Infinity", "nan", "NaN", "1e400", "x", "0x1p3", "1,5", "1d0", "1_0", "NULL", "٣"])
good_devices = st.sampled_from(["Computer", "smartphone", "TABLET", "0", "1", "2", "2.0", " Tablet ", '"Computer"'])
bad_devices = st.sampled_from(["", "Phone", "3", "-1", "NA", "Computer;", '"Tab\nlet"', "Tablet\0", "１", '"Tablet', "tablet\r x"])
keywords = st.sampled_from(["", "shoes", '"a, b"', '"x ""y"" z"', '"two\nlines"', '24" tv', "0x7", "a\rb", "ü", '"', '"open'])


@st.composite
def lines_of(draw, columns):
    """A line as a program or a person may leave it; most are good."""
    good = draw(st.integers(0, 9)) > 0
    flags = draw(st.sampled_from([("1", "0"), ("0", "1"), ("0", "0")] if good else [("1", "1"), ("1", "2"), ("", "0")]))
    values = {
        "entity_id": draw(good_ids if good else good_ids | bad_ids),
        "keyword": draw(keywords),
        "att1": draw(good_bits if good else good_bits | bad_bits),
        "score": draw(good_numbers if good else good_numbers | bad_numbers),
        "device": draw(good_devices if good else good_devices | bad_devices),
        "computer": flags[0],
        "smartphone": flags[1],
    }
    line = ",".join(values[name] for name in columns)
    if not good:
        line = draw(st.sampled_from([line, line, line, line + ",9", line.rpartition(",")[0], "", "   ", ",,,,", "\xff"]))
    return line + draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\n\n", "\n\r\n", "\r\r\n"]))


layouts = st.sampled_from([RAW_LAYOUT, PREPARED_LAYOUT])
texts = layouts.flatmap(
    lambda table_schema: st.tuples(
        st.just(table_schema),
        st.lists(lines_of(table_schema.columns), max_size=12).map("".join),
        st.booleans(),
    ).map(lambda made: (made[0], (made[1].removesuffix("\n") if made[2] else made[1]).encode("utf-8", "surrogateescape")))
)
wild = st.tuples(layouts, st.binary(max_size=60) | st.text(st.sampled_from('01,"\n\r x.'), max_size=60).map(str.encode))


@given(texts | wild)
@example((RAW_LAYOUT, b'1,k,0,1,"Tablet\n"\n'))
@example((RAW_LAYOUT, b"1,k,0,1,Tablet\r2,k,9,1,Tablet\n"))
@example((RAW_LAYOUT, b"1,k,0x1,1,Tablet\n"))
@example((RAW_LAYOUT, b"9007199254740993,k,0,1,Tablet\n,k,0,1,Tablet\n"))
@settings(max_examples=300, deadline=None)
def test_a_chunk_read_whole_or_record_by_record_gives_the_same_rows_and_rejects(made):
    table_schema, data = made
    fast = read_csv_rows(data, table_schema, 2)
    slow = read_slowly(pytest.MonkeyPatch.context, data, table_schema)
    assert plain(fast) == plain(slow)
    assert np.signbit(fast.frame["score"]).equals(np.signbit(slow.frame["score"]))


@given(texts, st.builds(ChunkSize, bytes=st.integers(1, 80), rows=st.none() | st.integers(1, 4)))
@settings(max_examples=200, deadline=None)
def test_a_table_cut_anyhow_gives_the_same_rows_and_rejects(made, size):
    table_schema, data = made
    header = ",".join(table_schema.columns).encode() + b"\n"
    try:
        cuts = [(cut.data.tobytes(), cut.first_line) for cut in open_csv(io.BytesIO(header + data), "t.csv", size)[1]]
    except TableError as error:
        assert "never closed" in error.message
        return
    chunk_records = [plain(read_csv_rows(text, table_schema, first_line)) for text, first_line in cuts]
    whole = plain(read_csv_rows(data, table_schema, 2))
    assert [row for rows, _ in chunk_records for row in rows] == whole[0]
    assert [reject for _, rejects in chunk_records for reject in rejects] == whole[1]


@given(texts)
@settings(max_examples=150, deadline=None)
def test_every_record_is_a_row_or_a_reject(made):
    table_schema, data = made
    rows, rejects = plain(read_csv_rows(data, table_schema, 2))
    lines = [row[0] for row in rows] + [reject.line for reject in rejects]
    assert len(set(lines)) == len(lines)
    assert all(2 <= line < 2 + data.count(b"\n") + 1 for line in lines)
    if b'"' not in data:
        assert sorted(lines) == [number for number, line in enumerate(data.split(b"\n"), 2) if line.strip(b"\r")]


@given(st.lists(st.tuples(st.booleans(), lines_of(RAW)), min_size=1, max_size=8), bad_ids, bad_bits, bad_numbers)
@settings(max_examples=100, deadline=None)
def test_a_bad_row_never_changes_its_neighbours(made, bad_id, bad_bit, bad_number):
    lines = [line for _, line in made if '"' not in line]
    alone = [row for line in lines for row in plain(read(line))[0]]
    bad = [f"{value},k,{bit},{number},Tablet\n" for value, bit, number in [(bad_id, 0, 1), (1, bad_bit, 1), (1, 0, bad_number)]]
    bad = [line for line in bad if '"' not in line and not plain(read(line))[0]]
    together = [line for pair in zip(lines, bad * len(lines), strict=False) for line in pair]
    assert [row[1:] for row in plain(read("".join(together)))[0][: len(alone)]] == [row[1:] for row in alone][: len(together)]


@given(wild)
@settings(max_examples=300, deadline=None)
def test_whatever_the_bytes_nothing_else_is_raised(made):
    table_schema, data = made
    read_csv_rows(data, table_schema, 2)


def test_a_byte_order_mark_inside_a_table_is_a_reject_wherever_a_chunk_starts():
    """Arrow passes over one at the start of what it reads: the row was good or bad, or gone, by the place of the cut."""
    for line in ("\ufeff1,k,0,1,Tablet\n", "\ufeff\n"):
        assert plain(read(line))[0] == []
        assert [reject.line for reject in read(line).rejects] == [2]
        assert read(f"7,k,0,1,Tablet\n{line}", first_line=1).rejects == read(line).rejects


# --- values


@pytest.mark.parametrize(("text", "code"), [(f"{name}", code) for code, name in enumerate(DEVICES)])
@pytest.mark.parametrize("way", [str, str.lower, str.upper, str.swapcase, lambda text: f" {text} ", lambda text: f'"{text}"'])
def test_a_device_is_its_name_in_any_case(text, code, way):
    rows = read(f"1,k,0,0.5,{way(text)}\n")
    assert rows.device.tolist() == [code]
    assert (rows.frame["computer"].tolist(), rows.frame["smartphone"].tolist()) == ([int(code == 0)], [int(code == 1)])


@pytest.mark.parametrize(("text", "code"), [("0", 0), ("1", 1), ("2", 2), ("0.0", 0), ("2.0", 2), (" 1", 1)])
def test_a_device_is_its_code(text, code):
    assert read(f"1,k,0,0.5,{text}\n").device.tolist() == [code]


NO_DEVICE = "not one of Computer, Smartphone, Tablet, 0, 1, 2"


@pytest.mark.parametrize("text", ["-1", "1.5", "01", "NA", "Computer!", "null", "None", "nan", "TV screens"])
def test_what_is_no_device_is_a_reject(text):
    assert rejected(read(f"1,k,0,0.5,{text}\n")) == (2, "device", text, NO_DEVICE)


@pytest.mark.parametrize(
    ("text", "name"),
    [("Computers", "Computer"), ("Desktop", "Computer"), ("Mobile phones", "Smartphone"), ("MOBILE", "Smartphone"), ("Phone", "Smartphone"),
     ("Mobile devices with full browsers", "Smartphone"), (" Tablets ", "Tablet")],
)  # fmt: skip
def test_a_device_by_the_name_of_another_system_is_a_reject_that_says_what_to_write(text, name):
    assert rejected(read(f"1,k,0,0.5,{text}\n")) == (2, "device", text, f"{NO_DEVICE}; write {name}")


@pytest.mark.parametrize("text", ["3", "4", "5", "6.0"])
def test_a_device_by_the_number_of_another_system_is_a_reject_that_says_so(text):
    assert rejected(read(f"1,k,0,0.5,{text}\n"))[3] == f"{NO_DEVICE}; other systems number devices in another way, so write their names"


def test_an_empty_cell_is_missing_in_every_column_that_is_read():
    for text, column in [
        (",k,0,0.5,Tablet", "entity_id"),
        ("1,k,,0.5,Tablet", "att1"),
        ("1,k,0, ,Tablet", "score"),
        ("1,k,0,0.5,", "device"),
    ]:
        _, name, value, reason = rejected(read(f"{text}\n"))
        assert (name, value.strip(), reason) == (column, "", "missing")


@pytest.mark.parametrize(("flags", "code"), [("1,0", 0), ("0,1", 1), ("0,0", 2), ("1.0,0.0", 0)])
def test_a_device_is_its_flags(flags, code):
    computer, smartphone = flags.split(",")
    rows = read(f"{computer},1,{smartphone},k,0,0.5\n", PREPARED_LAYOUT)
    assert rows.device.tolist() == [code]
    assert rows.frame.iloc[0].tolist() == [1, code == 0, code == 1, 0, 0.5]


def test_both_flags_are_a_reject():
    assert rejected(read("1,7,1,k,0,0.5\n", PREPARED_LAYOUT)) == (2, "computer", "1", "computer and smartphone are both 1")
    assert rejected(read("2,7,1,k,0,0.5\n", PREPARED_LAYOUT)) == (2, "computer", "2", "not 0 or 1")
    assert rejected(read("0,7,,k,0,0.5\n", PREPARED_LAYOUT)) == (2, "smartphone", "", "missing")


@pytest.mark.parametrize("text", ["0", "1", "1.0", "0.0", " 1", "1 ", "1e0", "+1", "-0", '"1"', "01"])
def test_a_binary_value_is_0_or_1_however_it_is_written(text):
    rows = read(f"1,k,{text},0.5,Tablet\n2,k,0,0.5,Tablet\n")
    assert rows.rejects == []
    assert rows.frame["att1"].tolist() == [int(float(text.strip('"'))), 0]


@pytest.mark.parametrize(
    "text", ["NA", "nan", "2", "-1", "256", "257", "0.5", "x", "yes", "0x1", "1_0", "None", "#N/A", "1e400", "１", "1 1"]
)
def test_a_binary_value_that_is_something_else_is_a_reject_that_shows_it(text):
    rows = read(f"1,k,0,0.5,Tablet\n\n2,k,{text},0.5,Tablet\n3,k,1,0.5,Tablet\n")
    assert rejected(rows) == (4, "att1", text, "not 0 or 1")
    assert rows.frame["entity_id"].tolist() == [1, 3]
    assert rows.lines[np.array([0, 1])].tolist() == [2, 5]


@pytest.mark.parametrize(
    "text", ["0", "0.1", "-3.5e10", ".5", "5.", "4.9e-324", "1.7976931348623157e308", "1e-400", "0.1000000000000000055511151231257827"]
)
def test_a_number_is_read_to_the_nearest_double(text):
    assert read(f"1,k,0,{text},Tablet\n").frame["score"].tolist() == [float(text)]
    assert read(f"1,k,0,{text},Tablet\n2,k,0,x,Tablet\n").frame["score"].tolist() == [float(text)]


@pytest.mark.parametrize("text", ["inf", "-inf", "Infinity", "nan", "NaN", "1e400", "-1e400", "x", "0x1p3", "1_000", "1 000", "NULL", "٣"])
def test_a_number_that_is_not_finite_is_a_reject_that_shows_it(text):
    assert rejected(read(f"1,k,0,{text},Tablet\n2,k,0,1,Tablet\n")) == (2, "score", text, "not a finite number")


@pytest.mark.parametrize(
    "text", ["0", "1", "-1", "9007199254740993", "9223372036854775807", "-9223372036854775808", "1.0", "1.", "+456", " 5 ", "007", "00123"]
)
def test_an_id_keeps_every_digit_whatever_stands_beside_it(text):
    expected = int(text.partition(".")[0])
    for neighbour in [
        "2,k,0,1,Tablet",
        ",k,0,1,Tablet",
        "NA,k,0,1,Tablet",
        "1.5,k,0,1,Tablet",
        "3.0,k,0,1,Tablet",
        "2,k,x,1,Tablet",
        "9",
        "",
    ]:
        rows = read(f"{text},k,0,1,Tablet\n{neighbour}\n")
        assert rows.frame["entity_id"].tolist()[0] == expected, neighbour


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((text, "not a whole number") for text in ["NA", "x", "1.5", "nan", "inf", "1_000", "0x10", "٣", "4503599627370497.4", "1 2"]),
        *((text, "too large for an id") for text in ["9223372036854775808", "-9223372036854775809", "9" * 25, "1" * 5000]),
        *((text, "not a whole number: written with an exponent, it has lost digits") for text in ["1.23457E+11", "1e3", "1e300", "5e0"]),
        ("", "missing"),
    ],
)
def test_an_id_that_is_no_whole_number_of_64_bits_is_a_reject(text, reason):
    for neighbour in ("1", "1e5", "1.0", "x"):
        read_ = read(f"{neighbour},k,0,1,Tablet\n{text},k,0,1,Tablet\n")
        last = read_.rejects[-1]
        assert (last.line, last.column, last.reason) == (3, "entity_id", reason)
        assert last.value == (text if len(text) <= 80 else text[:77] + "...")


@pytest.mark.parametrize(("text", "value"), [("TRUE", 1), ("FALSE", 0), ("true", 1), (" False", 0)])
def test_true_and_false_are_1_and_0_as_booleans_of_parquet_are(text, value):
    rows = read(f"1,k,{text},0.5,Tablet\n2,k,0,{text},Tablet\n")
    assert rows.rejects == []
    assert rows.frame["att1"].tolist() == [value, 0]
    assert rows.frame["score"].tolist() == [0.5, value]
    as_parquet = read_parquet({"entity_id": [1], "keyword": ["k"], "att1": [bool(value)], "score": [bool(value)], "device": ["Tablet"]})
    assert (as_parquet.frame["att1"].tolist(), as_parquet.frame["score"].tolist()) == ([value], [value])
    assert rejected(read(f"{text},k,0,1,Tablet\n"))[1] == "entity_id"
    assert rejected(read(f"1,k,0,1,{text}\n"))[1] == "device"


def test_the_first_wrong_column_of_a_row_is_named():
    assert rejected(read("x,k,9,nan,Phone\n"))[1] == "entity_id"
    assert rejected(read("1,k,9,nan,Phone\n"))[1] == "device"
    assert rejected(read("1,k,9,nan,Tablet\n"))[1] == "att1"


def test_columns_that_nobody_asked_for_may_hold_anything():
    data = b'1,\xff\xfe,0,1,Tablet\n2,\0,0,1,Tablet\n3,"a\nb",0,1,Tablet\n4,' + b"x" * 500_000 + b",0,1,Tablet\n"
    rows = read(data)
    assert rows.rejects == []
    assert rows.frame["entity_id"].tolist() == [1, 2, 3, 4]
    assert rows.lines[np.arange(4)].tolist() == [2, 3, 4, 6]


def test_a_long_quoted_text_beside_a_bad_value_is_read():
    data = b'1,"' + b"x" * 500_000 + b'",7,1,Tablet\n2,k,0,1,Tablet\n'
    assert rejected(read(data)) == (2, "att1", "7", "not 0 or 1")


@pytest.mark.parametrize("bad", [b"\xff", b"\0", b"1\0", b"\xc3\x28", b"\xed\xa0\x80"])
@pytest.mark.parametrize("column", [0, 2, 3, 4])
def test_bytes_that_are_not_text_are_a_reject(bad, column):
    values = [b"1", b"k", b"0", b"1", b"Tablet"]
    values[column] = bad
    line, name, value, _ = rejected(read(b"1,k,0,1,Tablet\n" + b",".join(values) + b"\n2,k,0,1,Tablet\n"))
    assert (line, name) == (3, RAW[column])
    assert value == bad.decode("utf-8", "replace")


# --- records


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("1,k,0,1", 4),
        ("1,k,0,1,Tablet,", 6),
        ("1", 1),
        ("   ", 1),
        ("1,k,0,1,Tablet,2,k,0,1,Tablet", 10),
        (",,,", 4),
        ('"1,k,0,1,Tablet"', 1),
    ],
)
def test_a_record_with_too_few_or_too_many_values_is_a_reject(line, values):
    rows = read(f"1,k,0,1,Tablet\n{line}\n2,k,0,1,Tablet\n")
    number, column, value, reason = rejected(rows)
    assert (number, column, reason) == (3, "", f"the record has {values} values, the header 5")
    assert value == line.strip('"')
    assert rows.frame["entity_id"].tolist() == [1, 2]


@pytest.mark.parametrize("blank", ["\n", "\r\n", "\n\n\n", "\n\r\n"])
def test_a_blank_line_is_no_record(blank):
    rows = read(f"{blank}1,k,0,1,Tablet\n{blank}2,k,7,1,Tablet\n{blank}")
    before = blank.count("\n")
    assert rows.lines[np.array([0])].tolist() == [2 + before]
    assert rejected(rows)[0] == 3 + 2 * before


def test_a_chunk_without_a_record_has_no_rows():
    for data in (b"", b"\n", b"\r\n\r\n"):
        rows = read(data)
        assert plain(rows) == ([], [])


def test_a_line_of_10_mb_is_a_reject_wherever_it_stands():
    long = b"3,k,0,1," + b"9" * (10 << 20) + b"\n"
    for data, line in [(long, 2), (b"1,k,0,1,Tablet\n" + long + b"2,k,0,1,Tablet\n", 3)]:
        rows = read(data)
        assert rejected(rows) == (line, "", "3", "the line is longer than 1,048,576 bytes")
        assert len(rows.frame) == line * 2 - 4


def test_a_carriage_return_inside_a_line_ends_no_line():
    rows = read("1,k,0,1,Tablet\n2,k,0,1,Tab\rlet\n3,a\rb,0,1,Tablet\n4,k,0,1,Tablet\r\r\n")
    assert rows.frame["entity_id"].tolist() == [1, 3, 4]
    assert rejected(rows)[:2] == (3, "device")


def test_a_quote_that_swallows_lines_loses_no_row_in_silence():
    swallowing = '2,"k,0,1,Tablet\n3,k,0,1,Tablet\n4,"k,0,1,Tablet\n'
    rows = read(f"1,k,0,1,Tablet\n{swallowing}5,k,0,1,Tablet\n")
    assert rows.frame["entity_id"].tolist() == [1, 5]
    assert [reject.line for reject in rows.rejects] == [3, 4, 5]
    assert "never closed" in rows.rejects[1].reason
    in_a_needed_column = '2,k,"0,1,Tablet\n3,k,",0,1\n4,k,0,1,Tablet\n'
    assert [reject.line for reject in read(in_a_needed_column).rejects] == [2, 3]


def test_a_quote_that_swallows_thousands_of_lines_fails_the_table():
    with pytest.raises(TableError, match=r"t\.csv has a record of 2,002 lines on line 2; perhaps a quote is never closed") as caught:
        read('1,"k,0,1,Tablet\n' + "2,k,0,1,Tablet\n" * 2000 + '3,"k,0,1,Tablet\n')
    assert caught.value.next_step


def test_a_text_over_thousands_of_lines_in_a_column_nobody_asked_for_is_a_text():
    assert read('1,"' + "a\n" * 5000 + '",0,1,Tablet\n').frame["entity_id"].tolist() == [1]


def test_rows_can_be_made_rejects_afterwards_with_their_lines():
    rows = read("1,k,0,1,Tablet\n2,k,9,1,Tablet\n3,k,0,1,Computer\n4,k,0,1,Tablet\n")
    left = table_rows.reject_rows(rows, np.array([True, False, False]), np.array([math.nan, 0.1, 0.2]), "no number")
    assert [(reject.line, reject.column, reject.value) for reject in left.rejects] == [(2, "cr", "nan"), (3, "att1", "9")]
    assert (left.frame["entity_id"].tolist(), left.device.tolist(), left.lines[np.array([0, 1])].tolist()) == ([3, 4], [0, 2], [4, 5])
    again = table_rows.reject_rows(left, np.array([False, True]), np.array([0.1, math.inf]), "no number")
    assert [reject.line for reject in again.rejects] == [2, 3, 5]
    assert again.lines[np.array([0])].tolist() == [4]


# --- the layout


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (["entity_id", "att1", "score"], r"lacks the column device \(or computer and smartphone\)"),
        (["entity_id", "att1", "score", "computer"], r"lacks the column device \(or computer and smartphone\)"),
        (["att1", "score", "device"], "lacks the column entity_id"),
        (["entity_id", "device", "score"], "lacks the column att1"),
        (["x"], "lacks the column entity_id and 3 more; it has x"),
        ([f"c{number}" for number in range(20)], r"it has c0, c1, c2, c3, c4, c5, \.\.\."),
        (["Entity_ID", "ATT1", "score", "device"], "lacks the column entity_id"),
    ],
)
def test_a_lacking_column_is_named(columns, says):
    with pytest.raises(TableError, match=says) as caught:
        table_schema_for("t.csv", columns, FEATURES)
    assert caught.value.next_step


def test_every_column_but_keys_and_labels_is_a_feature():
    offered = schema.feature_columns(["entity_id", "att1", "att12", "attx", "price", "device", "week", "Clicks", "Conversions", "cr"])
    assert [(column.name, column.type) for column in offered] == [
        ("computer", "binary"),
        ("smartphone", "binary"),
        ("att1", "binary"),
        ("att12", "binary"),
        ("attx", "number"),
        ("price", "number"),
    ]


# --- quotes that join rows


KEYWORD_LAYOUT = table_schema_for("t.csv", ["entity_id", "device", "keyword", "att1", "score"], FEATURES)
STRAY = '11,Computer,"24 inch,1,0\n12,Tablet,tv,0,0\n13,Smartphone,32",0,1\n14,Tablet,tv,1,1\n'


def ids_and_lines(rows: Rows) -> tuple[list[int], list[int]]:
    return rows.frame["entity_id"].tolist(), [reject.line for reject in rows.rejects]


def test_rows_that_two_stray_quotes_join_are_rejects_each_with_its_line():
    rows = read(STRAY, KEYWORD_LAYOUT)
    assert ids_and_lines(rows) == ([14], [2, 3, 4])
    assert "which are rows by themselves" in rows.rejects[0].reason


@pytest.mark.parametrize(
    "text",
    [
        '11,Computer,"24 inch,1,0\n13,Smartphone,32",0,1\n',
        '11,Computer,"24 inch,1,0\r\n13,Smartphone,32",0,1\r\n',
        '11,Computer,"24 inch, wide,1,0\n13,Smartphone,32, flat",0,1\n',
        '11,Computer,"24 inch,NA,0\n13,Smartphone,32",0,1\n',
        '11,Computer,"24 inch,1,0\n13x,Smartphone,32",2,1\n',
        '11,Computer,"24 inch\n13,Smartphone,32",0,1\n',
        '11,Computer,"a ""b"" c,1,0\n13,Smartphone,32",0,1\n',
        '11,Computer,"24 inch,1,0\n\n13,Smartphone,32",0,1\n',
        '11,"Computer,tv,1,0\n13",Smartphone,0,1,1\n',
        '"11,Computer,tv,1,0\n13",Smartphone,tv,0,1\n',
        '11,Computer,tv,"1,0\n13,Smartphone,tv,0",1\n',
        '11,Computer,tv,1,"0\n13,Smartphone,tv,0,1"\n',
    ],
)
def test_two_rows_joined_by_quotes_in_any_column_are_two_rejects(text):
    rows = read(text, KEYWORD_LAYOUT)
    assert rows.frame.empty
    assert len(rows.rejects) == len([line for line in text.splitlines() if line])


def test_a_stray_quote_in_the_first_or_the_last_column_joins_no_rows():
    first = table_schema_for("t.csv", ["keyword", "entity_id", "device", "att1", "score"], FEATURES)
    assert ids_and_lines(read('"24 inch,11,Computer,1,0\n32",13,Tablet,1,1\n', first)) == ([], [2, 3])
    last = table_schema_for("t.csv", ["entity_id", "device", "att1", "score", "keyword"], FEATURES)
    assert ids_and_lines(read('11,Computer,1,0,"24 inch\n12,Tablet,0,0,tv\n13,Tablet,1,1,32"\n', last)) == ([], [2, 3, 4])


@pytest.mark.parametrize(
    "value",
    [
        "two\nlines",
        "\n\n\n",
        "Berlin, Hamburg, Kiel\nBonn, Ulm, Trier",
        "a, b\nc, d, e\nf, g",
        "Bought\n7, Main street",
        'we said ""yes"",\nand went',
        "1\n0\n1",
        "one, two, three, four, five\nsix",
    ],
)
def test_a_value_of_several_lines_is_no_rows_wherever_its_column_stands(value):
    for place in range(5):
        cells, names = ["7", "Computer", "1", "0.5"], ["entity_id", "device", "att1", "score"]
        cells.insert(place, f'"{value}"')
        names.insert(place, "note")
        rows = read(",".join(cells) + "\n8,x\n", table_schema_for("t.csv", names, FEATURES))
        assert rows.frame["entity_id"].tolist() == [7], names
        assert len(rows.rejects) == 1


@pytest.mark.parametrize(
    "value",
    ["a\r12,Tablet,tv,0,0\rb", "a,1,0\r12,Tablet,tv,0,0\r13,Tablet,b", "a\r\r12,Tablet,tv,0,0\r\rb", "a\r12,Tablet,tv,0,0\nb"],
)
def test_rows_that_end_in_carriage_returns_alone_are_not_swallowed_by_quotes(value):
    rows = read(f'11,Computer,"{value}",1,0\n14,Tablet,tv,1,1\n', KEYWORD_LAYOUT)
    assert rows.frame["entity_id"].tolist() == [14]
    assert rows.rejects[0].line == 2
    assert "which are rows by themselves" in rows.rejects[0].reason


@pytest.mark.parametrize("value", ["a\rb", "Berlin, Hamburg, Kiel\rBonn, Ulm, Trier", "\r\r", "two\r\nlines\rand more"])
def test_a_note_with_carriage_returns_alone_is_no_rows(value):
    rows = read(f'11,Computer,"{value}",1,0\n14,Tablet,tv,1,1\n', KEYWORD_LAYOUT)
    assert ids_and_lines(rows) == ([11, 14], [])


def test_the_time_for_a_record_of_many_quoted_lines_grows_with_its_length_alone():
    def seconds(values: int) -> float:
        names = ["entity_id", "device", "att1", "score", *(f"note{number}" for number in range(values))]
        text = ",".join(["7,Computer,1,0.5", *['"a,\nb"'] * values]) + "\n"
        table_schema = table_schema_for("t.csv", names, FEATURES)
        return best_of(lambda: read(text, table_schema))

    assert seconds(2400) < 8 * seconds(600), "four times the length"


def test_wide_notes_in_a_wide_table_are_values_and_swallowed_rows_are_not():
    names = ["entity_id", "device", "note", *(f"att{n}" for n in range(160))]
    table_schema = table_schema_for("t.csv", names, [Column(name=name, type="binary") for name in names[3:]])
    bits = ",".join("01" * 80)
    assert ids_and_lines(read(f'7,Tablet,"sizes: 1, 0, 1, 0\n1, 0, 8\nend",{bits}\n', table_schema)) == ([7], [])
    assert ids_and_lines(read(f'7,Tablet,"24 inch,{bits}\n8,Tablet,tv,{bits}\n9,Tablet,32",{bits}\n', table_schema)) == ([], [2, 3, 4])
    short = ",".join("01" * 75)
    assert ids_and_lines(read(f'7,Tablet,"24 inch,{short}\n9,Tablet,32",{bits}\n', table_schema)) == ([], [2, 3])


# --- columns that nobody needs, and headers that are none


def test_unneeded_columns_may_be_unnamed_or_there_twice():
    names = ["", "entity_id", "note", "att1", "note", "score", "device", ""]
    text = '0,7,a,1,b,0.5,Tablet,\n1,8,"a",1,b,0.5,Tablet,\n2,x,a,1,b,0.5,Tablet,\n'
    for data in (text, text.replace('"a"', '"a\nb"')):
        rows = read(data, table_schema_for("t.csv", names, FEATURES))
        assert rows.frame["entity_id"].tolist() == [7, 8]
        assert [reject.value for reject in rows.rejects] == ["x"]
    arrays = [pa.array(values) for values in ([0, 1], [7, 8], ["a", "a"], [1, 0], ["b", "b"], [0.5, 1], ["Tablet"] * 2, [None] * 2)]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, names=names), out)
    assert read_parquet_rows(out, table_schema_for("t.parquet", names, FEATURES), 0, 2).frame["att1"].tolist() == [1, 0]


def test_a_column_without_a_name_is_no_feature():
    assert [column.name for column in schema.feature_columns(["", "entity_id", "device", "att1"])] == ["computer", "smartphone", "att1"]


@pytest.mark.parametrize("name", ["entity_id", "device", "att1", "score"])
def test_a_needed_column_that_is_there_twice_is_refused_by_name(name):
    with pytest.raises(TableError, match=f"t.csv has the column '{name}' more than once"):
        table_schema_for("t.csv", [*RAW, name], FEATURES)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (["Report", "", "", "", ""], "Remove what stands above the header"),
        (["Search keywords by device"], "Remove what stands above the header"),
        (["20458", "tv 32", "1", "0.5", "Computer"], "has no header: its first line is a row of values"),
        (["entity_id;att1;score;device"], "must be separated by commas"),
        (["entity_id", "keyword", "att1", "score"], "Add what is missing"),
        (["entity_id", "Device", "att1", "score"], "Rename Device to device: names are written in lower case"),
    ],
)
def test_a_first_line_that_lacks_columns_says_why(columns, says):
    with pytest.raises(TableError, match=says):
        table_schema_for("t.csv", columns, FEATURES)


def test_a_header_of_half_a_million_columns_is_looked_at_once():
    names = [*RAW, *("0" for _ in range(500_000))]
    assert table_schema_for("t.csv", names, FEATURES).needed == ["entity_id", "device", "att1", "score"]
    with pytest.raises(TableError, match="has no header"):
        table_schema_for("t.csv", names[5:], FEATURES)


def test_a_megabyte_of_carriage_returns_is_read_at_once():
    """Each was once looked at with all that follow it: minutes for 200 kB."""
    rows = read(b"1,k,0,0.5,Tab" + b"\r" * (1 << 20) + b"let\n2,k,0,0.5,Tablet\r\r\r\n")
    assert ids_and_lines(rows) == ([2], [2])


# --- parquet


def parquet(columns: dict, group: int = 1 << 20) -> io.BytesIO:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, row_group_size=group)
    return out


GOOD = {"entity_id": [1, 2, 3], "device": ["Computer", "Smartphone", "Tablet"], "att1": [0, 1, 0], "score": [0.5, -1.0, 2.0]}
AS_READ = [(1, 1, 1, 0, 0, 0.5, 0), (2, 2, 0, 1, 1, -1.0, 1), (3, 3, 0, 0, 0, 2.0, 2)]


def read_parquet_rows(raw, table_schema, start: int, end: int) -> Rows:
    return ParquetReader(raw, table_schema, end).rows(start, end)


def read_parquet(columns: dict, start=0, end=None, **more) -> Rows:
    count = len(next(iter(columns.values())))
    return read_parquet_rows(
        parquet(columns, **more), table_schema_for("t.parquet", list(columns), FEATURES), start, count if end is None else end
    )


def decimals(*values, scale=0):
    return pa.array([Decimal(value) for value in values], pa.decimal128(30, scale))


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64(), pa.float32(), pa.float64(), pa.float16()]
)
@pytest.mark.parametrize("missing", [False, True])
def test_parquet_numbers_of_any_type_are_the_same_numbers(kind, missing):
    def made(values):
        as_kind = [np.float16(value) if kind == pa.float16() else value for value in values]
        return pa.array([*as_kind, None] if missing else as_kind, kind)

    signed = not pa.types.is_unsigned_integer(kind)
    scores = [0, -1, 2] if signed else [0, 1, 2]
    columns = {
        "entity_id": made([1, 2, 3]),
        "device": made([0, 1, 2]),
        "att1": made([0, 1, 0]),
        "score": made(scores),
    }
    rows = read_parquet(columns)
    assert [row[:5] for row in plain(rows)[0]] == [row[:5] for row in AS_READ]
    assert rows.frame["score"].tolist() == scores
    assert rows.device.tolist() == [0, 1, 2]
    assert [(reject.line, reject.column, reject.value) for reject in rows.rejects] == ([(4, "entity_id", "")] if missing else [])


@pytest.mark.parametrize(
    "columns",
    [
        {"entity_id": ["1", "2", " 3 "], "att1": ["0", "1", "0.0"], "score": ["0.5", "-1", "2"]},
        {"entity_id": decimals(1, 2, 3), "att1": decimals(0, 1, 0), "score": decimals("0.5", -1, 2, scale=2)},
        {"att1": [False, True, False]},
        {"entity_id": [b"1", b"2", b"3"], "device": [b"Computer", b"1", b"tablet"], "att1": [b"0", b"1", b"0"]},
        {"device": pa.array(GOOD["device"]).dictionary_encode(), "att1": pa.array(["0", "1", "0"]).dictionary_encode()},
        {"device": pa.array(["computer", "1", "2"], pa.large_string()), "att1": pa.array(["0", "1", "0"], pa.large_string())},
        {"entity_id": pa.array([1, 2, 3]).dictionary_encode(), "device": pa.array([0, 1, 2]).dictionary_encode()},
    ],
)
def test_parquet_values_of_other_types_are_the_same_numbers(columns):
    assert plain(read_parquet({**GOOD, **columns})) == (AS_READ, [])


def test_parquet_flags_may_be_true_and_false():
    columns = {
        "entity_id": [1, 2, 3],
        "computer": [True, False, False],
        "smartphone": [False, True, False],
        "att1": [0, 1, 0],
        "score": GOOD["score"],
    }
    assert plain(read_parquet(columns)) == (AS_READ, [])


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.sampled_from([*DEVICES, "x", None]),
            st.sampled_from([0, 1, 1, 0, 2, None]),
            st.none() | st.floats(),
        ),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 7),
    st.integers(1, 9),
)
@settings(max_examples=100, deadline=None)
def test_a_parquet_table_gives_the_rows_of_the_csv_table_however_both_are_cut(records, group, step):
    ids, devices, bits, scores = (list(column) for column in zip(*records, strict=True))
    columns = {
        "entity_id": pa.array(ids, pa.int64()),
        "device": pa.array(devices, pa.string()),
        "att1": pa.array(bits, pa.int8()),
        "score": pa.array(scores, pa.float64()),
    }
    raw = parquet(columns, group=group)
    table_schema = table_schema_for("t.parquet", list(columns), FEATURES)
    starts = [*range(0, len(records), step), len(records)]
    chunk_records = [plain(read_parquet_rows(raw, table_schema, start, end)) for start, end in pairwise(starts)]
    rows, rejects = [row for piece, _ in chunk_records for row in piece], [reject for _, piece in chunk_records for reject in piece]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["" if value is None else value for value in record] for record in records])
    expected = plain(read_csv_rows(text.getvalue().encode(), table_schema, 1))
    assert rows == expected[0]
    assert [(reject.line, reject.column, reject.reason) for reject in rejects] == [
        (reject.line, reject.column, reject.reason) for reject in expected[1]
    ]


LISTS = pa.array([[1], [2], None])
STRANGE = {
    "lists": LISTS,
    "structs": pa.array([{"a": 1}, None, {"a": 2}]),
    "bytes": pa.array([b"\xff", b"x", None]),
    "no text": pa.array([b"\xff", b"1\xff", b"\xed\xa0\x80"]).view(pa.string()),
    "dates": pa.array([1, 2, None], pa.timestamp("ns")),
    "nothing": pa.nulls(3),
    "maps": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int8())),
    "durations": pa.array([1, 2, None], pa.duration("s")),
    "huge": pa.array([2**64 - 1, 2**63, None], pa.uint64()),
    "huge decimals": decimals(2**63, 10**29, -(10**29)),
    "not finite": pa.array([math.nan, math.inf, -math.inf]),
    "words": pa.array(["x", "", None]),
}


@pytest.mark.parametrize("column", ["entity_id", "device", "att1"])
@pytest.mark.parametrize("values", STRANGE.values(), ids=STRANGE)
def test_parquet_values_of_a_strange_type_are_rejects(column, values):
    rows = read_parquet({**GOOD, column: values})
    assert [(reject.line, reject.column) for reject in rows.rejects] == [(1, column), (2, column), (3, column)]
    assert len(rows.frame) == 0


@pytest.mark.parametrize("kind", [pa.int64(), pa.int8()])
def test_a_parquet_reject_names_the_row_of_the_file(kind):
    att1 = pa.array([0] * 57 + [7] + [0] * 42, kind)
    columns = {"entity_id": list(range(100)), "device": ["Tablet"] * 100, "att1": att1, "score": [0.0] * 100}
    for group, start, end in [(1000, 0, 100), (1000, 50, 60), (10, 50, 60), (13, 50, 60), (10, 57, 58)]:
        rows = read_parquet(columns, start, end, group=group)
        assert rejected(rows) == (58, "att1", "7", "not 0 or 1")
        assert rows.frame["entity_id"].tolist() == [number for number in range(start, end) if number != 57]
        if len(rows.frame):
            assert rows.lines[np.array([0])].tolist() == [start + 1]


@pytest.mark.parametrize("at_once", [1, 7, 1000])
@pytest.mark.parametrize(("start", "end"), [(0, 100), (13, 87), (40, 41)])
def test_parquet_columns_of_a_byte_are_one_block_however_they_are_read(at_once, start, end, monkeypatch):
    monkeypatch.setattr(parquet_rows, "PARQUET_ROWS_AT_ONCE", at_once)
    chance = np.random.default_rng(1)
    columns = {
        "score": chance.normal(size=100),
        "att2": pa.array(chance.integers(0, 2, 100), pa.int8()),
        "entity_id": np.arange(100),
        "device": ["Tablet", "Computer"] * 50,
        "att1": pa.array(chance.integers(0, 2, 100), pa.int8()),
    }
    table_schema = table_schema_for("t.parquet", list(columns), [*FEATURES, Column(name="att2", type="binary")])
    rows = read_parquet_rows(parquet(columns, group=30), table_schema, start, end)
    for name in ("entity_id", "score", "att1", "att2"):
        assert rows.frame[name].tolist() == np.asarray(columns[name])[start:end].tolist()
    assert rows.frame["computer"].tolist() == [number % 2 for number in range(start, end)]
    assert {str(rows.frame[name].dtype) for name in ("computer", "smartphone", "att1", "att2")} == {"int8"}


@pytest.mark.parametrize(("value", "reason"), [(1, None), (2, "not 0 or 1"), (-1, "not 0 or 1"), (2**40, "not 0 or 1")])
def test_parquet_flags_of_several_types_are_narrowed_before_they_are_taken_together(value, reason, monkeypatch):
    widths = []
    pack = packed_flags.pack
    monkeypatch.setattr(parquet_rows, "pack", lambda columns, spare: widths.append(columns.itemsize) or pack(columns, spare=spare))
    columns = GOOD | {"att1": pa.array([0, 1, 0], pa.int8()), "att2": pa.array([0, 1, value], pa.int64())}
    table_schema = table_schema_for("t.parquet", list(columns), [*FEATURES, Column(name="att2", type="binary")])
    rows = read_parquet_rows(parquet(columns), table_schema, 0, 3)
    assert rows.frame["att2"].tolist() == ([0, 1, 1] if reason is None else [0, 1])
    assert [reject.reason for reject in rows.rejects] == ([] if reason is None else [reason])
    assert set(widths) <= {1}


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint16()])
@pytest.mark.parametrize("bad", [None, 1, 55, 99])
@pytest.mark.parametrize("group", [1000, 30, 7])
def test_ranges_one_after_the_other_are_decoded_once_and_give_what_each_alone_gives(kind, bad, group, monkeypatch):
    monkeypatch.setattr(parquet_rows, "PARQUET_ROWS_AT_ONCE", 8)
    bits = np.arange(100) % 2
    if bad is not None:
        bits[bad] = 3
    columns = {"entity_id": np.arange(100), "device": ["Tablet"] * 100, "att1": pa.array(bits, kind), "score": [0.5] * 100}
    raw, table_schema = parquet(columns, group=group), table_schema_for("t.parquet", list(columns), FEATURES)
    begun = []
    decode = ParquetReader._decode
    monkeypatch.setattr(ParquetReader, "_decode", lambda self, start: begun.append(start) or decode(self, start))
    reader = ParquetReader(raw, table_schema, 90)
    bounds = [0, 5, 30, 31, 60, 90]
    together = [reader.rows(start, end) for start, end in pairwise(bounds)]
    # where a flag is none, the columns are read another way from there on
    assert begun == [0] if bad is None or bad >= 90 else [0, *(start for start, end in pairwise(bounds) if start <= bad < end)]
    for rows, (start, end) in zip(together, pairwise(bounds), strict=True):
        assert plain(rows) == plain(read_parquet_rows(raw, table_schema, start, end))
        assert rows.frame["att1"].dtype == np.int8
    # any other order is right as well
    for start, end in [(31, 60), (0, 5), (5, 30), (89, 90), (0, 90)]:
        assert plain(reader.rows(start, end)) == plain(read_parquet_rows(raw, table_schema, start, end))


def test_an_id_in_parquet_keeps_every_digit_beside_a_missing_one():
    rows = read_parquet({**GOOD, "entity_id": pa.array([2**63 - 1, None, -(2**63)])})
    assert rows.frame["entity_id"].tolist() == [2**63 - 1, -(2**63)]


def test_a_column_with_a_dot_in_its_name_is_a_column():
    columns = {**GOOD, "a.b": [1.0, 2.0, 3.0]}
    table_schema = table_schema_for("t.parquet", list(columns), [Column(name="a.b", type="number")])
    assert read_parquet_rows(parquet(columns), table_schema, 0, 3).frame["a.b"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(("kind", "exact"), [(pa.float64(), 2**53), (pa.float32(), 2**24), (pa.float16(), 2**11)])
def test_an_id_in_floats_is_taken_only_where_the_type_holds_every_whole_number(kind, exact):
    ids = np.array([1, exact - 1, exact, 1.5], dtype=kind.to_pandas_dtype())
    rows = read_parquet({"entity_id": pa.array(ids, kind), "att1": [1] * 4, "score": [0.5] * 4, "device": ["Tablet"] * 4})
    assert rows.frame["entity_id"].tolist() == [1, exact - 1]
    assert [reject.line for reject in rows.rejects] == [3, 4]


def test_an_id_in_parquet_text_is_digits():
    ids = ["7", "1.23457E+11", "8.0", "1e3", "+9", None]
    rows = read_parquet({"entity_id": ids, "att1": [1] * 6, "score": [0.5] * 6, "device": ["Tablet"] * 6})
    assert rows.frame["entity_id"].tolist() == [7, 8, 9]
    assert [reject.reason.partition(":")[0] for reject in rows.rejects] == ["not a whole number", "not a whole number", "missing"]


def test_a_damaged_parquet_file_is_refused_or_read_and_nothing_else():
    columns = {name: list(values) * 50 for name, values in GOOD.items()}
    whole = parquet(columns, group=50).getvalue()
    table_schema = table_schema_for("t.parquet", list(columns), FEATURES)
    chance = random.Random(7)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[chance.randrange(4, len(whole))] = chance.randrange(256)
        try:
            read_parquet_rows(io.BytesIO(damaged), table_schema, 0, 150)
        except TableError as error:
            refused += 1
            assert error.message.startswith("t.parquet ")
            assert "\n" not in error.message
    assert refused > 50


@pytest.mark.parametrize("kind", [pa.int64(), pa.int8()])
def test_rows_that_a_parquet_file_does_not_hold_are_refused(kind):
    table_schema = table_schema_for("t.parquet", list(GOOD), FEATURES)
    for start, end in [(0, 4), (2, 9), (3, 4), (0, 10**15)]:
        with pytest.raises(TableError, match=r"t\.parquet holds fewer rows than it says"):
            read_parquet_rows(parquet({**GOOD, "att1": pa.array(GOOD["att1"], kind)}), table_schema, start, end)


def test_a_failing_storage_is_not_taken_for_a_damaged_parquet_file():
    class Failing(io.BytesIO):
        """The footer can be read, the pages cannot."""

        def read(self, size=-1, /):
            if self.tell() < 100:
                raise OSError(5, "Input/output error")
            return super().read(size)

    whole = parquet({name: list(values) * 5000 for name, values in GOOD.items()}).getvalue()
    with pytest.raises(OSError, match="Input/output error"):
        read_parquet_rows(Failing(whole), table_schema_for("t.parquet", list(GOOD), FEATURES), 0, 15000)


# --- writing


unit = st.floats(0, 1) | st.integers(0, 0x3FF0000000000000).map(lambda bits: struct.unpack("<d", struct.pack("<q", bits))[0])


@given(st.lists(unit, min_size=1, max_size=50))
@example([0.0, 1.0, 5e-324, 2.2250738585072014e-308, 0.1, 0.03653155867612641, 1e-5, 1e-7, 0.9999999999999999, 1 / 3])
@settings(max_examples=300, deadline=None)
def test_a_rate_reads_back_to_the_same_double_and_no_text_is_shorter(rates):
    text = output.prediction_text(np.arange(len(rates)), np.zeros(len(rates), dtype=np.int8), np.array(rates) + 0.0)
    written = [line.split(",")[2] for line in text.decode().splitlines()]
    assert [float(digits) for digits in written] == rates
    for digits, rate in zip(written, rates, strict=True):
        assert not digits.startswith("-")
        assert len(significant(digits)) <= len(significant(repr(rate)))


def significant(digits: str) -> str:
    return digits.lower().partition("e")[0].replace(".", "").strip("0")


def test_the_lines_of_a_prediction_are_id_device_and_rate():
    text = output.prediction_text(
        np.array([20458, -1, 2**63 - 1]), np.array([0, 1, 2], dtype=np.int8), np.array([0.03653155867612641, 0.0, 1.0])
    )
    assert text == b"20458,0,0.03653155867612641\n-1,1,0\n9223372036854775807,2,1\n"
    assert output.prediction_text(np.array([], dtype=np.int64), np.array([], dtype=np.int8), np.array([])) == b""


def release_that_predicts(values):
    return SimpleNamespace(
        manifest=SimpleNamespace(columns=FEATURES, keys=KEYS),
        definition=load_definition("v1"),
        model=SimpleNamespace(predict=lambda _: values),
    )


def test_no_rate_below_0_above_1_or_minus_0_is_ever_written():
    rows = read("".join(f"{number},k,0,1,Tablet\n" for number in range(7)))
    scored = rates.predict(release_that_predicts([-0.0, -1e-300, 1.5, math.nan, math.inf, 0.25, -math.inf]), rows)
    assert output.prediction_text(*scored.columns) == b"0,2,0\n1,2,0\n2,2,1\n5,2,0.25\n"
    assert scored.clipped == 2
    assert [(reject.line, reject.column, reject.value) for reject in scored.rejects] == [
        (5, "cr", "nan"),
        (6, "cr", "inf"),
        (8, "cr", "-inf"),
    ]


@pytest.mark.parametrize("more", ["", "3,k,7,1,Tablet\n", "3,k,x,1,Tablet\n"])
def test_a_definition_may_change_the_table_it_is_given(more):
    rows = read("1,k,0,1,Tablet\n2,k,1,3,Computer\n" + more)
    frame = rows.frame
    frame["att1"] = frame["att1"] * 2
    frame.loc[0, "score"] = 9.0
    frame["new"] = frame["score"] - frame["att1"]
    frame.iloc[1, 0] = 7
    assert frame["new"].tolist() == [9.0, 1.0]


@given(st.lists(st.text(max_size=20) | st.sampled_from(['a,"b', "x\ny", "=1+1", "\0", "\r"]), max_size=5))
@settings(max_examples=100, deadline=None)
def test_rejects_are_written_as_csv_that_reads_back(values):
    text = output.rejects_text(
        "data/a,b.csv", [Reject(line=number, column="att1", value=value, reason="no") for number, value in enumerate(values)]
    )
    found = list(csv.reader(io.StringIO(text.decode(), newline="")))
    assert found == [["data/a,b.csv", str(number), "att1", value.replace("\r", " "), "no"] for number, value in enumerate(values)]


@given(st.lists(st.binary(max_size=200), max_size=5))
@settings(max_examples=100, deadline=None)
def test_members_end_to_end_are_one_file_and_the_same_text_gives_the_same_bytes(texts):
    members = [output.compress(text) for text in texts]
    assert members == [output.compress(text) for text in texts]
    if members:
        assert gzip.decompress(b"".join(members)) == b"".join(texts)
        assert output.decompress(b"".join(members)) == b"".join(texts)
    assert all(member[4:8] == b"\0\0\0\0" for member in members), "no time in the header"


def test_ids_that_are_words_lead_to_keys_of_ones_own():
    quoted = "t.csv line 2, column entity_id: 'shoes' is not a whole number"
    assert schema.keys_advice(quoted) == (
        " If the ids are words, name rows by other keys: KEYS in a definition, docs/how-to/add-a-model.md."
    )  # fmt: skip
    for other in (
        "'1.5' is not a whole number",
        "'1e3' is not a whole number: written with an exponent, it has lost digits",
        "'' is missing",
    ):
        assert not schema.keys_advice(f"t.csv line 2, column entity_id: {other}")
