"""A sketch of the rows that a release was trained on: the smallest of their hashes, in a small file beside the model.

An evaluation table may contain rows that a release has seen in another file, for example as a random sample of the same report. The share
of such rows is estimated from the hashes below the largest of the sketch (a bottom-k sketch: Cohen and Kaplan, Summarizing Data using
Bottom-k Sketches, PODC 2007). Rows without conversions do not count, because most keywords have one click and no purchase every week.
"""

import hashlib
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from shared.bucket.interface import Bucket
from shared.catalog.manifests import TRAINED_ROWS, ReleaseManifest
from shared.catalog.paths import release_folder
from workers.tables.training.table import TrainingTable

SKETCH_ROWS = 4096
FEWEST_MATCHES = 3
"""Fewer common rows may be chance."""

_HASH = "hash"


def sketch(table: TrainingTable) -> bytes:
    """Returns the content of the sketch file, which is the same for the same rows in any order."""
    smallest = np.sort(np.unique(_hashes(table)))[:SKETCH_ROWS]
    out = io.BytesIO()
    pq.write_table(pa.table({_HASH: smallest}), out)
    return out.getvalue()


def share_trained_on(table: TrainingTable, train: TrainingTable) -> float:
    """Returns the share of the converting rows of ``table`` that are rows of ``train``, regardless of their files."""
    return _share(_hashes(table), _hashes(train))


def share_seen_by(bucket: Bucket, release: ReleaseManifest, table: TrainingTable) -> float:
    """Estimates the share of the converting rows that a release was trained on; 0 if it has no readable sketch."""
    content = bucket.read(f"{release_folder(release.release)}/{TRAINED_ROWS}") if TRAINED_ROWS in release.files else None
    if content is None or hashlib.sha256(content).hexdigest() != release.files[TRAINED_ROWS].sha256:
        return 0.0
    try:
        known = pq.read_table(io.BytesIO(content)).column(_HASH).to_numpy()
    except (pa.ArrowException, OSError, KeyError):
        return 0.0
    hashes = _hashes(table)
    if len(known) >= SKETCH_ROWS:
        hashes = hashes[hashes <= known.max()]  # the sketch contains no larger hashes
    return _share(hashes, known)


def _share(hashes: np.ndarray, known: np.ndarray) -> float:
    matches = int(np.isin(hashes, known).sum())
    return matches / len(hashes) if matches >= FEWEST_MATCHES else 0.0


def _hashes(table: TrainingTable) -> np.ndarray:
    """Returns a hash of the keys and counts of each converting row, the same for all file formats and all definitions with these keys."""
    happened = table.observations
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
