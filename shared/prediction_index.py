"""Reads prediction indexes: the rows of a result in key order, and lookups of single keys.

The format is in ``shared.index_format``. An index is read through a memory map, so opening one reads next to nothing, and a pass over all
rows takes the memory of one slice.
"""

import bisect
import contextlib
import functools
import hashlib
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from shared.bucket.interface import Bucket
from shared.bucket.mapping import map_file
from shared.errors import UnreadableIndexError
from shared.index_format import BATCH_ROWS, CLICKS, CR, DIGEST, FILE, HIGH, KEY, LINE, LOW, FeatureCounts, IndexShape, counts_of, index_key
from shared.records import FileDigest

HELD_BYTES = 32 << 20
"""Bytes of the memory map that a pass over all rows leaves in memory before it lets go of them."""

Key = int | str

_DAMAGED = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError)


@dataclass(frozen=True, kw_only=True)
class IndexRows:
    """A run of rows in key order; rows with the same key are in the order of the table."""

    key: np.ndarray
    """int64, or objects (str) if the keys are text; ``shared.index_format.index_key`` defines both forms."""
    cr: np.ndarray
    """float64."""
    bounds: list[np.ndarray]
    """Lower and upper bound of each rate, float64; empty without an interval."""
    digest: np.ndarray
    """uint64 of shape (rows, 2): the digest of the parsed features; zeros if the index has none."""
    clicks: np.ndarray | None
    """float64, or None if no file of the table has the column; 0 in a row without a valid number."""
    file: np.ndarray
    """int32, the position in ``PredictionIndex.files``."""
    line: np.ndarray
    """int64, from 1; -1 if unknown."""

    def __len__(self) -> int:
        return len(self.cr)


class PredictionIndex:
    """An index opened for reading.

    Args:
        data: the file, as a memory map or as bytes.
        name: the name of the file, for messages.
        expected: its digest in the manifest of the result; ``verify`` also compares the content.

    Raises:
        UnreadableIndexError: the file is not an index, or has another length than ``expected``.
    """

    def __init__(self, data: mmap.mmap | bytes, name: str, expected: FileDigest | None = None) -> None:
        self._data, self._name, self._expected = data, name, expected
        if expected is not None and len(data) != expected.size:
            raise self._unreadable(f"it has {len(data):,} bytes, not the {expected.size:,} of the manifest")
        with self._damage_errors():
            self._file = pa.ipc.open_file(pa.py_buffer(data))
            self._shape = IndexShape.of(self._file.schema)
            last = self._file.get_batch_with_custom_metadata(self._file.num_record_batches - 1)
            self.feature_counts: FeatureCounts = counts_of(last.custom_metadata)
        self.rows: int = (self._file.num_record_batches - 1) * BATCH_ROWS + last.batch.num_rows

    @property
    def shape(self) -> IndexShape:
        """What the index holds."""
        return self._shape

    @property
    def files(self) -> list[str]:
        """The files of the table; empty if they are unknown."""
        return [*self._shape.files]

    @property
    def keys(self) -> tuple[str, ...]:
        """The key columns of the result."""
        return self._shape.keys

    @property
    def has_whole_keys(self) -> bool:
        """True if a key is ``entity_id << 2 | device``, False if it is text."""
        return self._shape.has_whole_keys

    @property
    def has_digests(self) -> bool:
        """False if the index was built from a result alone: then its digests are zeros and it counts no features."""
        return self._shape.has_digests

    @property
    def built_from(self) -> str:
        """The SHA-256 of the text of the predictions that the index was built from later; empty if it was written with them."""
        return self._shape.built_from

    @property
    def columns(self) -> list[str]:
        """The names of the features, in the order of the digest."""
        return [name for name, _ in self.features]

    @property
    def features(self) -> tuple[tuple[str, str], ...]:
        """Name and type of each feature, in the order of the digest."""
        return self._shape.features

    def key_of(self, values: Sequence[int | str]) -> Key:
        """Returns the key of the row with these values of the key columns."""
        return index_key(self.keys, values, whole=self.has_whole_keys)

    def slices(self, rows_at_once: int = BATCH_ROWS) -> Iterator[IndexRows]:
        """Yields all rows in key order, with bounded memory."""
        held = 0
        for start in range(0, self.rows, rows_at_once):
            yield (rows := self.at(start, min(start + rows_at_once, self.rows)))
            held += sum(column.nbytes for column in (rows.key, rows.cr, rows.digest, *rows.bounds))
            if held > HELD_BYTES:
                held = 0
                self._let_go()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields all rows in key order as Arrow batches, with bounded memory."""
        for number in range(self._file.num_record_batches):
            yield self._batch(number)
            self._let_go()

    def mapped(self) -> Iterator[tuple[Sequence[Key], np.ndarray, list[np.ndarray]]]:
        """Yields keys, rates and bounds of each batch as they are in the memory map, to be kept for many lookups; nothing is copied."""
        for number in range(self._file.num_record_batches):
            batch = self._batch(number)
            if batch.num_rows:
                there = dict(zip(batch.schema.names, batch.columns, strict=True))
                keys = there[KEY].to_numpy().data if self.has_whole_keys else _Texts(there[KEY])
                yield keys, there[CR].to_numpy(), [there[name].to_numpy() for name in (LOW, HIGH) if name in there]

    def between(self, low: Key | None, high: Key | None) -> IndexRows:
        """Returns the rows with ``low <= key < high``; None is an open end."""
        start = 0 if low is None else self._position(low)
        return self.at(start, max(start, self.rows if high is None else self._position(high)))

    def find(self, key: Key) -> list[int]:
        """Returns the positions of the rows with this key, in the order of the table."""
        return [*range(self._position(key), self._position(key, after=True))]

    def lookup(self, key: Key) -> IndexRows:
        """Returns the rows with this key, in the order of the table."""
        return self.at(self._position(key), self._position(key, after=True))

    def at(self, start: int, end: int) -> IndexRows:
        """Returns the rows at the positions ``start`` to ``end`` (exclusive)."""
        numbers = range(start // BATCH_ROWS, max(start, end - 1) // BATCH_ROWS + 1) if start < end else range(1)
        pieces = [self._batch(number) for number in numbers]
        offset = numbers.start * BATCH_ROWS
        if len(pieces) == 1:
            return self._rows(pieces[0].slice(start - offset, end - start))
        table = pa.Table.from_batches(pieces).slice(start - offset, end - start)
        return self._rows(table.combine_chunks().to_batches()[0])

    def verify(self) -> None:
        """Reads the whole file; raises UnreadableIndexError if its SHA-256 is not that of the manifest."""
        if self._expected is None:
            return
        digest, data = hashlib.sha256(), memoryview(self._data)
        for start in range(0, len(data), HELD_BYTES):
            digest.update(data[start : start + HELD_BYTES])
            self._let_go()
        if digest.hexdigest() != self._expected.sha256:
            raise self._unreadable("its SHA-256 is not that of the manifest")

    def _position(self, key: Key, *, after: bool = False) -> int:
        """Returns the first position with a key that is not below ``key``; with ``after``, with one that is above it."""
        if isinstance(key, str) is self.has_whole_keys:
            return 0 if self.has_whole_keys else self.rows  # a key of the other form is in no row
        search = bisect.bisect_right if after else bisect.bisect_left
        number = max(search(self._first_keys, key) - 1, 0)
        return number * BATCH_ROWS + search(self._keys(number), key)

    @functools.cached_property
    def _first_keys(self) -> list[Key]:
        return [self._keys(number)[0] for number in range(self._file.num_record_batches) if number * BATCH_ROWS < self.rows]

    @functools.lru_cache(maxsize=8)  # noqa: B019 - an index is opened for one piece of work
    def _keys(self, number: int) -> Sequence[Key]:
        column = self._batch(number).column(KEY)
        return column.to_numpy() if self.has_whole_keys else _Texts(column)

    def _batch(self, number: int) -> pa.RecordBatch:
        with self._damage_errors():
            batch = self._file.get_batch(number)
            batch.validate(full=not self.has_whole_keys)  # wrong offsets of texts would lead out of the file
            if any(column.null_count for column in batch.columns):
                raise ValueError("a value is missing")
        wanted = min(BATCH_ROWS, self.rows - number * BATCH_ROWS)
        if batch.num_rows != wanted:
            raise self._unreadable(f"its batch {number} has {batch.num_rows:,} rows, not {wanted:,}")
        return batch

    def _rows(self, batch: pa.RecordBatch) -> IndexRows:
        count = batch.num_rows
        there = dict(zip(batch.schema.names, batch.columns, strict=True))
        line = there[LINE].to_numpy().astype(np.int64)
        return IndexRows(
            key=there[KEY].to_numpy(zero_copy_only=self.has_whole_keys),
            cr=there[CR].to_numpy(),
            bounds=[there[name].to_numpy() for name in (LOW, HIGH) if name in there],
            digest=_digests(there[DIGEST]) if DIGEST in there else np.zeros((count, 2), dtype=np.uint64),
            clicks=there[CLICKS].to_numpy() if CLICKS in there else None,
            file=there[FILE].to_numpy() if FILE in there else np.zeros(count, dtype=np.int32),
            line=np.where(line == 0, -1, line),
        )

    def _let_go(self) -> None:
        """Lets the system take back the memory of the map, which would otherwise count as this process's."""
        if isinstance(self._data, mmap.mmap):
            self._data.madvise(mmap.MADV_DONTNEED)

    @contextlib.contextmanager
    def _damage_errors(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGED as error:
            raise self._unreadable(f"it is damaged or not an index ({type(error).__name__})") from error

    def _unreadable(self, why: str) -> UnreadableIndexError:
        return UnreadableIndexError(f"{self._name} cannot be read: {why}")


class _Texts(Sequence[str]):
    """The texts of an Arrow array, converted one by one."""

    def __init__(self, array: pa.StringArray) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, place: int) -> str:  # type: ignore[override]  # no slices
        return self._array[place].as_py()


def _digests(column: pa.FixedSizeBinaryArray) -> np.ndarray:
    words = np.frombuffer(column.buffers()[1], dtype="<u8")
    return words.reshape(-1, 2)[column.offset : column.offset + len(column)]


def open_index(bucket: Bucket, path: str, expected: FileDigest | None = None) -> PredictionIndex:
    """Opens an index in a bucket by memory map; one on an object store is first copied to a temporary file without a name.

    Raises:
        UnreadableIndexError: the file is missing or not an index, or has another length than ``expected``.
    """
    if not bucket.exists(path):
        raise UnreadableIndexError(f"{path} is not there")
    with bucket.open(path) as raw:
        return PredictionIndex(map_file(raw), path, expected)


def open_file(path: Path, expected: FileDigest | None = None) -> PredictionIndex:
    """Opens an index at a local path by memory map; raises UnreadableIndexError as ``open_index`` does."""
    with path.open("rb") as raw:
        return PredictionIndex(map_file(raw), str(path), expected)
