"""A Parquet file of some kilobytes whose one long text stands in many rows takes no more memory than others: one text, or many copies."""

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.bucket.local import LocalBucket
from shared.errors import TableError
from tests.conftest import REPOSITORY
from workers.tables.training import table as training_table
from workers.tables.training.table import read_training_table

ROWS, LENGTH = 6_000, 64_000
"""384 MB, were each row to have a text of its own."""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc, which is Linux's")

MEASURED = """
import sys
from pathlib import Path

def megabytes(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field)) / 1024

import numpy as np
import pyarrow.parquet as pq
from shared.bucket.local import LocalBucket
from shared.errors import TableError
from shared.catalog.manifests import Column
from workers.tables import schema
from workers.tables.parquet.pieces import parquet_records
from workers.tables.training.table import read_training_table

file = Path(sys.argv[2])

def score():
    columns = [Column(name="keyword", type="text"), Column(name="att1", type="binary")]
    with file.open("rb") as raw:
        known = pq.ParquetFile(raw).metadata
        layout = schema.table_schema_for("t.parquet", known.schema.names, columns)
        pieces = parquet_records(raw, layout, 0, known.num_rows, known)
        return sum(len(pieces.rows(start, end).frame) for start, end in pieces.ranges())

def train():
    try:
        return len(read_training_table(LocalBucket(file.parent), file.name, None, text=["keyword"]).frame)
    except TableError as error:
        return error.message

before = megabytes("VmRSS")
print(globals()[sys.argv[1]]())
print(megabytes("VmHWM") - before)
"""


def long_texts(rows: int = ROWS, length: int = LENGTH) -> bytes:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["k" * length]))
    clicks = pa.array([2] * rows)
    columns = {"entity_id": pa.array(range(rows)), "device": pa.array(["Tablet"] * rows), "att1": pa.array([0, 1] * (rows // 2))}
    out = io.BytesIO()
    table = pa.table({**columns, "keyword": texts, "Clicks": clicks, "Conversions": columns["att1"]})
    pq.write_table(table, out, compression="zstd", row_group_size=1 << 20)
    return out.getvalue()


def measure(what: str, file: Path) -> tuple[str, float]:
    """What reading the file came to, and by how many megabytes the process grew."""
    file.write_bytes(long_texts())
    done = subprocess.run([sys.executable, "-c", MEASURED, what, str(file)], cwd=REPOSITORY, capture_output=True, check=True, text=True)
    said, grown = done.stdout.splitlines()
    return said, float(grown)


@needs_proc
def test_scoring_long_texts_takes_bounded_memory(tmp_path):
    said, grown = measure("score", tmp_path / "t.parquet")
    assert said == f"{ROWS}"
    assert grown < 250


@needs_proc
def test_training_on_long_texts_is_refused_in_bounded_memory(tmp_path):
    said, grown = measure("train", tmp_path / "t.parquet")
    assert said.startswith("t.parquet holds texts of more than 256 MB in keyword")
    assert grown < 600


def test_texts_that_stand_in_many_rows_are_read_to_train_as_long_as_they_fit(tmp_path, monkeypatch):
    bucket = LocalBucket(tmp_path)
    (tmp_path / "many").mkdir()
    for name in ("a", "b"):
        bucket.write(f"many/{name}.parquet", long_texts(200, 1000))
    texts = 2 * 200 * 1000
    monkeypatch.setattr(training_table, "MAX_UNPACKED_RATIO", 1)
    monkeypatch.setattr(training_table, "MAX_TEXT_BYTES", texts + 20_000)
    table = read_training_table(bucket, "many", None, text=["keyword"])
    assert set(table.frame["keyword"]) == {"k" * 1000}
    monkeypatch.setattr(training_table, "MAX_TEXT_BYTES", texts - 20_000)
    with pytest.raises(TableError, match=r"many/b\.parquet holds texts of more than 0 MB in keyword") as refused:
        read_training_table(bucket, "many", None, text=["keyword"])
    assert refused.value.next_step
