"""Metrics of predicted rates, and naive predictors for comparison.

A row with ``clicks`` clicks and ``conversions`` conversions counts as ``clicks`` single clicks in all metrics per click.
Conversions are capped at the clicks. Rows without clicks contain no information on a rate and are left out.
"""

from dataclasses import dataclass

import numpy as np

from shared.errors import ModelError, TableError

SMALLEST_PROBABILITY = 1e-6
"""Predictions are clipped to this distance from 0 and 1 before their logarithm is taken."""

CALIBRATION_BINS = 10


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The metrics of one predictor on one table; smaller errors and losses are better."""

    rows: int
    """Rows with clicks."""
    clicks: float
    rate: float
    """Conversions per click."""
    predicted_rate: float
    """Predicted conversions per click."""
    mse: float
    """Mean over rows of (rate - predicted) squared."""
    mae: float
    """Mean over rows of the absolute difference between rate and prediction."""
    mae_by_click: float
    """The same, each row weighted by its clicks."""
    log_loss_per_click: float
    """Negative log-likelihood in nats of all clicks (binomial), divided by the clicks."""
    calibration_error: float
    """Expected calibration error: rows sorted by their prediction are cut into ten bins of equal clicks (equal predictions stay together);
    the mean over clicks of the absolute difference between a bin's predicted and true conversions per click. Naeini, Cooper and Hauskrecht,
    Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015, with clicks as weights.
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class Observations:
    """The observed clicks and conversions of the rows of a table: arrays of one length."""

    entity_id: np.ndarray
    device: np.ndarray | None
    """Codes: 0 computer, 1 smartphone, 2 tablet; None if the keys have no device."""
    conversions: np.ndarray
    clicks: np.ndarray


def evaluate(conversions: np.ndarray, clicks: np.ndarray, predicted: np.ndarray) -> Metrics:
    """Compares predicted rates with the outcomes; all three arrays have one number per row.

    Raises:
        TableError: there are no rows, or none with clicks.
        ModelError: there is not one finite prediction per row.
    """
    clicks = np.asarray(clicks, dtype=np.float64)
    predicted = np.asarray(predicted, dtype=np.float64)
    if predicted.shape != clicks.shape or not np.isfinite(predicted).all():
        raise ModelError(f"the predictions are not one finite number for each of the {clicks.size} rows")
    used = _rows_with_clicks(clicks)
    n = clicks[used]
    k = np.minimum(np.asarray(conversions, dtype=np.float64)[used], n)
    p = predicted[used]
    off = np.abs(k / n - p)
    return Metrics(
        rows=len(n),
        clicks=float(n.sum()),
        rate=float(k.sum() / n.sum()),
        predicted_rate=float(n @ p / n.sum()),
        mse=float(np.mean(off**2)),
        mae=float(np.mean(off)),
        mae_by_click=float(n @ off / n.sum()),
        log_loss_per_click=float(log_losses(k, n, p).sum() / n.sum()),
        calibration_error=_calibration_error(k, n, p),
    )


def log_losses(conversions: np.ndarray, clicks: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the log-loss of all clicks of each row, in nats; ``log_loss_per_click`` is their sum divided by the clicks.

    Raises:
        ModelError: there is not one finite prediction per row.
    """
    n = np.asarray(clicks, dtype=np.float64)
    p = np.asarray(predicted, dtype=np.float64)
    if p.shape != n.shape or not np.isfinite(p).all():
        raise ModelError(f"the predictions are not one finite number for each of the {n.size} rows")
    k = np.minimum(np.asarray(conversions, dtype=np.float64), n)
    inside = np.clip(p, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return -(k * np.log(inside) + (n - k) * np.log1p(-inside))


def naive_predictors(train: Observations, observed: Observations) -> dict[str, np.ndarray]:
    """Returns the rates that naive predictors, trained on ``train``, predict for each row of ``observed``; only its keys are used.

    A keyword or device that ``train`` does not contain gets the mean of all.

    Raises:
        TableError: ``train`` has no rows, or none with clicks.
    """
    n = np.asarray(train.clicks, dtype=np.float64)
    used = _rows_with_clicks(n)
    n, k = n[used], np.minimum(np.asarray(train.conversions, dtype=np.float64)[used], n[used])
    overall = float(k.sum() / n.sum())
    rows = len(observed.entity_id)
    by_device = {}
    if train.device is not None and observed.device is not None:
        by_device = {"mean of the device": _means_by(train.device[used], k, n, observed.device, overall)}
    return {
        "always zero": np.zeros(rows),
        "mean of all": np.full(rows, overall),
        **by_device,
        "mean of the keyword": _means_by(train.entity_id[used], k, n, observed.entity_id, overall),
    }


def _rows_with_clicks(clicks: np.ndarray) -> np.ndarray:
    if clicks.size == 0:
        raise TableError("there is nothing to evaluate: the table has no rows")
    used = clicks > 0
    if not used.any():
        raise TableError(f"there is nothing to evaluate: none of the {clicks.size} rows has clicks")
    return used


def _means_by(group: np.ndarray, k: np.ndarray, n: np.ndarray, wanted: np.ndarray, otherwise: float) -> np.ndarray:
    known, place = np.unique(group, return_inverse=True)
    means = np.bincount(place, k) / np.bincount(place, n)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, means[at], otherwise)


def calibration_bins(clicks: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Returns the bin of each row, from 0: rows sorted by prediction, in ten bins of equal clicks; equal predictions stay together."""
    _, place = np.unique(predicted, return_inverse=True)
    clicks_at = np.bincount(place, clicks)
    middle = (np.cumsum(clicks_at) - clicks_at / 2) / clicks.sum()
    return (middle * CALIBRATION_BINS).astype(np.int64)[place]


def _calibration_error(k: np.ndarray, n: np.ndarray, p: np.ndarray) -> float:
    surplus = np.bincount(calibration_bins(n, p), k - n * p)
    return float(np.abs(surplus).sum() / n.sum())
