"""Made-up results for the tests of the guard: an index in memory, manifests, and tables of keywords with a model."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from shared.catalog.manifests import KEYS, DeviceSummary, FileDigest, ResultManifest, TableFingerprint
from shared.guard.config import ChannelGuard
from shared.guard.verdict import CheckOutcome, CheckResult, GuardVerdict
from shared.index_format import BATCH_ROWS, CLICKS, CR, DEVICES, DIGEST, KEY, LINE, FeatureCounts, IndexShape, counts_metadata
from shared.prediction_index import PredictionIndex
from workers.guard.comparison import IndexAndManifest
from workers.guard.judging import judge

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ONE, OTHER = "v1@20261101T101500Z-9bfad3", "v1@20261122T101500Z-0a1b2c"


FILES = ("table.csv",)
COLUMNS = ("att1", "att2")


def index(key, cr, *, features=None, clicks=None, ones=None, bins=None, columns=COLUMNS, key_columns=KEYS) -> PredictionIndex:
    """An index of rows in any order. ``features`` are integers that are their own digests; without them the index has no digests."""
    key = np.asarray(key)
    order = np.argsort(key, kind="stable")
    is_whole = key.dtype.kind == "i"
    kinds = tuple((name, "binary") for name in columns)
    shape = IndexShape(
        keys=key_columns,
        has_whole_keys=is_whole,
        features=kinds,
        files=FILES,
        has_digests=features is not None,
        has_clicks=clicks is not None,
    )
    there = {KEY: pa.array(key[order], pa.int64() if is_whole else pa.string()), CR: pa.array(np.asarray(cr, dtype=np.float64)[order])}
    if features is not None:
        words = np.stack([np.asarray(features, dtype=np.uint64)[order]] * 2, axis=1)
        there[DIGEST] = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(key), [None, pa.py_buffer(words)])
    if clicks is not None:
        there[CLICKS] = pa.array(np.asarray(clicks, dtype=np.float64)[order])
    there[LINE] = pa.array(order + 2, pa.uint32())
    return written(shape, there, FeatureCounts(ones=ones or {}, bins=bins or {}))


def written(shape: IndexShape, columns: dict[str, pa.Array], counts: FeatureCounts) -> PredictionIndex:
    schema = shape.schema()
    whole = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
    out = pa.BufferOutputStream()
    with pa.ipc.new_file(out, schema) as file:
        for start in range(0, whole.num_rows // BATCH_ROWS * BATCH_ROWS + 1, BATCH_ROWS):
            part = whole.slice(start, BATCH_ROWS)
            file.write_batch(part, custom_metadata=counts_metadata(counts) if part.num_rows < BATCH_ROWS else None)
    return PredictionIndex(out.getvalue().to_pybytes(), "prediction_index.arrow")


def manifest(rows: int, *, release=ONE, table="a", finished=NOON, clipped=0, devices=DEVICES, job="job-1", keys=KEYS) -> ResultManifest:
    digest = FileDigest(sha256=(table * 64)[:64], size=1)
    return ResultManifest(
        job_id=job,
        release=release,
        release_files={},
        table=TableFingerprint(path="data/predict/input/t", files={"t.csv": digest}, rows=rows, rejected=0),
        rows_in=rows,
        rows_scored=rows,
        rows_rejected=0,
        rows_clipped=clipped,
        devices={name: DeviceSummary(rows=rows, mean_cr=0.05) for name in devices},
        keys=keys,
        text_sha256="0" * 64,
        output=digest,
        rejects=None,
        revision=f"data/predict/output/v1/t/revisions/{job}",
        job_created=finished - timedelta(minutes=1),
        started=finished - timedelta(minutes=1),
        finished=finished,
        chunks=1,
        seconds=1.0,
    )


def result(found: PredictionIndex, **options) -> IndexAndManifest:
    since = options.pop("table_since", None)
    return IndexAndManifest(index=found, manifest=manifest(found.rows, **options), table_since=since)


def keys(keywords: int, devices: int = 3) -> np.ndarray:
    """Keys of keywords 1, 2, ... with all devices."""
    return ((np.arange(1, keywords + 1)[:, None] << 2) | np.arange(devices)).ravel()


def judged(new: IndexAndManifest, base: IndexAndManifest | None, *, days=1.0, config=None, **options) -> GuardVerdict:
    """The verdict about a result of the channel ``live``, some days after the base."""
    return judge(config or ChannelGuard(), channel="live", new=new, base=base, now=NOON + timedelta(days=days), **options)


def outcomes(verdict: GuardVerdict, check: str) -> dict[str, CheckOutcome]:
    """Group -> outcome of one check."""
    return {found.group: found.outcome for found in verdict.checks if found.check == check}


def only(verdict: GuardVerdict, check: str) -> CheckResult:
    """The one result of a check."""
    [found] = [found for found in verdict.checks if found.check == check]
    return found


def exceeded(verdict: GuardVerdict, *kinds: CheckOutcome) -> set[str]:
    """The checks with one of these outcomes, by default those that block."""
    return {found.check.value for found in verdict.checks if found.outcome in (kinds or (CheckOutcome.BLOCK,))}
