"""Whatever is in a table, its job ends done, or is refused in one sentence; no row is lost or doubled, and no rate leaves [0, 1].

Each example is a whole job: plan, chunks, finish, on a real bucket with a release whose weights are set by hand. The examples are the same
in every run. For the long search, with others in each run:

    pytest --hypothesis-profile=long --timeout=0 tests/unit/workers/tables/test_any_table.py
"""

import csv
import gzip
import io
import math
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_store import store as model_store_store
from shared.bucket.local import LocalBucket
from shared.errors import PermanentError
from shared.index_format import DEVICES
from shared.jobs.folder import JobFolder
from tests.handmade import INTERCEPT, WEIGHTS, make_job, publish_handmade, run_job
from workers.tables.parquet import cuts

TABLE = "data/t"
CHUNK_ROWS = (None, 1, 5)


@dataclass(frozen=True)
class Result:
    """What a done job made, or the error that refused it."""

    lines: tuple[str, ...] = ()
    rejects: tuple[tuple[str, ...], ...] = ()
    refused: str = ""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """A bucket that holds the hand-made release and nothing else."""
    place = tmp_path_factory.mktemp("store")
    publish_handmade(LocalBucket(place))
    return place


@pytest.fixture(scope="module", autouse=True)
def no_power_failure():
    """Nothing here is about what a disk keeps when the power goes, and waiting for it is most of the time of a small job."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def run(store: Path, name: str, data: bytes, chunk_rows: int | None = None) -> Result:
    """Scores a table to the end; what it says and what it counts must agree."""
    with tempfile.TemporaryDirectory(dir=store.parent) as root:
        bucket = _SharedStore(Path(root), store)
        bucket.write(f"{TABLE}{name}", data)
        folder = make_job(bucket, table=f"{TABLE}{name}", chunk_rows=chunk_rows, max_reject_share=1.0)
        try:
            outcome = run_job(folder)
        except PermanentError as error:
            return _refused(folder, error)
        return _checked(bucket, folder, outcome)


class _SharedStore(LocalBucket):
    """A bucket of its own for each job, but for the releases, which are loaded once."""

    def __init__(self, root: Path, store: Path) -> None:
        super().__init__(root)
        self._store = store
        self._releases = LocalBucket(store)

    def place(self, path: str) -> Path:
        return self._releases.place(path) if path.startswith("model/") else super().place(path)

    def _reached(self, path: str):
        return self._releases._reached(path) if path.startswith("model/") else super()._reached(path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SharedStore) and other._store == self._store

    def __hash__(self) -> int:
        return hash(self._store)


def _refused(folder: JobFolder, error: PermanentError) -> Result:
    assert re.fullmatch(r"[^\n]{10,1000}[^\n.]", error.message), error.message
    assert error.next_step
    assert not folder.bucket.folders("data/predict/output"), "nothing half-written is visible"
    folder.fail(error)
    assert folder.status().state == "failed"
    return Result(refused=error.message)


def _checked(bucket: LocalBucket, folder: JobFolder, outcome) -> Result:
    assert outcome.state == "done"
    header, *lines = gzip.decompress(bucket.read(f"{outcome.result}/prediction_output.csv.gz")).decode().splitlines()
    assert header == "entity_id,device,cr"
    for line in lines:
        assert re.fullmatch(r"-?\d+,[012],(0|1|0\.\d+|\d(\.\d+)?e-\d+)", line), line
        assert 0 <= float(line.rpartition(",")[2]) <= 1
    packed = bucket.read(f"{outcome.result}/rejects.csv.gz")
    _, *rejects = csv.reader(io.StringIO(gzip.decompress(packed).decode(), newline="")) if packed else [[]]
    for file, line, column, _, reason in rejects:
        assert file.startswith(TABLE)
        assert int(line) >= 1
        assert reason
        assert column or reason
    assert [int(reject[1]) for reject in rejects] == sorted(int(reject[1]) for reject in rejects)
    counted = {name: int(outcome.facts[name].replace(",", "")) for name in ("rows in", "scored", "rejected")}
    assert counted == {"rows in": len(lines) + len(rejects), "scored": len(lines), "rejected": len(rejects)}
    return Result(lines=tuple(lines), rejects=tuple(map(tuple, rejects)))


def run_cut_anyhow(store: Path, name: str, data: bytes) -> Result:
    """The result of a table, which must be the same for every size of chunks, and however few rows of a chunk are read together."""
    results = [run(store, name, data, rows) for rows in CHUNK_ROWS]
    if name == ".parquet":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuts, "MAX_VALUES_BYTES", 150)
            results.append(run(store, name, data))
    assert all(result == results[0] for result in results), results
    return results[0]


# --- tables of which every line is known


@dataclass(frozen=True)
class Line:
    """A line of a table and what must become of it."""

    text: str
    scored: tuple[str, float] | None = None
    """``entity_id,device`` and the rate; None for a reject or a blank line."""
    reject: tuple[str, str] | None = None
    """Column and value; None for a row that is scored or a blank line."""


COLUMNS = ("entity_id", "att1", "att2", "att3", "length", "device", "keyword")

good = {
    "entity_id": {"1": 1, "20458": 20458, "-7": -7, "007": 7, " 12 ": 12, "1.0": 1, "1.": 1, "+3": 3, "9223372036854775807": 2**63 - 1},
    "bit": {"0": 0, "1": 1, "1.0": 1, " 1": 1, "1e0": 1, "-0": 0, "+1": 1, "0.0": 0, "1e-400": 0, "TRUE": 1, "false": 0},
    "length": {"0": 0, ".5": 0.5, "1" * 300: 1e300, "-0.0": 0, "3.25": 3.25, "-1e308": -1e308, "1e-999": 0},
    "device": {name: code for code, plain in enumerate(DEVICES) for name in (plain, plain.upper(), plain.lower(), f" {plain}", f"{code}")},
}  # fmt: skip
bad = {
    "entity_id": [
        "",
        "NA",
        "x",
        "1.5",
        "1e3",
        "1.23457E+11",
        "9223372036854775808",
        "1_000",
        "0x10",
        "nan",
        "inf",
        "1e999",
        "١٢",
        "--1",
        "1 2",
        "1\0",
        "\ufeff1",
    ],
    "bit": ["", "2", "-1", "NA", "0.5", "256", "257", "1e999", "nan", "-inf", "0x1", "yes", "1_0", "١", "1\0", "1e-3"],
    "length": ["", "inf", "-Infinity", "nan", "NaN", "1e999", "-1e999", "x", "0x1p3", "1d0", "1_0", "NULL", "٣", "1\0", "1;5"],
    "device": ["", "Phone", "3", "-1", "NA", "Computer;", "１", "Tablet\0", "computer tablet", "0.5", "None", "²"],
}
keywords = {
    "": "",
    "shoes": "shoes",
    '"a, b"': "",
    '"x ""y"" z"': "",
    '"two\nlines"': "",
    '24" tv': "",
    "ü": "",
    "=1+1": "",
    "0x7": "",
    '"\r\n"': "",
}


def kind_of(column: str) -> str:
    return "bit" if column.startswith("att") else column


@st.composite
def lines(draw: Callable) -> Line:
    """A row that is scored, a row of which one value is bad, or a blank line."""
    fate = draw(st.sampled_from(["good"] * 5 + ["bad"] * 3 + ["blank", "short", "long"]))
    if fate == "blank":
        return Line(text=draw(st.sampled_from(["", "\r"])))
    texts = {column: draw(st.sampled_from(sorted(good[kind_of(column)]))) for column in COLUMNS if column != "keyword"}
    texts["keyword"] = draw(st.sampled_from(sorted(keywords)))
    if fate in ("short", "long"):
        texts["keyword"] = "k"
        cells = [*texts.values()][:-1] if fate == "short" else [*texts.values(), "9"]
        return Line(text=",".join(cells), reject=("", ",".join(cells)))
    if fate == "bad":
        column = draw(st.sampled_from(sorted(set(COLUMNS) - {"keyword"})))
        texts[column] = draw(st.sampled_from(bad[kind_of(column)]))
        return Line(text=",".join(texts.values()), reject=(column, texts[column]))
    values = {column: good[kind_of(column)][text] for column, text in texts.items() if column != "keyword"}
    rate = INTERCEPT + sum(
        weight * value
        for weight, value in zip(
            WEIGHTS,
            [values["device"] == 0, values["device"] == 1, values["att1"], values["att2"], values["att3"], values["length"]],
            strict=True,
        )
    )
    return Line(text=",".join(texts.values()), scored=(f"{values['entity_id']},{values['device']}", min(max(rate, 0.0), 1.0)))


@st.composite
def known_tables(draw: Callable) -> tuple[bytes, list[Line]]:
    """A csv file and its lines; all of it with one kind of line end, with or without a mark of bytes before and a line end after it."""
    rows = draw(st.lists(lines(), max_size=12))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join([",".join(COLUMNS), *(row.text for row in rows), *([""] if draw(st.booleans()) else [])])
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode(), rows


@given(known_tables(), st.booleans())
def test_every_row_is_scored_right_or_rejected_with_its_line_and_value(store, made, compressed):
    data, rows = made
    result = run_cut_anyhow(store, ".csv.gz" if compressed else ".csv", gzip.compress(data, mtime=0) if compressed else data)
    scored = [row.scored for row in rows if row.scored]
    if not scored:
        assert "has a header but no rows" in result.refused or "rows of data/t" in result.refused
        return
    assert [line.rpartition(",")[0] for line in result.lines] == [key for key, _ in scored]
    for line, (_, rate) in zip(result.lines, scored, strict=True):
        assert math.isclose(float(line.rpartition(",")[2]), rate, rel_tol=1e-9, abs_tol=1e-9)
    at, expected = 2, []
    for row in rows:
        if row.reject:
            column, value = row.reject
            expected.append((str(at), column, value.replace("\r", " ")))
        at += 1 + row.text.count("\n")
    assert [(line, column, value) for _, line, column, value, _ in result.rejects] == [
        (line, column, value if len(value) <= 80 else value[:77] + "...") for line, column, value in expected
    ]


# --- tables of which nothing is known


chunk_records = st.sampled_from(
    [
        '"',
        '""',
        ",",
        "\n",
        "\r",
        "\r\n",
        "\0",
        "\ufeff",
        "1",
        "0",
        "nan",
        "1e999",
        "-0",
        "Tablet",
        "0x1",
        "١",
        " ",
        ";",
        "1,0,1,0,2.5,Tablet,k\n",
    ]
)
noise = st.lists(chunk_records, max_size=25).map(lambda parts: "".join(parts).encode())
HEADER = ",".join(COLUMNS).encode()
heads = st.sampled_from(
    [
        HEADER + b"\n",
        HEADER + b"\r\n",
        b"\xef\xbb\xbf" + HEADER + b"\n",
        b"\n" + HEADER + b"\n",
        HEADER + b"\n" + HEADER + b"\n",
        HEADER + b",att1\n",
        HEADER.replace(b"device", b"computer,smartphone") + b"\n",
        b'"' + HEADER.replace(b",", b'","') + b'"\n',
        HEADER + b"\n" + b'1,1,1,1,1,0,"k\n',
        b"",
    ]
)


@given(st.tuples(heads, noise | st.binary(max_size=80)).map(b"".join))
@example(HEADER + b"\n\n\xef\xbb\xbf\n")
@example(HEADER + b'\n1,0,0,0,1,Tablet,k\n2,0,0,0,1,"Tablet,k\n3,0,0,0,1,Tablet,"k\n')
def test_any_text_is_scored_or_refused_the_same_way_however_it_is_cut(store, data):
    run_cut_anyhow(store, ".csv", data)


@st.composite
def damaged(draw: Callable, whole: bytes) -> bytes:
    """A file of which something was cut off, changed, put in or doubled."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["cut", "change", "change", "insert", "double", "zero"])):
            case "cut":
                del data[at:]
            case "change" if data:
                data[at] ^= draw(st.integers(1, 255))
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
            case "double":
                data += data[at:]
            case "zero":
                data[at : at + 8] = bytes(min(8, len(data) - at))
    return bytes(data)


GOOD_TABLE = HEADER + b"\n" + b"".join(b"%d,1,0,1,%d.5,%s,k\n" % (n, n, DEVICES[n % 3].encode()) for n in range(40))


@given(damaged(gzip.compress(GOOD_TABLE, mtime=0)))
def test_a_damaged_gzip_file_is_scored_or_refused(store, data):
    result = run_cut_anyhow(store, ".csv.gz", data)
    assert result.refused or result == run(store, ".csv", GOOD_TABLE), "its checksum tells a changed file"


def parquet(columns: dict[str, pa.Array], **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, **options)
    return out.getvalue()


GOOD_PARQUET = parquet(
    {
        "entity_id": pa.array(range(40)),
        **{f"att{n}": pa.array([1, 0] * 20, pa.int8()) for n in (1, 2, 3)},
        "length": pa.array(np.arange(40) / 4),
        "device": pa.array([DEVICES[n % 3] for n in range(40)]),
    },
    row_group_size=15,
)


@given(damaged(GOOD_PARQUET))
def test_a_damaged_parquet_file_is_scored_or_refused(store, data):
    run_cut_anyhow(store, ".parquet", data)


anything = st.sampled_from(
    [0, 1, 2, -1, 2**63 - 1, 1.0, 0.5, math.nan, math.inf, -0.0, True, "1", "Tablet", "tablet\n", "", "x", b"\xff", b"1", None, [1]]
)  # fmt: skip
types = st.sampled_from(
    [
        pa.int8(),
        pa.uint8(),
        pa.int64(),
        pa.uint64(),
        pa.float16(),
        pa.float32(),
        pa.float64(),
        pa.bool_(),
        pa.string(),
        pa.large_string(),
        pa.binary(),
        pa.decimal128(20, 3),
        pa.timestamp("ms"),
        pa.date32(),
        pa.null(),
        pa.list_(pa.int8()),
        pa.dictionary(pa.int8(), pa.string()),
    ]
)


@st.composite
def columns_of_any_type(draw: Callable, rows: int) -> pa.Array:
    kind = draw(types)

    def fits(raw: object) -> bool:
        try:
            pa.array([raw], kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return False
        return True

    values = draw(st.lists(anything, min_size=rows, max_size=rows))
    return pa.array([raw if fits(raw) else None for raw in values], kind)


@given(st.data())
def test_a_parquet_table_of_any_types_is_scored_or_refused_row_by_row(store, data):
    rows = data.draw(st.integers(0, 6))
    usual = pq.read_table(io.BytesIO(GOOD_PARQUET)).slice(0, rows)
    odd = data.draw(st.sets(st.sampled_from(usual.column_names), max_size=2))
    columns = {name: data.draw(columns_of_any_type(rows)) if name in odd else usual.column(name) for name in usual.column_names}
    result = run_cut_anyhow(store, ".parquet", parquet(columns, row_group_size=data.draw(st.integers(1, 6))))
    assert result.refused or len(result.lines) + len(result.rejects) == rows


# --- definitions that misbehave


odd_rates = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1.0000000000000002, -5e-324, 1e308])


@given(st.lists(odd_rates, min_size=3, max_size=3), st.sampled_from([np.float64, np.float32, object]), st.booleans())
def test_what_a_definition_predicts_becomes_a_rate_or_a_reject(store, predictions, kind, upright):
    with np.errstate(over="ignore"):
        given_back = np.array(predictions, dtype=kind)
    expected = given_back.astype(np.float64)
    result = predicting(store, lambda _: given_back.reshape(3, 1) if upright else given_back)
    finite = np.isfinite(expected)
    if not finite.any():
        assert result.refused.startswith("none of the 3 rows")
        return
    assert [float(line.rpartition(",")[2]) for line in result.lines] == np.clip(expected[finite], 0, 1).tolist()
    assert [line.partition(",")[0] for line in result.lines] == [str(number) for number in np.flatnonzero(finite)]
    assert [(int(line), column, reason) for _, line, column, _, reason in result.rejects] == [
        (2 + number, "cr", "the prediction is not a finite number") for number in np.flatnonzero(~finite)
    ]


@pytest.mark.parametrize(
    "predictions",
    [np.zeros(2), np.zeros(4), np.zeros((1, 3)), np.zeros((3, 2)), np.zeros((3, 1, 1)), np.zeros(0), 0.5, None],
    ids=lambda value: str(np.shape(value)) if value is not None else "None",
)
def test_predictions_that_are_not_one_a_row_refuse_the_job(store, predictions):
    assert re.match(r"the definition v1 gave (no|[\d x]+) predictions for 3 rows", predicting(store, lambda _: predictions).refused)


def test_a_table_of_probabilities_of_as_many_values_as_rows_is_no_prediction(store):
    """Two classes for half of the rows were once taken for all of them."""
    result = predicting(store, lambda _: np.zeros((2, 2)), rows=4)
    assert result.refused.startswith("the definition v1 gave 2 x 2 predictions for 4 rows, first with line 2 of data/t.csv (entity_id 0, ")


def test_a_definition_that_changes_the_table_it_is_given_does_not_change_whose_rate_it_is(store):
    """Ids were once read from the table after the definition had it: one that changed it gave the rates to other keywords."""

    def changed_in_place(frame, **_):
        frame.loc[:, "entity_id"] = 7
        frame["smartphone"] = 1
        frame.drop(index=[0], inplace=True)
        frame.loc[0] = 0
        return pd.DataFrame({"length": [0, 1.5, 2.5]}), None, None

    expected = predicting(store, lambda X: np.array([0, 0.015, 0.025]))
    assert predicting(store, lambda X: X["length"] / 100, preparing=changed_in_place) == expected
    assert [line.partition(",")[0] for line in expected.lines] == ["0", "1", "2"]


def predicting(store: Path, predict: Callable, preparing: Callable | None = None, rows: int = 3) -> Result:
    """The result of a small table with a release that predicts so."""
    import dataclasses

    class Model:
        @staticmethod
        def predict(X):
            return predict(X)

    def load(*arguments):
        release = load_release(*arguments)
        definition = dataclasses.replace(release.definition, data_preparation=preparing) if preparing else release.definition
        return dataclasses.replace(release, model=Model, definition=definition)

    load_release = model_store_store.load_release
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_store_store, "load_release", load)
        return run(store, ".csv", GOOD_TABLE[: GOOD_TABLE.index(b"\n%d," % rows) + 1])


# --- tables with stray quotes


@st.composite
def stray_tables(draw: Callable) -> tuple[list[str], dict[str, str]]:
    """The lines of a table of good rows, some with a stray quote, and what a reader of lines alone makes of each row by its id."""
    order = draw(st.permutations((*COLUMNS, "note")))
    lines, expected = [], {}
    for number in range(draw(st.integers(2, 9))):
        cells = {"entity_id": str(number + 1), "length": "0.5", "device": DEVICES[number % 3], "keyword": "tv", "note": "x"}
        cells |= {f"att{n}": str((number >> n) % 2) for n in (1, 2, 3)}
        expected[cells["entity_id"]] = ",".join([cells["entity_id"], str(number % 3)])
        for _ in range(draw(st.integers(0, 2)) if draw(st.booleans()) else 0):
            name = draw(st.sampled_from(["keyword", "note"]))
            cells[name] = draw(st.sampled_from(['"24 inch', '32"', 'a "b', '"', '"a, b', 'b, c"', '"a "b', ' "x', '"y, "']))
        lines.append(",".join(cells[name] for name in order))
    return [",".join(order), *lines], expected


@given(stray_tables(), st.sampled_from(["\n", "\r\n"]), st.booleans())
@example(
    (
        ["entity_id,device,att1,att2,att3,length,keyword", '1,0,1,0,0,1,"a', "2,1,0,1,0,1,b", '3,2,0,0,1,1,c"'],
        {"1": "1,0", "2": "2,1", "3": "3,2"},
    ),
    "\n",
    False,
)
def test_no_row_is_swallowed_by_a_stray_quote_however_the_table_is_cut(store, made, end, compressed):
    lines, expected = made
    data = end.join(lines).encode()
    result = run_cut_anyhow(store, ".csv.gz" if compressed else ".csv", gzip.compress(data, mtime=0) if compressed else data)
    if result.refused:
        assert re.search(r"a quote on line \d+ that is never closed|of the \d+ rows of data/t|none of the", result.refused)
        return
    scored = {line.partition(",")[0]: line for line in result.lines}
    rejected = {int(line) for _, line, *_ in result.rejects}
    assert len(result.lines) + len(result.rejects) == len(lines) - 1, "each row is scored or rejected"
    apart = run(store, ".csv", "\n".join(line.replace('"', "") for line in lines).encode())
    right = {line.partition(",")[0]: line for line in apart.lines}
    for number, (entity, key) in enumerate(expected.items(), 2):
        if number in rejected:
            assert entity not in scored
        elif lines[number - 1].replace('"', "").count(",") == lines[0].count(","):
            assert scored[entity] == right[entity], "the rate of its own columns"
            assert scored[entity].startswith(key)
