"""Compares a release with other predictors on the same rows: by device, clicks and history, with intervals.

All figures are per click, as in ``metrics``. Rows without clicks are removed first.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from model_store.evaluation.metrics import CALIBRATION_BINS, Observations, calibration_bins, evaluate, log_losses
from shared.catalog import bootstrap
from shared.catalog.keyword_losses import KeywordLosses
from shared.catalog.manifests import CalibrationBin, Estimate, SliceFigures, TableSummary

DEVICES = ("Computer", "Smartphone", "Tablet")
CLICK_BINS = (("1", 1), ("2 to 3", 2), ("4 to 9", 4), ("10 to 29", 10), ("30 to 99", 30), ("100 and more", 100))
"""Name and minimum clicks of each bin of rows."""

GAIN_SHARES = np.linspace(0, 1, 21)

RatioKey = tuple[str, str]
"""A difference and the other predictor, the calibration and its bin, or a kind of slices and the slice."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionComparison:
    """The comparison of several predictors on the rows of one table."""

    differences: dict[str, Estimate]
    slices: dict[str, dict[str, SliceFigures]]
    calibration: list[CalibrationBin]
    gains: dict[str, list[float]]
    losses: KeywordLosses


def compare_predictions(
    own: str, predicted: Mapping[str, np.ndarray], observed: Observations, train: Observations, confidence: float = bootstrap.CONFIDENCE
) -> PredictionComparison:
    """Compares the predictor ``own`` with all others in ``predicted`` (predictor -> one rate per row).

    Slices and gains are computed only for releases and definitions, not for the naive predictors.

    Raises:
        TableError: no row has clicks.
        ModelError: a predictor does not have one finite rate per row.
    """
    used = np.flatnonzero(observed.clicks > 0)
    observed = rows_of(observed, used)
    rates = {name: np.asarray(of_all, dtype=np.float64)[used] for name, of_all in predicted.items()}
    n = observed.clicks
    k = np.minimum(observed.conversions, n)
    losses = {name: log_losses(k, n, p) for name, p in rates.items()}
    others = [name for name in rates if name != own]
    bins = calibration_bins(n, rates[own])
    filled = [number for number in range(CALIBRATION_BINS) if (bins == number).any()]
    slices = _slices(observed, train)

    # generators, so that only one pair of arrays by row is in memory at a time
    differences = ((("difference", name), (losses[own] - losses[name], n)) for name in others)
    calibration = ((("calibration", str(place)), (np.where(bins == place, k, 0), np.where(bins == place, n, 0))) for place in filled)
    residuals = (
        ((kind, name), (np.where(rows, n * rates[own] - k, 0), np.where(rows, n, 0)))
        for kind, of_kind in slices.items()
        for name, rows in of_kind.items()
    )
    number, keywords = bootstrap.number_keywords(observed.entity_id)
    estimates = _estimates(number, keywords, itertools.chain(differences, calibration, residuals), confidence)

    models = [own, *(name for name in others if "@" in name)]
    rates_of_models = {name: rates[name] for name in models}
    return PredictionComparison(
        differences={name: estimates["difference", name] for name in others},
        slices={
            kind: {name: _figures(rows, k, observed, rates_of_models, estimates[kind, name]) for name, rows in of_kind.items()}
            for kind, of_kind in slices.items()
        },
        calibration=[_calibration_bin(bins == place, n, rates[own], estimates["calibration", str(place)]) for place in filled],
        gains={name: share_of_conversions(k, n, rates[name]) for name in models} if k.any() else {},
        losses=KeywordLosses(
            keyword=_storable(np.unique(observed.entity_id)),
            clicks=np.bincount(number, n),
            losses={name: np.bincount(number, losses[name]) for name in models},
        ),
    )


def rows_of(observations: Observations, rows: np.ndarray) -> Observations:
    """Returns the outcomes of some rows."""
    return Observations(
        entity_id=observations.entity_id[rows],
        device=None if observations.device is None else observations.device[rows],
        conversions=np.asarray(observations.conversions, dtype=np.float64)[rows],
        clicks=np.asarray(observations.clicks, dtype=np.float64)[rows],
    )


def summarise(observed: Observations, train: Observations) -> TableSummary:
    """Summarizes a table, with the share of keywords that the training table does not contain."""
    cold = ~np.isin(observed.entity_id, train.entity_id)
    clicks = np.asarray(observed.clicks, dtype=np.float64)
    return TableSummary(
        rows=len(clicks),
        keywords=len(np.unique(observed.entity_id)),
        clicks=float(clicks.sum()),
        conversions=float(np.minimum(observed.conversions, clicks).sum()),
        device_clicks={name: float(clicks[rows].sum()) for name, rows in _by_device(observed).items()},
        cold_keywords=len(np.unique(observed.entity_id[cold])),
        cold_clicks=float(clicks[cold].sum()),
    )


def share_of_conversions(conversions: np.ndarray, clicks: np.ndarray, predicted: np.ndarray) -> list[float]:
    """Returns the share of the conversions in the 0, 5, ..., 100 % of clicks with the highest predictions; ties share evenly."""
    _, place = np.unique(-predicted, return_inverse=True)
    bought = np.concatenate([[0], np.cumsum(np.bincount(place, conversions))])
    clicked = np.concatenate([[0], np.cumsum(np.bincount(place, clicks))])
    return [float(share) for share in np.interp(GAIN_SHARES * clicked[-1], clicked, bought / bought[-1])]


def _by_device(observed: Observations) -> dict[str, np.ndarray]:
    """Maps each device to its rows; empty if the keys have no device."""
    return {} if observed.device is None else {name: observed.device == code for code, name in enumerate(DEVICES)}


def _slices(observed: Observations, train: Observations) -> dict[str, dict[str, np.ndarray]]:
    """Maps kinds of slices to slices to their rows; slices without rows and kinds without slices are left out."""
    volume = np.searchsorted([fewest for _, fewest in CLICK_BINS], observed.clicks, side="right") - 1
    cold = ~np.isin(observed.entity_id, train.entity_id)
    kinds = {
        "device": _by_device(observed),
        # clicks below 1, of a table with weights, count as the lowest bin
        "clicks": {name: np.maximum(volume, 0) == place for place, (name, _) in enumerate(CLICK_BINS)},
        "history": {"known keywords": ~cold, "cold keywords": cold},
    }
    return {kind: {name: rows for name, rows in of_kind.items() if rows.any()} for kind, of_kind in kinds.items() if of_kind}


def _estimates(
    number: np.ndarray, keywords: int, ratios: Iterable[tuple[RatioKey, tuple[np.ndarray, np.ndarray]]], confidence: float
) -> dict[RatioKey, Estimate]:
    """Returns the estimate of each ratio, given as its key, and its numerators and denominators by row."""
    sums = {key: bootstrap.sums_by_keyword(number, keywords, ratio) for key, ratio in ratios}
    stacked = np.stack(list(sums.values()))
    numerators, denominators = stacked[:, :, 0].T, stacked[:, :, 1].T
    values = numerators.sum(axis=0) / denominators.sum(axis=0)
    ends = bootstrap.intervals(numerators, denominators, confidence)
    return {
        key: Estimate(value=float(value), low=None if np.isnan(low) else float(low), high=None if np.isnan(high) else float(high))
        for key, value, (low, high) in zip(sums, values, ends, strict=True)
    }


def _calibration_bin(rows: np.ndarray, n: np.ndarray, predicted: np.ndarray, happened: Estimate) -> CalibrationBin:
    clicks = n[rows].sum()
    return CalibrationBin(clicks=float(clicks), predicted=float(n[rows] @ predicted[rows] / clicks), happened=happened)


def _figures(rows: np.ndarray, k: np.ndarray, observed: Observations, rates: dict[str, np.ndarray], residual: Estimate) -> SliceFigures:
    return SliceFigures(
        rows=int(rows.sum()),
        keywords=len(np.unique(observed.entity_id[rows])),
        clicks=float(observed.clicks[rows].sum()),
        metrics={name: asdict(evaluate(k[rows], observed.clicks[rows], of_all[rows])) for name, of_all in rates.items()},
        residual=residual,
    )


def _storable(keyword: np.ndarray) -> np.ndarray:
    return keyword if keyword.dtype.kind in "iuf" else keyword.astype(str).astype(object)
