import collections
import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression

from producers.sample import formats, tables
from producers.sample.keywords import DEVICES, attributes_of
from producers.sample.rows import MOST_CLICKS, binomial_quantile
from producers.sample.tables import SampleTables, write_table, write_tables
from producers.sample.truth import HIGHEST_CR, true_cr
from shared.errors import RequestError

ATTRIBUTES = [f"att{number}" for number in range(1, 161)]
FORMATS = ["csv", "csv.gz", "parquet"]
WEEKS = [None, 1]


def read(path: Path) -> pa.Table:
    return pa.parquet.read_table(path) if path.suffix == ".parquet" else pa.csv.read_csv(path)


def column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy()


def device_numbers(table: pa.Table) -> np.ndarray:
    return np.array([DEVICES.index(name) for name in table["device"].to_pylist()])


def attributes(table: pa.Table) -> np.ndarray:
    return np.column_stack([column(table, name) for name in ATTRIBUTES])


def rows_of(table: pa.Table) -> list[tuple[int, int]]:
    return list(zip(column(table, "entity_id").tolist(), device_numbers(table).tolist(), strict=True))


@pytest.fixture(scope="module")
def big(tmp_path_factory) -> SampleTables:
    """One sample that is big enough for what holds on average."""
    return write_tables(tmp_path_factory.mktemp("big"), 60_000, seed=7, eval_share=0.5, format="parquet")


@pytest.fixture(scope="module")
def big_train(big) -> pa.Table:
    return read(big.train.path)


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_gives_others(tmp_path, format):
    first = write_tables(tmp_path / "first", 500, seed=1, format=format)
    again = write_tables(tmp_path / "again", 500, seed=1, format=format)
    other = write_tables(tmp_path / "other", 500, seed=2, format=format)
    for name in ("train", "evaluation", "prediction_input"):
        assert getattr(first, name).path.read_bytes() == getattr(again, name).path.read_bytes()
        assert getattr(first, name).path.read_bytes() != getattr(other, name).path.read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_row_counts_are_exact_and_the_names_are_those_of_the_bucket(tmp_path, format):
    tables = write_tables(tmp_path, 1_234, seed=3, train_rows=777, eval_share=0.5, format=format)
    expected = {"train": 777, "eval": 388, "prediction_input": 1_234}
    assert {table.path.name: table.rows for table in (tables.train, tables.evaluation, tables.prediction_input)} == {
        f"{name}.{format}": rows for name, rows in expected.items()
    }
    for name, rows in expected.items():
        assert read(tmp_path / f"{name}.{format}").num_rows == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.{format}" for name in expected)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 400), seed=st.integers(-(2**70), 2**70), week=st.sampled_from([None, 1, 53]))
def test_any_number_of_rows_and_any_seed_give_exactly_that_many_lines(tmp_path_factory, rows, seed, week):
    path = tmp_path_factory.mktemp("any") / "table.csv"
    write_table(path, rows, seed, week=week)
    text = path.read_text()
    assert text.endswith("\n")
    assert text.count("\n") == rows + 1


def test_a_train_table_is_never_longer_than_its_limit_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MOST_TRAIN_ROWS", 40)
    assert write_tables(tmp_path, 100, seed=1).train.rows == 40
    assert write_tables(tmp_path, 30, seed=1).train.rows == 30
    assert write_tables(tmp_path, 30, seed=1, train_rows=60).train.rows == 60


def test_the_smallest_sample_has_one_row_in_each_table(tmp_path):
    tables = write_tables(tmp_path, 1, seed=1)
    assert (tables.train.rows, tables.evaluation.rows, tables.prediction_input.rows) == (1, 1, 1)


def test_the_csv_text_is_the_raw_layout_to_the_letter(tmp_path):
    tables = write_tables(tmp_path, 50, seed=5, format="csv.gz")
    header, *lines = gzip.decompress(tables.prediction_input.path.read_bytes()).decode().splitlines()
    assert header == "entity_id," + ",".join(ATTRIBUTES) + ",device"
    keyword, *attributes_text, device = lines[0].split(",")
    assert keyword == "1"
    assert attributes_text == [str(value) for value in attributes_of([1], 5)[0]]
    assert device in DEVICES
    for table, week in ((tables.train, "1"), (tables.evaluation, "2")):
        header, *lines = gzip.decompress(table.path.read_bytes()).decode().splitlines()
        assert header == "entity_id," + ",".join(ATTRIBUTES) + ",device,week,Clicks,Conversions"
        assert {line.split(",")[162] for line in lines} == {week}
        assert all(line.count(",") == 164 for line in lines)


def test_the_gzip_header_holds_no_time_and_no_name(tmp_path):
    head = write_table(tmp_path / "table.csv.gz", 10, seed=1).path.read_bytes()[:8]
    assert head[3] == 0
    assert head[4:8] == bytes(4)


@pytest.mark.parametrize("week", WEEKS)
def test_all_formats_hold_the_same_values(tmp_path, week):
    csv, gz, parquet = (read(write_table(tmp_path / f"table.{format}", 3_000, seed=4, week=week).path) for format in FORMATS)
    assert csv.equals(gz)
    assert parquet.cast(csv.schema).equals(csv)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("week", WEEKS)
def test_the_size_of_a_block_changes_no_row(tmp_path, monkeypatch, format, week):
    whole = read(write_table(tmp_path / f"whole.{format}", 700, seed=9, week=week).path)
    monkeypatch.setattr(formats, "_KEYWORDS_IN_A_BLOCK", 13)
    monkeypatch.setattr(formats, "_KEYWORDS_IN_A_ROW_GROUP", 13)
    assert read(write_table(tmp_path / f"pieces.{format}", 700, seed=9, week=week).path).equals(whole)


@pytest.mark.parametrize("week", WEEKS)
def test_a_shorter_table_is_the_beginning_of_a_longer_one(tmp_path, week):
    long = write_table(tmp_path / "long.csv", 15_000, seed=1, week=week).path.read_bytes()
    short = write_table(tmp_path / "short.csv", 4_321, seed=1, week=week).path.read_bytes()
    assert long.startswith(short)


def test_a_keyword_has_the_same_attributes_in_every_row_week_and_table(big):
    for written in (big.train, big.evaluation, big.prediction_input):
        table = read(written.path)
        assert np.array_equal(attributes(table), attributes_of(column(table, "entity_id"), 7))


def test_a_keyword_has_the_same_attributes_and_truth_beside_any_other_keywords():
    keywords, devices = np.arange(1, 3_001), np.arange(3_000) % 3
    order = np.random.default_rng(0).permutation(3_000)
    assert np.array_equal(attributes_of(keywords, 1)[order], attributes_of(keywords[order], 1))
    assert np.array_equal(true_cr(keywords, devices, 1)[order], true_cr(keywords[order], devices[order], 1))
    assert true_cr(keywords[17:18], devices[17:18], 1)[0] == true_cr(keywords, devices, 1)[17]


def test_rows_ascend_by_keyword_and_device_and_none_is_there_twice(big):
    for written in (big.train, big.evaluation, big.prediction_input):
        rows = rows_of(read(written.path))
        assert rows == sorted(set(rows))


def test_every_keyword_of_the_table_to_score_has_one_to_three_devices_most_often_the_computer(big):
    table = read(big.prediction_input.path)
    _, devices_of_keyword = np.unique(column(table, "entity_id"), return_counts=True)
    assert set(devices_of_keyword) == {1, 2, 3}
    assert len(devices_of_keyword) == column(table, "entity_id").max()
    shares = np.bincount(device_numbers(table)) / table.num_rows
    assert 0.45 < shares[0] < 0.55
    assert 0.2 < shares[2] < shares[1] < 0.3


def test_the_weeks_share_most_rows_but_not_all_and_hold_no_row_that_is_not_scored(big):
    scored = set(rows_of(read(big.prediction_input.path)))
    last = max(scored)
    train, evaluation = (set(rows_of(read(table.path))) for table in (big.train, big.evaluation))
    assert {row for row in train if row < last} <= scored
    known = len(evaluation & train) / len(evaluation)
    assert 0.7 < known < 0.8


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_table_of_several_weeks_holds_the_beginning_of_each(tmp_path, format):
    together = read(write_table(tmp_path / f"together.{format}", 1000, 5, week=4, weeks=3).path)
    assert collections.Counter(column(together, "week").tolist()) == {2: 333, 3: 333, 4: 334}
    for week in (2, 3, 4):
        alone = read(write_table(tmp_path / f"week{week}.{format}", 333, 5, week=week).path)
        assert together.filter(pc.equal(together["week"], week)).slice(0, 333).to_pylist() == alone.to_pylist()


@pytest.mark.parametrize("weeks", [0, 5, -1])
def test_more_weeks_than_there_are_up_to_the_last_are_refused(tmp_path, weeks):
    with pytest.raises(RequestError, match=f"{weeks} weeks were asked for, but 100 rows up to week 4 hold 1 to 4"):
        write_table(tmp_path / "t.csv", 100, 5, week=4, weeks=weeks)


def test_attributes_are_sparse_with_a_few_common_many_rare_some_constant_and_some_redundant(big_train):
    _, first_row = np.unique(column(big_train, "entity_id"), return_index=True)
    held = attributes(big_train)[first_row]
    assert set(np.unique(held)) == {0, 1}
    shares = held.mean(axis=0)
    assert 0.06 < shares.mean() < 0.1
    assert 5 <= (shares > 0.4).sum() <= 20
    assert (shares < 0.02).sum() > 60
    assert {0.0, 1.0} <= set(shares)
    varying = held[:, (shares > 0) & (shares < 1)]
    correlations = np.corrcoef(varying.T) - np.eye(varying.shape[1])
    assert correlations.max() == pytest.approx(1)
    assert correlations.min() == pytest.approx(-1)
    assert ((correlations > 0.8) & (correlations < 0.99)).any()


def test_clicks_have_a_heavy_tail(big_train):
    clicks = column(big_train, "Clicks")
    assert clicks.min() == 1
    assert 0.35 < (clicks == 1).mean() < 0.45
    assert np.median(clicks) == 2
    assert 70 < np.quantile(clicks, 0.99) < 150
    assert 300 < np.quantile(clicks, 0.999) < 900
    assert clicks.max() <= MOST_CLICKS


def test_a_keyword_with_many_clicks_has_many_in_the_other_week_too(big, big_train):
    evaluation = read(big.evaluation.path)
    of_week = [dict(zip(rows_of(table), column(table, "Clicks").tolist(), strict=True)) for table in (big_train, evaluation)]
    both = sorted(of_week[0].keys() & of_week[1].keys())
    one, other = (np.log([clicks[row] for row in both]) for clicks in of_week)
    assert 0.3 < np.corrcoef(one, other)[0, 1] < 0.7


def test_a_few_rows_have_more_conversions_than_clicks(big_train):
    too_many = column(big_train, "Conversions") > column(big_train, "Clicks")
    assert 3 <= too_many.sum() <= 30
    assert column(big_train, "Conversions").min() == 0


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 2**80, -1])
def test_the_true_rate_has_a_mean_of_five_percent_for_every_seed(tmp_path, seed):
    table = read(write_table(tmp_path / "table.parquet", 20_000, seed).path)
    truth = true_cr(column(table, "entity_id"), device_numbers(table), seed)
    assert truth.dtype == np.float64
    assert truth.mean() == pytest.approx(0.05, abs=0.003)
    assert 0.02 < truth.std() < 0.04
    assert 0 < truth.min() < truth.max() <= HIGHEST_CR


def test_the_true_rate_is_highest_on_computers_and_lowest_on_smartphones():
    keywords = np.arange(1, 5_001)
    computer, smartphone, tablet = (true_cr(keywords, np.full(5_000, device), 7).mean() for device in range(3))
    assert smartphone < tablet < computer


def test_what_is_observed_agrees_with_the_truth_by_device_and_by_height_of_the_rate(big_train):
    clicks = column(big_train, "Clicks")
    conversions = np.minimum(column(big_train, "Conversions"), clicks)
    device = device_numbers(big_train)
    truth = true_cr(column(big_train, "entity_id"), device, 7)
    tenth = np.digitize(truth, np.quantile(truth, np.arange(0.1, 1, 0.1)))
    for groups in (device, tenth):
        expected = np.bincount(groups, truth * clicks)
        error = np.sqrt(np.bincount(groups, truth * (1 - truth) * clicks))
        assert np.all(np.abs(np.bincount(groups, conversions) - expected) < 4 * error)


def test_the_attributes_teach_a_logistic_regression_something_but_not_more_than_the_truth(big, big_train):
    def trials(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        features = np.column_stack([attributes(table), np.eye(3)[device_numbers(table)]])
        clicks = column(table, "Clicks")
        return features, np.minimum(column(table, "Conversions"), clicks), clicks

    features, conversions, clicks = trials(big_train)
    model = LogisticRegression(C=0.03, max_iter=300)
    outcome = np.repeat([1, 0], len(clicks))
    model.fit(np.vstack([features, features]), outcome, sample_weight=np.concatenate([conversions, clicks - conversions]))

    evaluation = read(big.evaluation.path)
    features, eval_conversions, eval_clicks = trials(evaluation)

    def log_loss(cr: np.ndarray | float) -> float:
        return -(eval_conversions * np.log(cr) + (eval_clicks - eval_conversions) * np.log1p(-cr)).sum() / eval_clicks.sum()

    truth = log_loss(true_cr(column(evaluation, "entity_id"), device_numbers(evaluation), 7))
    learned = log_loss(model.predict_proba(features)[:, 1])
    mean = log_loss(np.full(len(eval_clicks), conversions.sum() / clicks.sum()))
    assert truth < learned < mean - 0.002


def test_conversions_are_binomial_to_the_last_quantile():
    rng = np.random.default_rng(0)
    clicks = np.concatenate([rng.integers(1, 50, 3_000), np.full(200, MOST_CLICKS)])
    cr = rng.uniform(1e-4, HIGHEST_CR, len(clicks))
    quantiles = rng.random(len(clicks))
    assert np.array_equal(binomial_quantile(quantiles, clicks, cr), binom.ppf(quantiles, clicks, cr).astype(int))
    assert np.array_equal(binomial_quantile(np.zeros(3), clicks[:3], cr[:3]), [0, 0, 0])
    assert binomial_quantile(np.array([1 - 2**-53]), np.array([2]), np.array([0.2]))[0] <= 2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc, which is Linux's")
@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table.parquet"])
def test_memory_does_not_grow_with_the_table(tmp_path, name):
    def peak_mb(rows: int) -> float:
        # not getrusage, whose peak a child inherits from the process that started it
        program = (
            "import sys; from pathlib import Path; from producers.sample.tables import write_table\n"
            "write_table(Path(sys.argv[1]), int(sys.argv[2]), 1, week=1)\n"
            "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
        )
        arguments = [sys.executable, "-c", program, str(tmp_path / name), str(rows)]
        return int(subprocess.run(arguments, capture_output=True, check=True, text=True).stdout) / 1024

    assert peak_mb(400_000) - peak_mb(100_000) < 25


@pytest.mark.parametrize("rows", [0, -1])
def test_fewer_than_one_row_is_refused(tmp_path, rows):
    with pytest.raises(RequestError, match=f"{rows} rows") as refused:
        write_tables(tmp_path / "out", rows, seed=1)
    assert refused.value.next_step
    with pytest.raises(RequestError):
        write_tables(tmp_path / "out", 5, seed=1, train_rows=rows)
    with pytest.raises(RequestError):
        write_table(tmp_path / "out" / "table.csv", rows, seed=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("eval_share", [0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(tmp_path, eval_share):
    with pytest.raises(RequestError, match="share") as refused:
        write_tables(tmp_path / "out", 5, seed=1, eval_share=eval_share)
    assert refused.value.next_step
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_or_week_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"'xlsx' is not a table format.*csv, csv\.gz, parquet"):
        write_tables(tmp_path / "out", 5, seed=1, format="xlsx")
    with pytest.raises(RequestError, match="not a table format"):
        write_table(tmp_path / "out" / "table.csv.bz2", 5, seed=1)
    with pytest.raises(RequestError, match="the week is 54"):
        write_table(tmp_path / "out" / "table.csv", 5, seed=1, week=54)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RequestError, match="cannot be written") as refused:
        write_tables(tmp_path / "file", 5, seed=1)
    assert str(tmp_path / "file") in refused.value.message
    assert "--out" in refused.value.next_step


@pytest.mark.skipif(os.name != "posix", reason="only posix limits the size of a file")
@pytest.mark.parametrize("format", FORMATS)
def test_a_disk_that_fills_up_is_refused_and_leaves_the_table_that_was_there(tmp_path, format):
    kept = write_table(tmp_path / f"table.{format}", 3, seed=1).path
    before = kept.read_bytes()
    program = (
        "import resource, sys; from pathlib import Path; from producers.sample.tables import write_table\n"
        "from shared.errors import RequestError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: write_table(Path(sys.argv[1]), 50_000, 1)\n"
        "except RequestError as refused: print(refused)"
    )
    said = subprocess.run([sys.executable, "-c", program, str(kept)], capture_output=True, check=True, text=True).stdout
    assert f"the table {kept} cannot be written: File too large. " in said
    assert kept.read_bytes() == before
    assert list(tmp_path.iterdir()) == [kept]
