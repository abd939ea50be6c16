"""The differences between two results are exact, also for keys that are doubled where two windows meet."""

import csv
import tracemalloc

import numpy as np
import pytest

from producers.channels import difference_files
from producers.channels.changed_rows import ChangedRow, Features
from producers.channels.differences import Differences, compare
from shared.errors import RequestError
from shared.guard.verdict import RowProblem
from shared.guard.windows import ROWS_AT_ONCE
from shared.prediction_index import PredictionIndex
from tests.unit.workers.guard.made_up import index, keys


def differences(old: PredictionIndex, new: PredictionIndex, *, top: int = 20) -> tuple[Differences, list[ChangedRow]]:
    written: list[ChangedRow] = []
    return compare(old, new, top=top, by_more_than=0.5, write=written.append), written


def test_every_row_is_lost_new_moved_or_has_the_same_rate():
    old = index([4, 8, 12, 16], [0.1, 0.2, 0.3, 0.4], features=[1, 2, 3, 4], clicks=[10, 20, 30, 40])
    new = index([8, 12, 16, 20], [0.2, 0.33, 0.9, 0.5], features=[2, 3, 5, 6], clicks=[20, 30, 40, 50])
    found, written = differences(old, new)
    counts = found.counts
    assert (counts.lost.rows, counts.new.rows, counts.unchanged.rows, counts.moved.rows, counts.far.rows) == (1, 1, 1, 2, 1)
    assert (counts.lost.clicks, counts.new.clicks, counts.unchanged.clicks, counts.moved.clicks) == (10, 50, 20, 70)
    assert (counts.moved_alone.rows, counts.moved_alone.clicks) == (1, 30)
    assert [(row.what, row.key, row.features) for row in written] == [
        (RowProblem.LOST, "1", None),
        (RowProblem.MOVED, "3", Features.SAME),
        (RowProblem.MOVED, "4", Features.CHANGED),
        (RowProblem.NEW, "5", None),
    ]
    assert [row.line for row in written] == [2, 3, 4, 5]


def test_means_are_weighted_by_clicks_where_both_results_have_them():
    old = index([4, 8, 5], [0.1, 0.3, 0.5], clicks=[3, 1, 0])
    new = index([4, 8, 5], [0.2, 0.3, 0.5], clicks=[1, 1, 0])
    computer, smartphone = differences(old, new)[0].devices
    assert (computer.mean_before, computer.mean_now, computer.weight) == (pytest.approx(0.2), pytest.approx(0.25), "clicks")
    assert (smartphone.mean_before, smartphone.mean_now, smartphone.weight) == (0.5, 0.5, "rows")


def test_the_top_rows_are_those_with_the_most_clicks_times_change():
    random = np.random.default_rng(7)
    key, clicks = keys(40_000, 3), random.poisson(3, 120_000)
    before, now = random.random(120_000), random.random(120_000)
    found, _ = differences(index(key, before, clicks=clicks), index(key, now, clicks=clicks), top=7)
    best = np.argsort(-(np.abs(now - before) * clicks), kind="stable")[:7]
    assert [(row.key, row.line) for row in found.top[RowProblem.MOVED]] == [(str(key[place] >> 2), place + 2) for place in best]


def test_rows_without_clicks_are_ordered_by_their_change():
    found, _ = differences(index([4, 8], [0.1, 0.1]), index([4, 8], [0.2, 0.4]), top=1)
    assert not found.has_clicks
    assert [row.key for row in found.top[RowProblem.MOVED]] == ["2"]


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_keys_that_are_doubled_where_windows_meet_are_counted_once(shift):
    key = keys(ROWS_AT_ONCE, 1)
    place = ROWS_AT_ONCE // 2 + shift
    doubled = np.concatenate([key, key[place - 2 : place + 2], key[place - 1 : place]])
    rates = np.concatenate([np.full(len(key), 0.1), np.full(5, 0.9)])
    found, written = differences(index(key, np.full(len(key), 0.1)), index(doubled, rates))
    assert found.counts.doubled == 5
    assert found.counts.unchanged.rows == len(key)
    assert not written
    assert len(found.top[RowProblem.DOUBLED]) == 5
    back, written = differences(index(doubled, rates), index(key, np.full(len(key), 0.1)))
    assert (back.counts.doubled, back.counts.doubled_before) == (0, 5)
    assert not written


@pytest.mark.parametrize("night", ["it comes", "it goes"])
def test_one_id_that_is_too_large_leaves_the_other_rows_comparable(tmp_path, night):
    whole = index([40, 36, 5], [0.1, 0.2, 0.3], features=[1, 2, 3], clicks=[1, 2, 3])
    texts = np.array(["10|0", "9|0", "1|1", f"{1 << 61}|0"])
    large = index(texts, [0.1, 0.9, 0.3, 0.5], features=[1, 2, 3, 4], clicks=[1, 2, 3, 4])
    found, written = differences(whole, large) if night == "it comes" else differences(large, whole)
    assert (found.counts.unchanged.rows, found.counts.moved_alone.rows) == (2, 1)
    only = RowProblem.NEW if night == "it comes" else RowProblem.LOST
    assert [(row.what, row.key) for row in written] == [(only, f"{1 << 61}|0"), (RowProblem.MOVED, "9|0")]
    out = tmp_path / "changed.csv"
    difference_files.compare_into(out, *((whole, large) if night == "it comes" else (large, whole)), top=1, by_more_than=0.5)
    assert [row["key"] for row in csv.DictReader(out.open(newline=""))] == [f"{1 << 61}|0", "9|0"]


def test_results_of_any_rows_add_up():
    random = np.random.default_rng(3)
    whole = keys(70_000, 3)
    olds, news = (np.sort(random.choice(whole, 150_000, replace=False)) for _ in range(2))
    old = index(olds, random.integers(0, 3, len(olds)) / 10, features=olds % 5)
    new = index(news, random.integers(0, 3, len(news)) / 10, features=news % 5)
    found, written = differences(old, new)
    counts = found.counts
    both = len(np.intersect1d(olds, news))
    assert (counts.lost.rows, counts.new.rows) == (len(olds) - both, len(news) - both)
    assert counts.moved.rows + counts.unchanged.rows == both
    assert counts.moved.rows == counts.moved_alone.rows
    assert len(written) == counts.lost.rows + counts.new.rows + counts.moved.rows
    order = [(int(row.key) << 2) + ("Computer", "Smartphone", "Tablet").index(row.device) for row in written]
    assert order == sorted(order)


def test_text_keys_are_compared_as_they_are():
    found, written = differences(index(np.array(["a|1", "b|2"]), [0.1, 0.2]), index(np.array(["b|2", "c|3"]), [0.2, 0.3]))
    assert (found.counts.lost.rows, found.counts.new.rows, found.counts.unchanged.rows) == (1, 1, 1)
    assert [(row.key, row.device) for row in written] == [("a|1", "all"), ("c|3", "all")]


def test_whole_keys_without_a_device_are_the_ids_themselves():
    old, new = (index([20], [rate], key_columns=("entity_id",)) for rate in (0.1, 0.2))
    _, [row] = differences(old, new)
    assert (row.key, row.device) == ("5", "all")


def test_features_are_unknown_when_the_releases_read_different_columns():
    old, new = (index([4], [rate], features=[1], columns=columns) for rate, columns in ((0.1, ("att1",)), (0.2, ("att2",))))
    found, [row] = differences(old, new)
    assert not found.knows_features
    assert row.features == Features.UNKNOWN


def test_results_without_rows_differ_by_all_rows():
    empty, some = index(np.array([], dtype=np.int64), []), index([4, 8], [0.1, 0.2])
    assert differences(empty, some)[0].counts.new.rows == 2
    assert differences(some, empty)[0].counts.lost.rows == 2
    assert differences(empty, empty)[0].devices == []


def test_a_csv_file_holds_every_changed_row_and_no_formula(tmp_path):
    old = index(np.array(["=1+1", "b"]), [0.1, 0.25], clicks=[1, 2])
    new = index(np.array(["b", "@c"]), [0.3, 0.30000000000000004], clicks=[2, 3])
    out = tmp_path / "changed.csv"
    difference_files.compare_into(out, old, new, top=1, by_more_than=0.5)
    rows = list(csv.DictReader(out.open(newline="")))
    assert [(row["what"], row["key"]) for row in rows] == [("lost", "'=1+1"), ("new", "'@c"), ("moved", "b")]
    assert rows[1]["cr_now"] == "0.30000000000000004"
    assert (rows[2]["cr_before"], rows[2]["cr_now"], rows[2]["clicks"], rows[2]["features"]) == ("0.25", "0.3", "2.0", "unknown")


def test_negative_ids_stay_numbers_in_a_csv_file(tmp_path):
    out = tmp_path / "changed.csv"
    difference_files.compare_into(out, index([-20], [0.1]), index([-20], [0.2]), top=1, by_more_than=0.5)
    assert out.read_text().splitlines()[1].startswith("moved,-5,Computer,0.1,0.2,,table.csv,2,")


def test_a_csv_file_that_exists_is_never_overwritten(tmp_path):
    out = tmp_path / "changed.csv"
    out.write_text("mine")
    with pytest.raises(RequestError, match="is there already"):
        difference_files.compare_into(out, index([4], [0.1]), index([4], [0.2]), top=1, by_more_than=0.5)
    assert out.read_text() == "mine"


def test_a_csv_file_that_cannot_be_finished_is_removed(tmp_path, monkeypatch):
    def fail(*_: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(difference_files, "compare", fail)
    with pytest.raises(KeyboardInterrupt):
        difference_files.compare_into(tmp_path / "changed.csv", index([4], [0.1]), index([4], [0.2]), top=1, by_more_than=0.5)
    assert not list(tmp_path.iterdir())


def test_the_memory_of_a_million_rows_is_printed(capsys):
    key = keys(333_334, 3)
    random = np.random.default_rng(1)
    old, new = (index(key, random.random(len(key)), features=key, clicks=key % 7) for _ in range(2))
    tracemalloc.start()
    found = compare(old, new, top=20, by_more_than=0.5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.counts.moved.rows == len(key)
    with capsys.disabled():
        print(f"\n{len(key):,} rows compared with {peak / 2**20:.0f} MB at most")  # noqa: T201 - a measurement
