"""A sketch of the rows that a release was trained on: the smallest of their hashes, in a small file beside the model.

A table to judge on may hold rows that a release has seen in another file, as a random part of the same report does. The share of such
rows is estimated from the hashes below the largest of the sketch (a bottom-k sketch: Cohen and Kaplan, Summarizing Data using Bottom-k
Sketches, PODC 2007). Rows without conversions say nothing: one click and no purchase is what most keywords have week after week.
"""

import hashlib
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from shared.bucket.interface import Bucket
from shared.catalog.aliases import release_folder
from shared.catalog.manifests import TRAINED_ROWS, ReleaseManifest
from workers.tables.training.table import TrainingTable

SKETCH_ROWS = 4096
FEWEST_MATCHES = 3
"""Fewer rows in common may be chance."""

_HASH = "hash"


def sketch(table: TrainingTable) -> bytes:
    """The content of the file: the same for the same rows, in whatever order."""
    smallest = np.sort(np.unique(_hashes(table)))[:SKETCH_ROWS]
    out = io.BytesIO()
    pq.write_table(pa.table({_HASH: smallest}), out)
    return out.getvalue()


def share_trained_on(table: TrainingTable, train: TrainingTable) -> float:
    """The share of the rows with conversions of one table that are rows of the other, whatever their files are."""
    return _share(_hashes(table), _hashes(train))


def share_seen_by(bucket: Bucket, release: ReleaseManifest, table: TrainingTable) -> float:
    """The estimated share of the rows with conversions that a release was trained on; 0 where it has no sketch that can be read."""
    content = bucket.read(f"{release_folder(release.release)}/{TRAINED_ROWS}") if TRAINED_ROWS in release.files else None
    if content is None or hashlib.sha256(content).hexdigest() != release.files[TRAINED_ROWS].sha256:
        return 0.0
    try:
        known = pq.read_table(io.BytesIO(content)).column(_HASH).to_numpy()
    except (pa.ArrowException, OSError, KeyError):
        return 0.0
    hashes = _hashes(table)
    if len(known) >= SKETCH_ROWS:
        hashes = hashes[hashes <= known.max()]  # of larger ones the sketch knows nothing
    return _share(hashes, known)


def _share(hashes: np.ndarray, known: np.ndarray) -> float:
    matches = int(np.isin(hashes, known).sum())
    return matches / len(hashes) if matches >= FEWEST_MATCHES else 0.0


def _hashes(table: TrainingTable) -> np.ndarray:
    """A hash of the keys and counts of each row with conversions, the same in every file and for every definition with these keys."""
    happened = table.outcomes
    rows = happened.conversions > 0
    device = np.zeros(int(rows.sum()), dtype=np.float64) if happened.device is None else happened.device[rows].astype(np.float64)
    frame = pd.DataFrame(
        {
            "keyword": happened.entity_id[rows],
            "device": device,
            "clicks": happened.clicks[rows].astype(np.float64),
            "conversions": happened.conversions[rows].astype(np.float64),
        }
    )
    return pd.util.hash_pandas_object(frame, index=False).to_numpy()
