"""The index of a part: the rows of one chunk in key order, an Arrow IPC stream of one batch.

Its metadata names the predictions of the same part and holds a checksum, so that a part whose files do not fit together is found.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
from isal import isal_zlib

from shared.index_format import CLICKS, CR, DIGEST, HIGH, KEY, LINE, LOW, FeatureCounts, total
from shared.indexing.index_keys import key_array
from shared.indexing.sorted_rows import SortedRows, in_key_order
from workers.guard.index.feature_counts import count_features
from workers.guard.index.feature_digests import digest_rows
from workers.guard.index.features import Features, feature_values

_PART, _COUNTS, _CHECKSUM = b"part", b"feature_counts", b"crc32"
MAX_LINE = (1 << 32) - 1
"""A larger line number is stored as unknown."""


class BrokenPartIndexError(Exception):
    """Raised when the index of a part is damaged or belongs to other predictions."""


@dataclass(frozen=True, kw_only=True)
class IndexedRows:
    """What an index needs of the scored rows of a chunk, or of a piece of one, besides keys and rates; in the order of the table."""

    digests: np.ndarray
    """uint64 of shape (rows, 2)."""
    lines: np.ndarray
    """int64."""
    clicks: np.ndarray | None
    counts: FeatureCounts

    @staticmethod
    def of(frame: pd.DataFrame, features: Features, lines: np.ndarray, clicks: np.ndarray | None) -> "IndexedRows":
        """Returns them for the rows of a frame of ``workers.tables.rows.Rows``."""
        values = feature_values(frame, features)
        return IndexedRows(digests=digest_rows(values), lines=lines, clicks=clicks, counts=count_features(values))

    @staticmethod
    def merged(pieces: Sequence["IndexedRows"]) -> "IndexedRows":
        """Returns those of all pieces, in their order."""
        has_clicks = any(piece.clicks is not None for piece in pieces)
        return IndexedRows(
            digests=np.concatenate([np.empty((0, 2), dtype=np.uint64), *(piece.digests for piece in pieces)]),
            lines=np.concatenate([np.empty(0, dtype=np.int64), *(piece.lines for piece in pieces)]),
            clicks=np.concatenate([_clicks_of(piece) for piece in pieces]) if has_clicks else None,
            counts=total(piece.counts for piece in pieces),
        )


def _clicks_of(piece: IndexedRows) -> np.ndarray:
    return np.zeros(len(piece.lines)) if piece.clicks is None else piece.clicks


def sorted_rows(
    names: Sequence[str], keys: Sequence[np.ndarray], cr: np.ndarray, bounds: Sequence[np.ndarray], indexed: IndexedRows, file: int
) -> SortedRows:
    """Returns the rows of a chunk in key order; ``names`` and ``keys`` are the key columns."""
    columns: dict[str, pa.Array] = {KEY: key_array(names, keys), CR: pa.array(cr)}
    columns |= {name: pa.array(bound) for name, bound in zip((LOW, HIGH), bounds, strict=False)}
    columns[DIGEST] = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(cr), [None, pa.py_buffer(indexed.digests)])
    if indexed.clicks is not None:
        columns[CLICKS] = pa.array(indexed.clicks)
    columns[LINE] = pa.array(np.where(indexed.lines <= MAX_LINE, indexed.lines, 0).astype(np.uint32))
    batch = in_key_order(pa.RecordBatch.from_arrays([*columns.values()], names=[*columns]))
    return SortedRows(batch=batch, counts=indexed.counts, file=file)


def write_part_index(out: IO[bytes], rows: SortedRows, predictions: str) -> None:
    """Writes the index of a part; ``predictions`` is the SHA-256 of its file of predictions."""
    about = {"rows": rows.batch.num_rows, "file": rows.file, "predictions": predictions}
    metadata = {_PART: json.dumps(about).encode(), _COUNTS: rows.counts.encode()}
    metadata[_CHECKSUM] = b"%d" % _checksum(rows.batch, metadata)
    with pa.ipc.new_stream(out, rows.batch.schema.with_metadata(metadata)) as stream:
        stream.write_batch(rows.batch)


def read_part_index(data: bytes, predictions: str) -> SortedRows:
    """Returns the rows of a part whose predictions have this SHA-256.

    Raises:
        BrokenPartIndexError: the file is damaged, or belongs to other predictions.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as stream:
            metadata: Mapping[bytes, bytes] = stream.schema.metadata or {}
            about = json.loads(metadata[_PART])
            batch = stream.read_next_batch()
            batch.validate()
            rows = SortedRows(batch=batch, counts=FeatureCounts.decode(metadata[_COUNTS]), file=int(about["file"]))
        fits = about["rows"] == batch.num_rows and about["predictions"] == predictions
        fits = fits and int(metadata[_CHECKSUM]) == _checksum(batch, metadata)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise BrokenPartIndexError from error
    if not fits:
        raise BrokenPartIndexError
    return rows


def _checksum(batch: pa.RecordBatch, metadata: Mapping[bytes, bytes]) -> int:
    """Returns the CRC-32 of the metadata, the names and the values of all columns; SHA-256 takes ten times as long."""
    names = json.dumps([(field.name, str(field.type)) for field in batch.schema])
    value: int = isal_zlib.crc32(metadata[_PART] + metadata[_COUNTS] + names.encode())
    for column in batch.columns:
        for buffer in column.buffers()[1:]:
            value = isal_zlib.crc32(buffer, value)
    return value
