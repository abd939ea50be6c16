"""Feature importance of a model: as its definition reports it, or measured by shuffling one column after another."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from model_store.evaluation.metrics import log_losses
from model_store.foreign_code import SoftTimeLimitExceeded
from shared.catalog.manifests import Importance

COLUMNS_KEPT = 20
VALUES_SHUFFLED = 1 << 20
"""Maximum number of values, rows times columns, that are predicted again for each shuffled column."""
FEWEST_ROWS = 500
MOST_SECONDS = 20.0
_SEED = 160


def find_importance(
    model: Any,  # noqa: ANN401 - a definition's own class
    X: pd.DataFrame,
    conversions: np.ndarray,
    clicks: np.ndarray,
) -> Importance | None:
    """Returns the most important columns, by the definition's ``importance()`` if it has one, else by shuffling the columns.

    Returns None if the definition's code fails, or returns anything but a number for each column, because scoring does not need the
    numbers.
    """
    try:
        if hasattr(model, "importance"):
            numbers = {str(name): float(number) for name, number in dict(model.importance()).items()}
            what = str(getattr(model, "IMPORTANCE", "by the definition itself"))
        else:
            numbers = dict(shuffle_columns(model, X, conversions, clicks))
            what = f"log-loss per click that is added when the column is shuffled ({len(numbers)} of {X.shape[1]} columns tried)"
    except SoftTimeLimitExceeded:
        raise
    except Exception:  # noqa: BLE001 - foreign code, and a figure in the report is not worth a failed training
        return None
    if not all(map(np.isfinite, numbers.values())):
        return None
    first = sorted(numbers, key=lambda name: (-abs(numbers[name]), name))[:COLUMNS_KEPT]
    return Importance(what=what, columns={name: numbers[name] for name in first if numbers[name]})


def shuffle_columns(model: Any, X: pd.DataFrame, conversions: np.ndarray, clicks: np.ndarray) -> Mapping[str, float]:  # noqa: ANN401
    """Returns by how much the log-loss per click rises when one column is shuffled: Breiman, Random Forests, Machine Learning 2001.

    It uses a sample of the rows and takes at most ``MOST_SECONDS``; columns that it does not reach are left out.
    """
    random = np.random.default_rng(_SEED)
    count = min(len(X), max(VALUES_SHUFFLED // X.shape[1], FEWEST_ROWS))
    rows = np.sort(random.choice(len(X), count, replace=False))
    X, n = X.iloc[rows], np.asarray(clicks, dtype=np.float64)[rows]
    k = np.minimum(np.asarray(conversions, dtype=np.float64)[rows], n)

    def loss(frame: pd.DataFrame) -> float:
        return float(log_losses(k, n, np.clip(np.asarray(model.predict(frame), dtype=np.float64), 0, 1)).sum() / n.sum())

    whole, order, limit = loss(X), random.permutation(count), time.monotonic() + MOST_SECONDS
    added: dict[str, float] = {}
    for name in X.columns:
        if time.monotonic() > limit:
            break
        added[str(name)] = loss(X.assign(**{name: X[name].to_numpy()[order]})) - whole
    return added
