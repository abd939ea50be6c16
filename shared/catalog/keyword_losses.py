"""The losses of each keyword of an evaluation table by predictor: a small Parquet file in a release, used to compare two releases.

The interval of a difference needs the rows of both releases side by side. Their sums by keyword are enough, because whole keywords are
resampled, and they stay available when the table is gone or the code of a definition has changed.
"""

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shared.catalog import bootstrap
from shared.errors import ModelError

KEYWORD, CLICKS = "keyword", "clicks"


@dataclass(frozen=True, kw_only=True, eq=False)
class Difference:
    """The log-loss per click of one predictor minus that of another on the same rows; below 0 the first is better."""

    value: float
    low: float
    high: float
    keywords: int
    clicks: float


@dataclass(frozen=True, kw_only=True, eq=False)
class KeywordLosses:
    """The clicks of each keyword and their log-loss by each predictor: arrays of one length."""

    keyword: np.ndarray
    clicks: np.ndarray
    losses: dict[str, np.ndarray]
    """Id of a release -> log-loss."""

    def to_parquet(self) -> bytes:
        """The content of the file; equal losses give equal bytes."""
        columns = {KEYWORD: self.keyword, CLICKS: self.clicks, **self.losses}
        out = io.BytesIO()
        pq.write_table(pa.table(columns), out, compression="zstd")
        return out.getvalue()


def spoken_difference(value: float) -> str:
    """A difference of two losses in words (lower is better): ``0.00174 lower``."""
    return f"{abs(value):.5f} {'lower' if value < 0 else 'higher'}"


def read_losses(content: bytes, path: str) -> KeywordLosses:
    """Reads the file; raises ModelError when it does not hold keyword losses."""
    try:
        table = pq.read_table(io.BytesIO(content))
        columns = {name: table.column(name).to_numpy() for name in table.column_names}
        keyword, clicks = columns.pop(KEYWORD), columns.pop(CLICKS)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ModelError(f"{path} does not hold the losses of keywords: {error}") from error
    return KeywordLosses(keyword=keyword, clicks=clicks, losses=columns)


def compare(one: KeywordLosses, name: str, other: KeywordLosses, other_name: str, confidence: float) -> Difference:
    """The difference of two predictors with its interval.

    Raises:
        ModelError: the predictors were not judged on the same rows.
    """
    if not np.array_equal(one.keyword, other.keyword) or not np.array_equal(one.clicks, other.clicks):
        raise ModelError(f"{name} and {other_name} were judged on the same table, but not on the same rows of it")
    excess = (one.losses[name] - other.losses[other_name])[:, None]
    [[low, high]] = bootstrap.intervals(excess, one.clicks[:, None], confidence)
    total = float(one.clicks.sum())
    return Difference(value=float(excess.sum()) / total, low=float(low), high=float(high), keywords=len(one.keyword), clicks=total)
