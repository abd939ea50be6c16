"""An index is the stable sort of all rows, with the same bytes however they are divided into parts."""

import hashlib
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import prediction_index
from shared.bucket.local import LocalBucket
from shared.index_format import FeatureCounts, IndexShape, index_key, may_be_whole
from shared.indexing import index_files, merging
from shared.indexing.index_files import WrittenIndex, write_index
from shared.prediction_index import PredictionIndex, open_index
from workers.guard.index.part_index import (
    BrokenPartIndexError,
    IndexedRows,
    SortedRows,
    read_part_index,
    sorted_rows,
    write_part_index,
)

KEYS = ("entity_id", "device")
PATH = "data/prediction_index.arrow"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> LocalBucket:
    return LocalBucket(tmp_path_factory.mktemp("index") / "bucket")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch) -> None:
    for module in (index_files, prediction_index):
        monkeypatch.setattr(module, "BATCH_ROWS", 8)
    monkeypatch.setattr(merging, "RANGE_ROWS", 8)
    monkeypatch.setattr(merging, "SAMPLE_STEP", 2)


class Table:
    """Rows whose values tell which row they are, cut into parts."""

    def __init__(self, ids, devices, cuts=(), *, names=KEYS, clicks=False, bounds=False, files=()) -> None:
        self.keys = [np.array(ids) if isinstance(ids[0], int) else np.array(ids, dtype=object), np.array(devices, dtype=np.int8)]
        self.names, self.rows, self.files = names, len(ids), files
        self.cr = np.arange(self.rows) / (self.rows + 1)
        self.digests = np.stack([np.arange(self.rows), np.arange(self.rows) * 3], axis=1).astype(np.uint64)
        self.clicks = np.arange(self.rows) % 5 * 1.0 if clicks else None
        self.bounds = [self.cr / 2, (self.cr + 1) / 2] if bounds else []
        self.edges = [0, *sorted(cuts), self.rows]

    def shape(self) -> IndexShape:
        return IndexShape(
            keys=self.names,
            has_whole_keys=may_be_whole(self.names),
            features=(("att1", "binary"),),
            files=("a.csv", *self.files),
            has_interval=bool(self.bounds),
            has_clicks=self.clicks is not None,
        )

    def __iter__(self) -> Iterator[SortedRows]:
        for number, (start, end) in enumerate(zip(self.edges, self.edges[1:], strict=False)):
            rows = slice(start, end)
            indexed = IndexedRows(
                digests=self.digests[rows],
                lines=np.arange(start, end) + 2,
                clicks=None if self.clicks is None else self.clicks[rows],
                counts=FeatureCounts(ones={"att1": end - start}),
            )
            keys, bounds = [column[rows] for column in self.keys], [bound[rows] for bound in self.bounds]
            yield sorted_rows(self.names, keys, self.cr[rows], bounds, indexed, number if self.files else 0)


def rows_of(index: PredictionIndex) -> list[tuple]:
    found = []
    for rows in index.slices(5):
        columns = [rows.key, rows.cr, rows.digest[:, 0], rows.file, rows.line, *rows.bounds]
        columns += [] if rows.clicks is None else [rows.clicks]
        found += zip(*(column.tolist() for column in columns), strict=True)
    return found


def wanted_rows(table: Table, index: PredictionIndex) -> list[tuple]:
    keys = [index.key_of(values) for values in zip(*(column.tolist() for column in table.keys), strict=True)]
    file_of = np.searchsorted(table.edges[1:], np.arange(table.rows), side="right") if table.files else np.zeros(table.rows, dtype=int)
    columns = [keys, table.cr.tolist(), table.digests[:, 0].tolist(), file_of.tolist(), range(2, table.rows + 2)]
    columns += [bound.tolist() for bound in table.bounds]
    columns += [] if table.clicks is None else [table.clicks.tolist()]
    return sorted(zip(*columns, strict=True), key=lambda row: row[0])


def write(bucket: LocalBucket, table: Table) -> tuple[WrittenIndex, PredictionIndex]:
    written = write_index(bucket, PATH, table.shape(), table)
    return written, open_index(bucket, PATH, written.digest)


small_ids = st.integers(-3, 12)
any_ids = small_ids | st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.sampled_from("ab|\\ü,"), max_size=4)
sizes = st.integers(1, 60)


@given(st.data(), sizes, st.sampled_from([small_ids, any_ids, texts]), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_an_index_is_the_stable_sort_of_all_rows_with_the_same_bytes_however_they_are_cut(bucket, data, size, ids, clicks, bounds):
    chosen = data.draw(st.lists(ids, min_size=size, max_size=size))
    if data.draw(st.booleans()):
        chosen.sort()
    devices = data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    names = KEYS if isinstance(chosen[0], int) else ("keyword", "device")
    table = Table(chosen, devices, names=names, clicks=clicks, bounds=bounds)
    written, index = write(bucket, table)
    assert rows_of(index) == wanted_rows(table, index)
    assert index.rows == written.rows == size
    assert written.rows_repeated == size - len({row[0] for row in rows_of(index)})
    assert index.feature_counts == FeatureCounts(ones={"att1": size})
    whole = bucket.read(PATH)
    assert (hashlib.sha256(whole).hexdigest(), len(whole)) == (written.digest.sha256, written.digest.size)
    table.edges = [0, *sorted(data.draw(st.lists(st.integers(0, size), max_size=9))), size]
    write_index(bucket, PATH, table.shape(), table)
    assert bucket.read(PATH) == whole


@pytest.mark.parametrize("order", ["sorted", "reversed"])
def test_rows_of_several_files_name_their_file(bucket, order):
    ids = [*range(40)] if order == "sorted" else [*range(40, 0, -1)]
    table = Table(ids, [0] * 40, [7, 21], files=("b.csv", "c.csv"), clicks=True)
    _, index = write(bucket, table)
    assert index.files == ["a.csv", "b.csv", "c.csv"]
    assert rows_of(index) == wanted_rows(table, index)


def test_one_id_that_does_not_fit_makes_all_keys_text(bucket):
    table = Table([5, 1 << 61, 3], [1, 0, 2], [1])
    _, index = write(bucket, table)
    assert not index.has_whole_keys
    assert [row[0] for row in rows_of(index)] == ["2305843009213693952|0", "3|2", "5|1"]
    largest = Table([-(1 << 61), (1 << 61) - 1], [1, 2])
    _, index = write(bucket, largest)
    assert [row[0] for row in rows_of(index)] == [-(1 << 63) + 1, (1 << 63) - 2]


def test_values_of_text_keys_never_run_together():
    keys = ("campaign", "keyword")
    pairs = [("a|b", "c"), ("a", "b|c"), ("a\\", "|b"), ("a\\|", "b"), ("a|", "b"), ("", "")]
    assert len({index_key(keys, pair, whole=False) for pair in pairs}) == len(pairs)


def test_a_long_text_key_is_stored_by_its_beginning_and_its_digest(bucket):
    long = ["x" * 1000 + str(number) for number in range(12)]
    table = Table(long, [0] * 12, [5], names=("keyword", "device"))
    written, index = write(bucket, table)
    assert rows_of(index) == wanted_rows(table, index)
    assert written.rows_repeated == 0
    assert all(len(row[0]) <= 260 for row in rows_of(index))
    assert index.lookup(index.key_of([long[7], 0])).line.tolist() == [9]


def test_one_key_in_most_rows_is_not_sorted_in_memory(bucket, monkeypatch):
    ids = [7] * 500
    ids[100], ids[400] = 3, 9
    table = Table(ids, [0] * 500, range(0, 500, 20))
    sorted_together = []
    in_key_order = merging.in_key_order
    monkeypatch.setattr(merging, "in_key_order", lambda batch: sorted_together.append(batch.num_rows) or in_key_order(batch))
    written, index = write(bucket, table)
    assert rows_of(index) == wanted_rows(table, index)
    assert written.rows_repeated == 497
    assert not sorted_together


def test_parts_that_follow_one_another_are_read_once(bucket):
    table = Table([*range(50)], [0] * 50, [9, 9, 30])
    reads = []

    class Counted:
        def __iter__(self):
            reads.append(1)
            return iter(table)

    write_index(bucket, PATH, table.shape(), Counted())
    assert len(reads) == 1


def test_an_index_without_rows_can_be_read(bucket):
    table = Table([1], [0])
    table.rows, table.edges = 0, [0, 0]
    written, index = write(bucket, table)
    assert (index.rows, written.rows, written.rows_repeated) == (0, 0, 0)
    assert [*index.slices()] == []
    assert len(index.between(None, None)) == 0
    assert index.find(4) == []
    assert index.feature_counts.ones == {"att1": 0}


def test_a_merge_of_unsorted_parts_takes_little_memory(bucket, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(merging, "RANGE_ROWS", 1 << 13)
    ids = np.random.default_rng(1).permutation(800_000)
    table = Table([1], [0])
    table.keys, table.rows = [ids, np.zeros(len(ids), dtype=np.int8)], len(ids)
    table.cr, table.digests = np.zeros(len(ids)), np.zeros((len(ids), 2), dtype=np.uint64)
    table.edges = [*range(0, 800_001, 10_000)]
    before = pa.total_allocated_bytes()
    peaks = []
    in_key_order = merging.in_key_order
    monkeypatch.setattr(merging, "in_key_order", lambda batch: peaks.append(pa.total_allocated_bytes()) or in_key_order(batch))
    tracemalloc.start()
    write_index(bucket, PATH, table.shape(), table)
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(peaks) - before < 10 << 20
    assert traced < 10 << 20
    assert bucket.stat(PATH).size > 27 << 20


@pytest.fixture
def part() -> tuple[bytes, SortedRows]:
    (rows,) = Table([3, 1, 2], [0, 1, 2], clicks=True)
    out = pa.BufferOutputStream()
    write_part_index(out, rows, "p" * 64)
    return out.getvalue().to_pybytes(), rows


def test_the_index_of_a_part_is_what_was_written(part):
    data, rows = part
    read = read_part_index(data, "p" * 64)
    assert read.batch.equals(rows.batch)
    assert (read.counts, read.file) == (rows.counts, rows.file)


def test_the_index_of_a_part_that_is_damaged_or_of_other_predictions_is_broken(part):
    data, _ = part
    with pytest.raises(BrokenPartIndexError):
        read_part_index(data, "q" * 64)
    for length in range(0, len(data) - 8, 3):
        with pytest.raises(BrokenPartIndexError):
            read_part_index(data[:length], "p" * 64)


def test_a_flipped_bit_in_the_index_of_a_part_is_found_unless_it_changes_nothing(part):
    data, rows = part
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        try:
            read = read_part_index(bytes(flipped), "p" * 64)
        except BrokenPartIndexError:
            continue
        assert read.batch.to_pydict() == rows.batch.to_pydict()
