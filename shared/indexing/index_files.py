"""Writes the index of a result from the sorted rows of its parts."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
import pyarrow as pa

from shared.bucket.interface import Bucket
from shared.index_format import BATCH_ROWS, CLICKS, FILE, KEY, FeatureCounts, IndexShape, counts_metadata
from shared.indexing.index_keys import as_text, count_repeated
from shared.indexing.merging import OverlapError, appended, merged_by_ranges
from shared.indexing.sorted_rows import SortedRows, in_key_order
from shared.records import FileDigest

Merge = Callable[[Iterable[pa.RecordBatch], IndexShape], Iterator[pa.RecordBatch]]


class _TextKeysError(Exception):
    """Raised at the first part with text keys, when all keys before it were whole."""


@dataclass(frozen=True, kw_only=True)
class WrittenIndex:
    """An index that was written."""

    digest: FileDigest
    rows: int
    rows_repeated: int
    """Rows with the key of an earlier row."""


def write_index(bucket: Bucket, path: str, shape: IndexShape, parts: Iterable[SortedRows]) -> WrittenIndex:
    """Writes an index; the same rows give the same bytes, however they are divided into parts.

    Args:
        bucket: the bucket.
        path: the path of the index.
        shape: what the index holds; its keys become text if those of a part are.
        parts: the rows, sorted within each part, the parts in the order of the table. They are iterated over again if they have to be
            sorted or converted, so they must not be an iterator.
    """
    merge: Merge = lambda batches, _: appended(batches)  # noqa: E731 - one of two functions of a type
    while True:
        try:
            return _write(bucket, path, shape, parts, merge)
        except _TextKeysError:
            shape, merge = replace(shape, has_whole_keys=False), merged_by_ranges
        except OverlapError:
            merge = merged_by_ranges


def _write(bucket: Bucket, path: str, shape: IndexShape, parts: Iterable[SortedRows], merge: Merge) -> WrittenIndex:
    counts = _TotalCounts()
    schema = shape.schema()
    batches = (_fitted(part, shape, schema) for part in counts.over(parts))
    rows, repeated, last_key = 0, 0, None
    with bucket.writer(path, durable=True) as out, ThreadPoolExecutor(1) as thread:
        hashed = _HashedWriter(out, thread)
        with pa.ipc.new_file(hashed, schema) as index:
            for batch in _rebatched(merge(batches, shape), schema):
                is_last = batch.num_rows < BATCH_ROWS
                index.write_batch(batch, custom_metadata=counts_metadata(counts.total) if is_last else None)
                rows += batch.num_rows
                repeated += count_repeated(batch.column(KEY), last_key)
                last_key = batch.column(KEY)[-1] if batch.num_rows else last_key
    return WrittenIndex(digest=hashed.digest(), rows=rows, rows_repeated=repeated)


def write_text_index(out: IO[bytes], shape: IndexShape, batches: Iterable[pa.RecordBatch], counts: FeatureCounts) -> None:
    """Writes the rows of an index with whole keys as an index with text keys.

    Args:
        out: the file to write to.
        shape: what the index holds.
        batches: its rows.
        counts: the counts of its features.
    """
    shape = replace(shape, has_whole_keys=False)
    schema = shape.schema()
    rows = merged_by_ranges((_with_text_keys(batch, shape, schema) for batch in batches), shape)
    with pa.ipc.new_file(out, schema) as index:
        for batch in _rebatched(rows, schema):
            index.write_batch(batch, custom_metadata=counts_metadata(counts) if batch.num_rows < BATCH_ROWS else None)


def _with_text_keys(batch: pa.RecordBatch, shape: IndexShape, schema: pa.Schema) -> pa.RecordBatch:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    columns[KEY] = as_text(shape.keys, columns[KEY])
    return in_key_order(pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema))


def _fitted(part: SortedRows, shape: IndexShape, schema: pa.Schema) -> pa.RecordBatch:
    """Returns the rows of a part with the columns of the index."""
    batch = part.batch
    if pa.types.is_string(part.keys.type) and shape.has_whole_keys:
        raise _TextKeysError
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    if FILE in schema.names:
        columns[FILE] = pa.array(np.full(batch.num_rows, part.file, dtype=np.int32))
    if shape.has_clicks and CLICKS not in columns:
        columns[CLICKS] = pa.array(np.zeros(batch.num_rows))
    is_converted = pa.types.is_integer(part.keys.type) and not shape.has_whole_keys
    if is_converted:
        columns[KEY] = as_text(shape.keys, part.keys)
    fitted = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
    return in_key_order(fitted) if is_converted else fitted


def _rebatched(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yields full batches, then one with the remaining rows, perhaps none."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        while rows >= BATCH_ROWS:
            whole = pa.Table.from_batches(held)
            yield _copied(whole.slice(0, BATCH_ROWS), schema)
            held, rows = whole.slice(BATCH_ROWS).to_batches(), rows - BATCH_ROWS
    yield _copied(pa.Table.from_batches(held, schema), schema)


def _copied(rows: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    """Returns rows as a batch with memory of its own, whose bytes depend on the values alone."""
    nothing = [pa.array([], field.type) for field in schema]
    columns = [pa.concat_arrays([none, *column.chunks]) for none, column in zip(nothing, rows.columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


class _TotalCounts:
    """Adds up the counts of the parts that pass through it."""

    def __init__(self) -> None:
        self.total = FeatureCounts()

    def over(self, parts: Iterable[SortedRows]) -> Iterator[SortedRows]:
        for part in parts:
            self.total = self.total.plus(part.counts)
            yield part


class _HashedWriter:
    """A file for Arrow to write to, which computes the digest of what is written in a thread, while it is written."""

    closed = False

    def __init__(self, out: IO[bytes], thread: ThreadPoolExecutor) -> None:
        self._out, self._thread, self._sha256, self._size = out, thread, hashlib.sha256(), 0

    def write(self, data: memoryview) -> int:
        hashing = self._thread.submit(self._sha256.update, data)
        written = self._out.write(data)
        hashing.result()
        self._size += written
        return written

    def flush(self) -> None:
        """Does nothing: the bucket does it."""

    def digest(self) -> FileDigest:
        return FileDigest(sha256=self._sha256.hexdigest(), size=self._size)
