"""A digest depends on the parsed features of its row alone, and counts add up to those of the whole table."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.catalog.manifests import Column
from shared.index_format import FeatureCounts, total
from workers.guard.index import feature_digests
from workers.guard.index.feature_counts import bin_edges, count_features
from workers.guard.index.feature_digests import digest_rows
from workers.guard.index.features import Features, feature_values
from workers.tables import rows as table_rows
from workers.tables.csv import rows as csv_rows
from workers.tables.csv.rows import read_csv_rows
from workers.tables.parquet.rows import ParquetReader
from workers.tables.rows import Rows
from workers.tables.schema import table_schema_for

KEYS = ("entity_id", "device")
BITS = [f"att{number}" for number in range(1, 71)]
DEVICE_FLAGS = [Column(name="computer", type="binary"), Column(name="smartphone", type="binary")]
COLUMNS = [
    *DEVICE_FLAGS,
    *(Column(name=name, type="binary") for name in BITS),
    Column(name="score", type="number"),
    Column(name="kind", type="text"),
]
HEADER = ["entity_id", *BITS, "score", "kind", "device"]
DEVICES = ("Computer", "Smartphone", "Tablet")


def digests_of(rows: Rows, columns=COLUMNS, keys=KEYS) -> np.ndarray:
    return digest_rows(feature_values(rows.frame, Features.of(columns, keys)))


def counts_of(rows: Rows, columns=COLUMNS, keys=KEYS) -> FeatureCounts:
    return count_features(feature_values(rows.frame, Features.of(columns, keys)))


bits = st.lists(st.integers(0, 1), min_size=len(BITS), max_size=len(BITS))
rows_of_table = st.tuples(bits, st.sampled_from([0.0, -0.0, 0.5, -3.25, 1e300]), st.sampled_from(["", "a", "größe"]), st.integers(0, 2))


def csv_text(records) -> bytes:
    lines = [f"{n},{','.join(map(str, row[0]))},{row[1]!r},{row[2]},{DEVICES[row[3]]}\n" for n, row in enumerate(records)]
    return "".join(lines).encode()


def read_csv(data: bytes, columns=COLUMNS, keys=KEYS, header=HEADER) -> Rows:
    return read_csv_rows(data, table_schema_for("t.csv", header, columns, keys=keys), 2)


def read_slowly(data: bytes) -> Rows:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "_is_plain", lambda _: False)
        return read_csv(data)


def read_parquet(records, kind: pa.DataType) -> Rows:
    columns = {"entity_id": list(range(len(records)))}
    columns |= {name: pa.array([row[0][place] for row in records]).cast(kind) for place, name in enumerate(BITS)}
    columns |= {"score": [row[1] for row in records], "kind": [row[2] for row in records], "device": [row[3] for row in records]}
    raw = io.BytesIO()
    pq.write_table(pa.table(columns), raw)
    return ParquetReader(raw, table_schema_for("t.parquet", HEADER, COLUMNS, keys=KEYS), len(records)).rows(0, len(records))


@given(st.lists(rows_of_table, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_a_row_has_the_same_digest_and_counts_whichever_way_it_was_read(records):
    data = csv_text(records)
    rows = read_csv(data)
    wanted, counts = digests_of(rows), counts_of(rows)
    with_reject = read_csv(data + b"x,1\n")
    assert len(with_reject.rejects) == 1
    ways = [read_slowly(data), with_reject, read_parquet(records, pa.int8()), read_parquet(records, pa.int64())]
    ways += [read_parquet(records, pa.bool_()), read_parquet(records, pa.float64())]
    for way in ways:
        np.testing.assert_array_equal(digests_of(way), wanted)
        assert counts_of(way) == counts


@given(st.lists(rows_of_table, min_size=2, max_size=6), st.data())
@settings(max_examples=40, deadline=None)
def test_a_digest_does_not_depend_on_the_rows_beside_it(records, data):
    rows = read_csv(csv_text(records))
    dropped = np.zeros(len(records), dtype=bool)
    dropped[data.draw(st.integers(0, len(records) - 1))] = True
    kept = table_rows.reject_rows(rows, dropped, np.zeros(len(records)), "wrong")
    np.testing.assert_array_equal(digests_of(kept), digests_of(rows)[~dropped])
    merged = table_rows.merged(rows, rows, [])
    np.testing.assert_array_equal(digests_of(merged), np.repeat(digests_of(rows), 2, axis=0))


def test_columns_in_another_order_in_the_file_give_the_same_digest():
    record = ([number % 3 % 2 for number in range(len(BITS))], 0.5, "a", 1)
    values = dict(zip(HEADER, csv_text([record]).decode().strip().split(","), strict=True))
    header = [*reversed(HEADER)]
    other = read_csv((",".join(values[name] for name in header) + "\n").encode(), header=header)
    np.testing.assert_array_equal(digests_of(other), digests_of(read_csv(csv_text([record]))))


def frame_of(block: np.ndarray, names=BITS) -> pd.DataFrame:
    return pd.DataFrame(block.astype(np.int8), columns=names)


BINARY = [Column(name=name, type="binary") for name in BITS]


def binary_digests(block: np.ndarray, columns=BINARY) -> np.ndarray:
    names = [column.name for column in columns]
    return digest_rows(feature_values(frame_of(block, names), Features.of(columns, KEYS)))


def test_rows_that_differ_in_one_or_two_bits_differ_in_both_halves_of_their_digests():
    wide = [Column(name=f"att{number}", type="binary") for number in range(160)]
    ones = np.eye(160, dtype=np.int8)
    first, second = np.triu_indices(160, 1)
    block = np.concatenate([np.zeros((1, 160)), ones, ones[first] | ones[second]])
    digests = binary_digests(block, wide)
    for half in digests.T:
        assert len(np.unique(half)) == len(block)


def test_each_bit_of_a_digest_changes_in_half_of_the_rows_when_one_bit_of_a_row_does():
    block = np.random.default_rng(1).integers(0, 2, (4000, len(BITS)))
    for column in (0, 35, 63, 64, 69):
        flipped = block.copy()
        flipped[:, column] ^= 1
        changed = np.unpackbits((binary_digests(block) ^ binary_digests(flipped)).view(np.uint8), axis=1).mean(axis=0)
        assert changed.min() > 0.45
        assert changed.max() < 0.55


def test_low_bits_of_digests_collide_no_more_often_than_chance():
    block = np.random.default_rng(2).integers(0, 2, (100_000, len(BITS)))
    low = binary_digests(block) & np.uint64(0xFFFF)
    pairs = len(block) * (len(block) - 1) / 2
    for half in low.T:
        colliding = (np.bincount(half.astype(np.int64)) * (np.bincount(half.astype(np.int64)) - 1) / 2).sum()
        assert colliding == pytest.approx(pairs / 2**16, rel=0.03)


def test_the_names_the_order_and_the_types_of_the_features_are_part_of_a_digest():
    block = np.zeros((1, 2))
    kinds = [
        [Column(name="a", type="binary"), Column(name="b", type="binary")],
        [Column(name="b", type="binary"), Column(name="a", type="binary")],
        [Column(name="a", type="binary"), Column(name="c", type="binary")],
        [Column(name="a", type="binary"), Column(name="b", type="number")],
        [Column(name="ab", type="binary"), Column(name="", type="binary")],
    ]
    found = {binary_digests(block, columns).tobytes() for columns in kinds}
    assert len(found) == len(kinds)
    assert binary_digests(block, kinds[0]).tobytes() == binary_digests(block, kinds[0]).tobytes()


def test_the_device_is_a_feature_unless_it_is_a_key():
    data = csv_text([([0] * len(BITS), 0.5, "a", device) for device in range(3)])
    assert len(np.unique(digests_of(read_csv(data)), axis=0)) == 1
    keys = ("entity_id",)
    rows = read_csv(data, keys=keys)
    assert len(np.unique(digests_of(rows, keys=keys), axis=0)) == 3
    assert [*counts_of(rows, keys=keys).ones][:2] == ["computer", "smartphone"]
    assert "computer" not in counts_of(read_csv(data)).ones


def test_a_missing_text_is_another_text_than_any_that_a_row_may_hold():
    columns = [Column(name="kind", type="text")]
    frame = pd.DataFrame({"kind": pd.array([None, "", "nan", "None", "a"], dtype="str")})
    digests = digest_rows(feature_values(frame, Features.of(columns, ("kind",))))
    assert len(np.unique(digests, axis=0)) == 5


def test_digests_are_equal_in_every_process_and_version():
    block = np.arange(3 * len(BITS)).reshape(3, -1) % 7 % 2
    frame = frame_of(block)
    frame["score"], frame["kind"] = [0.0, 1.5, -2.0], pd.array(["a", "ß", "c"], dtype="str")
    columns = [*BINARY, Column(name="score", type="number"), Column(name="kind", type="text")]
    digests = digest_rows(feature_values(frame, Features.of(columns, KEYS)))
    assert [f"{half:016x}" for half in digests[1].tolist()] == ["55588c82b1ea7a94", "aeb7b015bfe20590"], (
        "the digests of stored indexes would no longer match"
    )


@pytest.mark.parametrize("rows", [0, 1, 254, 255, 256, 2040, 2041, 20_000])
@pytest.mark.parametrize("width", [1, 2, 7, 8, 70, 162])
def test_the_ones_of_each_column_are_counted(rows, width):
    columns = [Column(name=f"att{number}", type="binary") for number in range(width)]
    block = (np.random.default_rng(rows).random((rows, width)) < 0.9).astype(np.int8)
    counts = count_features(feature_values(frame_of(block, [column.name for column in columns]), Features.of(columns, KEYS)))
    assert [*counts.ones.values()] == block.sum(axis=0, dtype=int).tolist()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_each_number_is_counted_in_the_bin_that_holds_it(numbers):
    columns = [Column(name="score", type="number")]
    counts = count_features(feature_values(pd.DataFrame({"score": numbers}), Features.of(columns, KEYS)))
    assert sum(counts.bins["score"].values()) == len(numbers)
    for place, rows in counts.bins["score"].items():
        near, far = bin_edges(place)
        assert rows == sum(abs(near) <= abs(number) < abs(far) and (number < 0) == (near < 0) for number in numbers)


def test_counts_of_pieces_add_up_to_those_of_the_whole():
    data = csv_text([([number % 2] * len(BITS), number / 4, "a", number % 3) for number in range(30)])
    lines = data.splitlines(keepends=True)
    pieces = [counts_of(read_csv(b"".join(lines[start : start + 7]))) for start in range(0, 30, 7)]
    assert total(pieces) == counts_of(read_csv(data))
    assert FeatureCounts.decode(total(pieces).encode()) == total(pieces)


def test_a_table_is_hashed_in_blocks_of_any_size(monkeypatch):
    block = np.random.default_rng(3).integers(0, 2, (100, len(BITS)))
    whole = binary_digests(block)
    monkeypatch.setattr(feature_digests, "ROWS_AT_ONCE", 7)
    np.testing.assert_array_equal(binary_digests(block), whole)


def test_the_block_of_binary_columns_is_not_copied():
    rows = read_csv(csv_text([([1] * len(BITS), 0.5, "a", 2)] * 3))
    values = feature_values(rows.frame, Features.of(COLUMNS, KEYS))
    assert np.shares_memory(values.block, rows.frame[BITS[5]].to_numpy())
