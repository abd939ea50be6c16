"""Two indexes in windows give what both whole tables give, whatever the size of a window, with bounded memory."""

import tracemalloc

import numpy as np
import pytest

from shared.guard.groups import BY_DEVICE
from shared.guard.windows import RunReader, windows
from shared.index_format import BATCH_ROWS
from tests.unit.workers.guard.made_up import index, judged, keys, result
from workers.guard.measures.measuring import Unchanged, measure


def some_keys(random, rows, *, doubled=0.0, runs=1):
    found = np.repeat(random.choice(keys(rows), rows, replace=False), runs)
    return np.concatenate([found, found[random.random(len(found)) < doubled]])


def table(random, rows, **options):
    found = some_keys(random, rows, **options)
    return found, random.random(len(found)), random.integers(0, 9, len(found)).astype(float)


def first_rows(key, cr, clicks):
    order = np.argsort(key, kind="stable")
    unique, first = np.unique(key[order], return_index=True)
    return dict(zip(unique.tolist(), zip(cr[order][first].tolist(), clicks[order][first].tolist(), strict=True), strict=True))


@pytest.mark.parametrize("rows_at_once", [1, 2, 3, 7, 50, 1000])
@pytest.mark.parametrize(
    ("old_rows", "new_rows", "doubled"), [(60, 60, 0.0), (60, 40, 0.2), (5, 80, 0.5), (80, 3, 0.9), (40, 0, 0.0), (0, 40, 0.3)]
)
def test_every_key_is_in_one_window_and_pairs_are_the_keys_of_both(old_rows, new_rows, doubled, rows_at_once):
    random = np.random.default_rng(rows_at_once)
    old, new = table(random, old_rows, doubled=doubled), table(random, new_rows, doubled=doubled)
    left, right = first_rows(*old), first_rows(*new)
    reader, pairs, lost, appeared = RunReader(index(new[0], new[1], clicks=new[2])), {}, [], []
    for window in windows(RunReader(index(old[0], old[1], clicks=old[2])), reader, rows_at_once):
        both = zip(
            window.of_old(window.old.key),
            window.of_new(window.new.key),
            window.of_old(window.old.cr),
            window.of_new(window.new.cr),
            strict=True,
        )
        for one, other, before, now in both:
            assert one == other
            pairs[int(one)] = (before, now)
        lost += window.old.key[window.lost].tolist()
        appeared += window.new.key[window.appeared].tolist()
    assert pairs == {key: (left[key][0], right[key][0]) for key in left.keys() & right.keys()}
    assert sorted(lost) == sorted(left.keys() - right.keys())
    assert sorted(appeared) == sorted(right.keys() - left.keys())
    assert reader.doubled == len(new[0]) - len(right)


def test_the_measures_do_not_depend_on_the_size_of_a_window():
    random = np.random.default_rng(7)
    old, new = (index(*found[:2], clicks=found[2]) for found in (table(random, 3000), table(random, 3000, doubled=0.1)))
    found = []
    for rows in (10, 999, BATCH_ROWS):
        measures = measure(old, new, BY_DEVICE, 0.5, Unchanged(), rows_at_once=rows)
        rates = measures.rates
        found.append(
            (
                measures.keys,
                measures.doubled,
                rates.moved,
                rates.old.counts.tolist(),
                rates.new.counts.tolist(),
                [round(rates.new.mean([code], by_clicks=True), 12) for code in range(3)],
                measures.worst.moved.rows,
                measures.worst.lost.rows,
            )
        )
    assert found[0] == found[1] == found[2]


def test_one_key_that_fills_many_windows_takes_no_more_memory():
    same = np.full(200_000, 4)
    reader = RunReader(index(same, np.full(len(same), 0.1)))
    assert sum(len(window.new) for window in windows(RunReader(None), reader, 1000)) == 1
    assert (reader.doubled, len(reader.first_doubled[0])) == (199_999, 10)


def test_memory_does_not_grow_with_the_tables():
    random = np.random.default_rng(3)
    peaks = []
    for keywords in (50_000, 200_000):
        old, new = (
            result(index(found, random.random(len(found)), features=np.arange(len(found)), clicks=np.ones(len(found))), table=name)
            for name in "ab"
            for found in [np.sort(random.choice(keys(keywords), keywords * 2, replace=False))]
        )
        judged(new, old)
        tracemalloc.start()
        judged(new, old)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 20e6
    assert peaks[1] < peaks[0] * 1.3
