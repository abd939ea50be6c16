"""Made-up results for the tests of the guard: an index in memory, manifests, and tables of keywords with a model."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from shared.catalog.manifests import DeviceSummary, FileDigest, ResultManifest, TableFingerprint
from workers.guard.indexes import IndexAndManifest
from workers.tables.schema import DEVICES

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ONE, OTHER = "v1@20261101T101500Z-9bfad3", "v1@20261122T101500Z-0a1b2c"


@dataclass(frozen=True, kw_only=True)
class Rows:
    key: np.ndarray
    cr: np.ndarray
    bounds: list[np.ndarray] = field(default_factory=list)
    digest: np.ndarray | None
    clicks: np.ndarray | None
    file: np.ndarray | None
    line: np.ndarray | None


@dataclass
class Index:
    """An index in memory, sorted by key."""

    everything: Rows
    files: list[str] = field(default_factory=lambda: ["table.csv"])
    has_whole_keys: bool = True
    columns: list[str] = field(default_factory=lambda: ["att1", "att2"])
    feature_counts: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return len(self.everything.key)

    def slices(self, rows_at_once: int = 1 << 16) -> Iterator[Rows]:
        for start in range(0, self.rows, rows_at_once):
            columns = {name: c for name, c in vars(self.everything).items() if name != "bounds"}
            part = {name: None if c is None else c[start : start + rows_at_once] for name, c in columns.items()}
            yield Rows(**part)


def index(key, cr, *, features=None, clicks=None, counts=None, columns=("att1", "att2"), whole_keys=True) -> Index:
    """An index of rows in any order; ``features`` are integers whose digests are themselves."""
    key, cr = np.asarray(key), np.asarray(cr, dtype=np.float64)
    order = np.argsort(key, kind="stable")
    digest = None
    if features is not None:
        digest = np.stack([np.asarray(features, dtype=np.uint64)] * 2, axis=1)[order]
    return Index(
        Rows(
            key=key[order],
            cr=cr[order],
            digest=digest,
            clicks=None if clicks is None else np.asarray(clicks, dtype=np.float64)[order],
            file=np.zeros(len(key), dtype=np.int32),
            line=order.astype(np.int64) + 2,
        ),
        has_whole_keys=whole_keys,
        columns=list(columns),
        feature_counts=counts or {},
    )


def manifest(rows: int, *, release=ONE, table="a", finished=NOON, clipped=0, devices=DEVICES, job="job-1") -> ResultManifest:
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


def result(found: Index, **options) -> IndexAndManifest:
    since = options.pop("table_since", None)
    return IndexAndManifest(index=found, manifest=manifest(found.rows, **options), table_since=since)


def keys(keywords: int, devices: int = 3) -> np.ndarray:
    """Keys of keywords 1, 2, ... with all devices."""
    return ((np.arange(1, keywords + 1)[:, None] << 2) | np.arange(devices)).ravel()


def with_rates(old: Index, cr: np.ndarray) -> Index:
    """The same rows with other rates."""
    return replace(old, everything=replace(old.everything, cr=np.asarray(cr, dtype=np.float64)))
