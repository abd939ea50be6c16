"""A run of binary columns that is lifted out of the text gives the numbers that the ordinary reader gives, or is left to it."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.catalog.manifests import Column
from workers.tables import packed_flags
from workers.tables.csv import rows as csv_rows
from workers.tables.csv.rows import read_csv_rows
from workers.tables.packed_flags import FlagBlock, extract_flags, find_flag_block, pack, unpack
from workers.tables.rows import Rows
from workers.tables.schema import TableSchema

ATTRIBUTES = [f"att{number}" for number in range(1, 13)]
WANTED = [Column(name="length", type="number"), *(Column(name=name, type="binary") for name in ATTRIBUTES)]
LAYOUTS = {
    "id first, device last": ["entity_id", *ATTRIBUTES, "length", "device"],
    "device first": ["device", "entity_id", "length", *ATTRIBUTES, "remark"],
    "run first": [*ATTRIBUTES, "entity_id", "device", "length"],
    "run last": ["entity_id", "device", "length", *ATTRIBUTES],
    "flags": ["entity_id", "computer", "smartphone", "length", *ATTRIBUTES, "week"],
    "in two pieces": ["entity_id", *ATTRIBUTES[:9], "length", *ATTRIBUTES[9:], "device"],
    "in another order": ["entity_id", *reversed(ATTRIBUTES), "device", "length"],
}


def layout_of(columns: list[str]) -> TableSchema:
    return TableSchema(path="t.csv", columns=columns, wanted=WANTED)


def line(columns: list[str], chance: random.Random) -> list[str]:
    """A right record."""
    device = chance.choice(["Computer", "Smartphone", "Tablet", "0", "2"])
    computer = chance.choice("01")
    known = {
        "entity_id": str(chance.randint(-(10**18), 10**18)),
        "length": str(chance.choice([0, 1.5, -2, 1e300])),
        "device": device,
        "computer": computer,
        "smartphone": "0" if computer == "1" else chance.choice("01"),
        "remark": chance.choice(["", "shoes", "ü", "a b"]),
        "week": "31",
    }
    return [known.get(name, chance.choice("01")) for name in columns]


def read_ordinarily(data: bytes, table_schema: TableSchema, first_line: int) -> Rows:
    """What the reader gives that lifts nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "extract_flags", lambda *_, **__: None)
        return read_csv_rows(data, table_schema, first_line)


def assert_same(one: Rows, other: Rows) -> None:
    assert one.frame.columns.tolist() == other.frame.columns.tolist()
    assert one.frame.dtypes.tolist() == other.frame.dtypes.tolist()
    assert np.array_equal(one.frame.to_numpy(dtype=np.float64), other.frame.to_numpy(dtype=np.float64))
    assert one.frame["entity_id"].tolist() == other.frame["entity_id"].tolist()
    assert one.device.tolist() == other.device.tolist()
    everywhere = np.arange(len(one.frame))
    assert one.lines[everywhere].tolist() == other.lines[everywhere].tolist()
    assert one.rejects == other.rejects


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("ending", ["\n", ""])
@pytest.mark.parametrize("at_once", [packed_flags.BYTES_AT_ONCE, 1000])
def test_right_rows_are_read_as_by_the_ordinary_reader(name, ending, at_once, monkeypatch):
    monkeypatch.setattr(packed_flags, "BYTES_AT_ONCE", at_once)
    columns, chance = LAYOUTS[name], random.Random(name)
    table_schema = layout_of(columns)
    text = "\n".join(",".join(line(columns, chance)) for _ in range(2500)) + ending
    assert extract_flags(text.encode(), table_schema.run, spare=2) is not None, "the quick way was not taken"
    rows = read_csv_rows(text.encode(), table_schema, 7)
    assert len(rows.frame) == 2500
    assert_same(rows, read_ordinarily(text.encode(), table_schema, 7))


SPOILS = ["2", "", " 1", "01", "1.0", "x", "\r", "\0", "ü", ",", "1,0", "\n", "\n\n", "0\r", '"', '"1"', "-1", "\ufeff", "9" * 70]


@given(
    st.sampled_from(sorted(LAYOUTS)),
    st.integers(0, 2**32),
    st.lists(st.tuples(st.sampled_from(SPOILS), st.booleans()), max_size=3),
    st.sampled_from([100, 1000]),
)
def test_whatever_is_wrong_in_it_a_text_gives_what_the_ordinary_reader_gives(name, seed, spoils, at_once):
    columns, chance = LAYOUTS[name], random.Random(seed)
    table_schema = layout_of(columns)
    records = [line(columns, chance) for _ in range(chance.randint(1, 6))]
    for spoil, is_added in spoils:
        record = chance.choice(records)
        place = chance.randrange(len(record))
        record[place] = record[place] + spoil if is_added else spoil
    end = chance.choice(["\n", "\r\n"])
    data = (end.join(map(",".join, records)) + chance.choice(["", end])).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_flags, "BYTES_AT_ONCE", at_once)
        rows = read_csv_rows(data, table_schema, 1)
    assert_same(rows, read_ordinarily(data, table_schema, 1))


@given(st.binary(max_size=80), st.integers(1, 40), st.integers(0, 3))
def test_any_bytes_are_lifted_or_left(noise, at, start):
    good = b"a," * start + b"0,1,0,1,0,1,0,1,z\n"
    data = (good * 3)[:at] + noise + (good * 3)[at:]
    lifted = extract_flags(data, FlagBlock(start=start, columns=tuple("abcdefgh")), spare=0)
    if lifted is not None:
        values, rest = lifted
        lines = data.split(b"\n")[: len(values)]
        assert set(np.unique(values)) <= {0, 1}
        rebuilt = [
            b",".join([*fields[:start], *(b"%d" % value for value in row), *fields[start:]])
            for row, fields in zip(values, (text.split(b",") for text in rest.split(b"\n")), strict=False)
        ]
        assert rebuilt == lines


def test_a_row_that_is_wrong_elsewhere_is_a_reject_and_the_run_stays_lifted():
    columns = LAYOUTS["id first, device last"]
    chance = random.Random(1)
    records = [line(columns, chance) for _ in range(10)]
    records[3][-1], records[7][-2] = "Watch", "inf"
    data = "\n".join(map(",".join, records)).encode()
    assert extract_flags(data, layout_of(columns).run, spare=2) is not None
    rows = read_csv_rows(data, layout_of(columns), 2)
    assert [(reject.line, reject.column, reject.value) for reject in rows.rejects] == [(5, "device", "Watch"), (9, "length", "inf")]
    assert_same(rows, read_ordinarily(data, layout_of(columns), 2))


def test_flags_and_run_are_one_block_of_memory_in_the_order_of_the_rows():
    columns = ["entity_id", *ATTRIBUTES, "device"]
    table_schema = TableSchema(path="t.csv", columns=columns, wanted=WANTED[1:])
    rows = read_csv_rows("\n".join(",".join(line(columns, random.Random(7))) for _ in range(50)).encode(), table_schema, 1)
    values = rows.frame.drop(columns=["entity_id"]).to_numpy()
    assert values.dtype == np.int8
    assert values.flags.c_contiguous
    assert np.shares_memory(values, rows.frame["att5"].to_numpy())


@pytest.mark.parametrize(
    ("columns", "binary", "start", "names"),
    [
        ("iaaaaaaaad", "a", 1, 8),
        ("iaaaaaaaa", "a", None, 0),
        ("iaaaaaaaaa", "a", 1, 8),
        ("iaaaaaaad", "a", None, 0),
        ("aaaaaaaaai", "a", 0, 9),
        ("iaaaaaaaaxaaaaaaaaaad", "a", 10, 10),
        ("i", "a", None, 0),
    ],
)
def test_the_longest_run_is_found_and_ends_before_the_last_column(columns, binary, start, names):
    named = [f"{kind}{place}" for place, kind in enumerate(columns)]
    run = find_flag_block(named, {name for name in named if name[0] in binary})
    assert (run.start, len(run.columns)) == (start, names) if run else start is None
    assert run is None or list(run.columns) == named[run.start : run.start + names]


# --- columns that become rows ----------------------------------------------------------------------------------------------------


@given(columns=st.integers(1, 40), rows=st.lists(st.integers(0, 30), min_size=1, max_size=3), spare=st.integers(0, 9), data=st.data())
def test_packed_columns_become_the_same_rows(columns, rows, spare, data):
    kind = data.draw(st.sampled_from(["i1", "u1", "i2", "i4", "i8", "u8"]))
    chance = np.random.default_rng(columns)
    batches = [chance.integers(0, 2, (columns, count), dtype=kind) for count in rows]
    values = unpack([pack(batch, spare=spare) for batch in batches], spare + columns)
    assert values.dtype == np.int8
    assert np.array_equal(values[:, spare:], np.concatenate(batches, axis=1).T)


@pytest.mark.parametrize(
    ("kind", "wrong"), [("i1", 2), ("i1", -1), ("u1", 255), ("i2", 256), ("i4", -(2**31)), ("i8", 2**32), ("u8", 2**63), ("f8", 1)]
)
def test_columns_with_another_value_are_not_packed(kind, wrong):
    columns = np.zeros((9, 20), dtype=kind)
    columns[8, 19] = wrong
    assert pack(columns, spare=2) is None
