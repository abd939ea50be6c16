"""Which columns a model's predictions rest on: as the definition says, or measured by shuffling one column after another."""

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
"""Rows times columns that are predicted anew at most."""
FEWEST_ROWS = 500
MOST_SECONDS = 20.0
_SEED = 160


def find_importance(
    model: Any,  # noqa: ANN401 - a definition's own class
    X: pd.DataFrame,
    conversions: np.ndarray,
    clicks: np.ndarray,
) -> Importance | None:
    """The columns that matter most, by what the definition's ``importance()`` says; else by how much worse it gets without them.

    None where a definition's own code fails, or gives something else than a number for each column: nobody scores with these figures.
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
    except Exception:  # noqa: BLE001 - foreign code, and a picture in the report is not worth a failed training
        return None
    if not all(map(np.isfinite, numbers.values())):
        return None
    first = sorted(numbers, key=lambda name: (-abs(numbers[name]), name))[:COLUMNS_KEPT]
    return Importance(what=what, columns={name: numbers[name] for name in first if numbers[name]})


def shuffle_columns(model: Any, X: pd.DataFrame, conversions: np.ndarray, clicks: np.ndarray) -> Mapping[str, float]:  # noqa: ANN401
    """How much the log-loss per click rises when one column is shuffled: Breiman, Random Forests, Machine Learning 2001.

    On a sample of the rows, for at most ``MOST_SECONDS``; columns that are not reached by then are left out.
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
