"""Merges the sorted rows of parts into the rows of an index, in key order and with bounded memory.

In most tables the rows are in key order already, so that the parts follow one another: ``appended``. Other parts are merged by ranges of
keys, each of which fits into memory: ``merged_by_ranges``.
"""

import bisect
import itertools
import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shared.index_format import KEY, IndexShape
from shared.indexing.sorted_rows import in_key_order

RANGE_ROWS = 1 << 18
"""Rows that are sorted together, about: as many as 20 MB of whole keys with their values."""
SAMPLE_STEP = 256
"""One of this many keys of each part is kept in memory, to choose the ranges."""


class OverlapError(Exception):
    """Raised by ``appended`` when a part starts with a key below the last one of the part before."""


def appended(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yields sorted batches that follow one another.

    Raises:
        OverlapError: they do not.
    """
    last = None
    for batch in batches:
        if not batch.num_rows:
            continue
        keys = batch.column(KEY)
        if last is not None and keys[0].as_py() < last:
            raise OverlapError
        last = keys[-1].as_py()
        yield batch


def merged_by_ranges(batches: Iterable[pa.RecordBatch], shape: IndexShape) -> Iterator[pa.RecordBatch]:
    """Yields the rows of sorted batches in key order, those with the same key in the order of the batches.

    The batches are collected in a temporary file without a name, which takes as much space as the index.
    """
    with tempfile.TemporaryFile() as spool:
        samples = _collect(batches, shape.schema(), spool)
        if samples is None:
            return
        # not closed here: what was yielded refers to it
        yield from _ranges(mmap.mmap(spool.fileno(), 0, access=mmap.ACCESS_READ), samples)


def _collect(batches: Iterable[pa.RecordBatch], schema: pa.Schema, spool: IO[bytes]) -> pa.Array | None:
    """Writes the batches to a file; returns a sorted sample of their keys, or None if they hold no rows."""
    samples: list[pa.Array] = []
    with pa.ipc.new_file(spool, schema) as out:
        for batch in batches:
            if batch.num_rows:
                out.write_batch(batch)
                samples.append(batch.column(KEY).take(pa.array(np.arange(0, batch.num_rows, SAMPLE_STEP))))
    spool.flush()
    if not samples:
        return None
    keys = pa.concat_arrays(samples)
    return keys.take(pc.array_sort_indices(keys))


class _Cut(NamedTuple):
    """A place in the order of all keys: before the rows with this key, or after them."""

    key: int | str
    is_after: bool


def _cuts(samples: pa.Array) -> list[_Cut]:
    """Returns where to cut the rows into ranges. A key that alone fills a range gets one of its own."""
    chosen = samples.take(pa.array(np.arange(0, len(samples), max(RANGE_ROWS // SAMPLE_STEP, 1)))).to_pylist()[1:]
    cuts: list[_Cut] = []
    for key, same in itertools.groupby(chosen):
        cuts.append(_Cut(key, is_after=False))
        if len(list(same)) > 1:
            cuts.append(_Cut(key, is_after=True))
    return cuts


def _ranges(mapped: mmap.mmap, samples: pa.Array) -> Iterator[pa.RecordBatch]:
    file = pa.ipc.open_file(pa.py_buffer(mapped))
    count = file.num_record_batches
    starts = [0] * count
    for cut in [*_cuts(samples), None]:
        pieces = []
        for number in range(count):
            batch = file.get_batch(number)
            end = batch.num_rows if cut is None else _position(batch.column(KEY), cut)
            pieces.append(batch.slice(starts[number], end - starts[number]))
            starts[number] = end
        yield from _in_order([piece for piece in pieces if piece.num_rows])
        mapped.madvise(mmap.MADV_DONTNEED)


def _position(keys: pa.Array, cut: _Cut) -> int:
    search = bisect.bisect_right if cut.is_after else bisect.bisect_left
    return search(range(len(keys)), cut.key, key=lambda place: keys[place].as_py())


def _in_order(pieces: Sequence[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a range; those of a single key are in order already, however many they are."""
    if not pieces:
        return
    if min(piece.column(KEY)[0].as_py() for piece in pieces) == max(piece.column(KEY)[-1].as_py() for piece in pieces):
        yield from pieces
        return
    yield in_key_order(pa.Table.from_batches(pieces).combine_chunks().to_batches()[0])
