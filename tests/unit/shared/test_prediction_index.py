"""A prediction index is read in slices and by key, and a file that is none is refused by its name."""

import hashlib
import io

import numpy as np
import pyarrow as pa
import pytest

from shared import prediction_index
from shared.bucket.local import LocalBucket
from shared.errors import ScoringError, UnreadableIndexError
from shared.index_format import FeatureCounts, IndexShape, counts_metadata
from shared.prediction_index import PredictionIndex, open_file, open_index
from shared.records import FileDigest

PATH = "revision/prediction_index.arrow"
ROWS = 100
SHAPE = IndexShape(keys=("entity_id", "device"), has_whole_keys=True, features=(("att1", "binary"),), files=("a.csv",))
COUNTS = FeatureCounts(ones={"att1": 7}, bins={"score": {4092: 3}})


@pytest.fixture(autouse=True)
def small_batches(monkeypatch) -> None:
    monkeypatch.setattr(prediction_index, "BATCH_ROWS", 8)


def index_bytes(keys, shape: IndexShape = SHAPE, batch_rows: int = 8) -> bytes:
    """An index of rows with these sorted keys, whose line is their place."""
    out = pa.BufferOutputStream()
    schema = shape.schema()
    columns = {
        "key": pa.array(keys, pa.int64() if shape.has_whole_keys else pa.string()),
        "cr": pa.array([place / 1000 for place in range(len(keys))], pa.float64()),
        "digest": pa.array([place.to_bytes(16, "little") for place in range(len(keys))], pa.binary(16)),
        "line": pa.array(range(len(keys)), pa.uint32()),
    }
    batch = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
    with pa.ipc.new_file(out, schema) as file:
        whole = len(keys) // batch_rows * batch_rows
        for start in range(0, whole, batch_rows):
            file.write_batch(batch.slice(start, batch_rows))
        file.write_batch(batch.slice(whole), custom_metadata=counts_metadata(COUNTS))
    return out.getvalue().to_pybytes()


KEYS = [number // 3 for number in range(ROWS)]


@pytest.fixture(params=["map", "bytes", "stream"])
def index(request, tmp_path, monkeypatch) -> PredictionIndex:
    data = index_bytes(KEYS)
    if request.param == "bytes":
        return PredictionIndex(data, "bytes")
    bucket = LocalBucket(tmp_path)
    bucket.write(PATH, data)
    if request.param == "stream":  # as an object store gives it
        monkeypatch.setattr(bucket, "open", lambda path: io.BytesIO(bucket.read(path)))
    return open_index(bucket, PATH)


@pytest.mark.parametrize("rows_at_once", [1, 7, 8, 16, 1000])
def test_slices_hold_every_row_once_in_key_order(index, rows_at_once):
    slices = [*index.slices(rows_at_once)]
    assert {len(rows) for rows in slices[:-1]} <= {rows_at_once}
    assert np.concatenate([rows.key for rows in slices]).tolist() == KEYS
    assert np.concatenate([rows.line for rows in slices]).tolist() == [-1, *range(1, ROWS)]
    assert np.concatenate([rows.digest for rows in slices])[:, 0].tolist() == [*range(ROWS)]
    assert np.concatenate([rows.cr for rows in slices]).tolist() == [place / 1000 for place in range(ROWS)]


def test_the_columns_have_the_promised_types(index):
    rows = index.at(3, 30)
    assert [column.dtype for column in (rows.key, rows.cr, rows.digest, rows.file, rows.line)] == [
        np.dtype(name) for name in ("int64", "float64", "uint64", "int32", "int64")
    ]
    assert rows.digest.shape == (27, 2)
    assert rows.bounds == []
    assert rows.clicks is None


@pytest.mark.parametrize("key", [-5, 0, 1, 7, 8, 16, 32, 33, 34, 1 << 62])
def test_all_rows_of_a_key_are_found(index, key):
    wanted = [place for place, its in enumerate(KEYS) if its == key]
    assert index.find(key) == wanted
    assert index.lookup(key).cr.tolist() == [place / 1000 for place in wanted]


@pytest.mark.parametrize(("low", "high"), [(None, None), (5, None), (None, 5), (5, 9), (9, 5), (-4, 200), (33, 34), (200, 300)])
def test_the_rows_between_two_keys_are_found(index, low, high):
    wanted = [key for key in KEYS if (low is None or low <= key) and (high is None or key < high)]
    assert index.between(low, high).key.tolist() == wanted


def test_an_index_says_what_it_holds(index):
    assert (index.rows, index.files, index.columns, index.keys) == (ROWS, ["a.csv"], ["att1"], ("entity_id", "device"))
    assert index.has_whole_keys
    assert index.has_digests
    assert index.feature_counts == COUNTS
    assert index.key_of([7, 2]) == 30


def test_text_keys_are_found_in_the_order_of_their_characters():
    keys = sorted(["a", "a|b", "b", "b", "b", "z", "ä", "größe", "日本", "", "B", "0"])
    shape = IndexShape(keys=("keyword",), has_whole_keys=False, has_digests=False)
    index = PredictionIndex(index_bytes(keys, shape), "t")
    assert np.concatenate([rows.key for rows in index.slices()]).tolist() == keys
    assert index.find("b") == [place for place, key in enumerate(keys) if key == "b"]
    assert index.find("c") == []
    assert index.between("b", "z").key.tolist() == [key for key in keys if "b" <= key < "z"]
    assert not index.has_digests
    assert not index.at(0, 3).digest.any()
    assert index.files == []


def test_a_key_of_the_other_form_is_in_no_row():
    assert PredictionIndex(index_bytes(KEYS), "t").find("7|0") == []
    shape = IndexShape(keys=("keyword",), has_whole_keys=False)
    assert PredictionIndex(index_bytes(["a"], shape), "t").find(7) == []


def test_a_key_in_several_batches_is_found_whole():
    keys = [1, *[5] * 40, 9]
    index = PredictionIndex(index_bytes(keys), "t")
    assert index.find(5) == [*range(1, 41)]
    assert index.between(5, 6).key.tolist() == [5] * 40


def digest(data: bytes) -> FileDigest:
    return FileDigest(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def test_an_index_with_another_digest_than_its_manifest_is_refused(tmp_path):
    data = index_bytes(KEYS)
    place = tmp_path / "prediction_index.arrow"
    place.write_bytes(data)
    open_file(place, digest(data)).verify()
    with pytest.raises(UnreadableIndexError, match=r"prediction_index.arrow cannot be read: it has .* bytes, not the"):
        open_file(place, digest(data + b"more"))
    other = bytearray(data)
    other[len(data) // 2] ^= 1
    with pytest.raises(UnreadableIndexError, match=r"prediction_index.arrow cannot be read: its SHA-256"):
        open_file(place, digest(bytes(other))).verify()


@pytest.mark.parametrize("data", [b"", b"entity_id,device,cr\n1,0,0.5\n", b"ARROW1\0\0", b"ARROW1\0\0" * 9, bytes(1000)])
def test_a_file_that_is_no_index_is_refused_by_its_name(tmp_path, data):
    bucket = LocalBucket(tmp_path)
    bucket.write(PATH, data)
    with pytest.raises(UnreadableIndexError, match=PATH):
        open_index(bucket, PATH)
    with pytest.raises(UnreadableIndexError, match="is not there"):
        open_index(bucket, "revision/none.arrow")


def test_another_arrow_file_is_no_index():
    out = pa.BufferOutputStream()
    table = pa.table({"key": [1], "cr": [0.5]})
    with pa.ipc.new_file(out, table.schema) as file:
        file.write_table(table)
    with pytest.raises(UnreadableIndexError, match=r"t.arrow cannot be read: it is damaged or not an index"):
        PredictionIndex(out.getvalue().to_pybytes(), "t.arrow")


def test_an_index_with_other_batches_is_refused():
    with pytest.raises(UnreadableIndexError, match="its batch 0 has 4 rows, not 8"):
        [*PredictionIndex(index_bytes(KEYS, batch_rows=4), "t").slices()]


def read_all(data: bytes) -> None:
    index = PredictionIndex(data, "t")
    for rows in index.slices():
        assert len(rows.key) == len(rows.cr)
    index.find("b" if not index.has_whole_keys else 5)


@pytest.mark.parametrize("whole", [True, False])
def test_a_damaged_index_is_refused_or_read_and_nothing_else(whole):
    shape = IndexShape(keys=("entity_id", "device") if whole else ("keyword",), has_whole_keys=whole)
    data = index_bytes(KEYS if whole else sorted(map(str, KEYS)), shape)
    damaged = [data[:length] for length in range(0, len(data), 41)]
    for place in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        damaged.append(bytes(flipped))
    refused = 0
    for other in damaged:
        try:
            read_all(other)
        except ScoringError as error:
            assert isinstance(error, UnreadableIndexError)
            refused += 1
    assert refused > len(range(0, len(data), 41)) - 2
