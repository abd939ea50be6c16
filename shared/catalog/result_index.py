"""The index of a published result: opened, or built from its predictions if it is missing or damaged."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from isal import igzip

from shared.bucket.interface import Bucket
from shared.catalog.manifests import INDEX, PREDICTIONS, ResultManifest
from shared.errors import UnreadableIndexError
from shared.index_format import CR, DEVICE, ENTITY, HIGH, KEY, LINE, LOW, FeatureCounts, IndexShape, may_be_whole
from shared.indexing.index_files import WrittenIndex, write_index
from shared.indexing.index_keys import key_array
from shared.indexing.sorted_rows import SortedRows, in_key_order
from shared.prediction_index import PredictionIndex, open_index

_BLOCK_BYTES = 4 << 20
"""Bytes of csv text that are parsed together."""


def open_result_index(bucket: Bucket, manifest: ResultManifest) -> PredictionIndex:
    """Opens the index of a result; builds it first, from the predictions, if it is missing or damaged.

    Raises:
        UnreadableIndexError: the predictions are damaged as well.
    """
    path = f"{manifest.revision}/{INDEX}"
    with contextlib.suppress(UnreadableIndexError):
        index = open_index(bucket, path)
        if index.built_from == manifest.text_sha256:
            return index
    with contextlib.suppress(UnreadableIndexError):
        if manifest.index is not None:
            return open_index(bucket, path, manifest.index)
    return build_result_index(bucket, manifest)


def open_whole_index(bucket: Bucket, manifest: ResultManifest) -> PredictionIndex:
    """Opens the index of a result; builds it again if its content is not that of the manifest.

    Raises:
        UnreadableIndexError: the predictions are damaged as well.
    """
    index = open_result_index(bucket, manifest)
    try:
        index.verify()
    except UnreadableIndexError:
        return build_result_index(bucket, manifest)
    return index


def build_result_index(bucket: Bucket, manifest: ResultManifest) -> PredictionIndex:
    """Builds the index of a result from its predictions, in place of the one it has, and opens it.

    Raises:
        UnreadableIndexError: the predictions are damaged as well.
    """
    index_from_csv(bucket, manifest.revision, keys=manifest.keys, interval=manifest.interval, text_sha256=manifest.text_sha256)
    return open_index(bucket, f"{manifest.revision}/{INDEX}")


def index_from_csv(bucket: Bucket, revision: str, *, keys: Sequence[str], interval: bool, text_sha256: str) -> WrittenIndex:
    """Builds the index of a revision from its predictions: keys, rates and bounds, without digests, clicks, files and lines.

    Args:
        bucket: the bucket.
        revision: the folder of the revision.
        keys: the key columns of the result.
        interval: whether the result has an interval.
        text_sha256: the digest of the text of the predictions in the manifest.

    Raises:
        UnreadableIndexError: the predictions are not those of the manifest.
    """
    shape = IndexShape(
        keys=tuple(keys),
        has_whole_keys=may_be_whole(keys),
        has_interval=interval,
        has_digests=False,
        built_from=text_sha256,
    )
    return write_index(bucket, f"{revision}/{INDEX}", shape, _Predictions(bucket=bucket, path=f"{revision}/{PREDICTIONS}", shape=shape))


@dataclass(frozen=True, kw_only=True)
class _Predictions:
    """The rows of a file of predictions, in sorted blocks; each iteration reads the file."""

    bucket: Bucket
    path: str
    shape: IndexShape

    def __iter__(self) -> Iterator[SortedRows]:
        try:
            with self.bucket.open(self.path) as raw, igzip.open(raw) as text:
                hashed = _HashedReader(text)
                for batch in self._batches(hashed):
                    yield SortedRows(batch=self._sorted(batch), counts=FeatureCounts())
                while hashed.read(_BLOCK_BYTES):
                    pass
        except (pa.ArrowException, EOFError, ValueError, KeyError, igzip.BadGzipFile) as error:
            raise UnreadableIndexError(f"{self.path} cannot be read: {error}") from error
        if hashed.hexdigest() != self.shape.built_from:
            raise UnreadableIndexError(f"{self.path} is not the file of the manifest: its text has another SHA-256")

    def _batches(self, text: "_HashedReader") -> Iterator[pa.RecordBatch]:
        types = {name: pa.int64() if name in (ENTITY, DEVICE) else pa.string() for name in self.shape.keys}
        types |= dict.fromkeys((CR, LOW, HIGH), pa.float64())
        yield from pa_csv.open_csv(
            text,
            read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
            convert_options=pa_csv.ConvertOptions(column_types=types),
        )

    def _sorted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        keys = [batch.column(name).to_numpy(zero_copy_only=False) for name in self.shape.keys]
        columns = {KEY: key_array(self.shape.keys, keys)}
        columns |= {name: batch.column(name) for name in (CR, LOW, HIGH) if name in batch.schema.names}
        columns[LINE] = pa.array(np.zeros(batch.num_rows, dtype=np.uint32))
        return in_key_order(pa.RecordBatch.from_arrays([*columns.values()], names=[*columns]))


class _HashedReader:
    """A text for Arrow to read, which computes the digest of what is read."""

    closed = False

    def __init__(self, text: IO[bytes]) -> None:
        self._text, self._sha256 = text, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._text.read(size)
        self._sha256.update(data)
        return data

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()
