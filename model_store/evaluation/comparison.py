"""Compares a release with other predictors on the same rows: by device, clicks and history, with intervals.

All figures are per click, as in ``metrics``. Rows without clicks are removed first.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from model_store.evaluation.metrics import CALIBRATION_BINS, Outcomes, calibration_bins, evaluate, log_losses
from shared.catalog import bootstrap
from shared.catalog.keyword_losses import KeywordLosses
from shared.catalog.manifests import CalibrationBin, Estimate, SliceFigures, TableSummary

DEVICES = ("Computer", "Smartphone", "Tablet")
CLICK_BINS = (("1", 1), ("2 to 3", 2), ("4 to 9", 4), ("10 to 29", 10), ("30 to 99", 30), ("100 and more", 100))
"""Name and minimum clicks of each bin of rows."""

GAIN_SHARES = np.linspace(0, 1, 21)


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedPredictions:
    """The comparison of several predictors on the rows of one table."""

    differences: dict[str, Estimate]
    slices: dict[str, dict[str, SliceFigures]]
    calibration: list[CalibrationBin]
    gains: dict[str, list[float]]
    losses: KeywordLosses


def judge_predictions(
    own: str, predicted: Mapping[str, np.ndarray], table: Outcomes, train: Outcomes, confidence: float = bootstrap.CONFIDENCE
) -> JudgedPredictions:
    """Compares the predictor ``own`` with all others in ``predicted`` (predictor -> one rate per row).

    Slices and gains are computed only for releases and definitions, not for the naive predictors.

    Raises:
        TableError: no row has clicks.
        ModelError: a predictor does not have one finite rate per row.
    """
    used = np.flatnonzero(table.clicks > 0)
    table = rows_of(table, used)
    rates = {name: np.asarray(of_all, dtype=np.float64)[used] for name, of_all in predicted.items()}
    n = table.clicks
    k = np.minimum(table.conversions, n)
    losses = {name: log_losses(k, n, p) for name, p in rates.items()}
    others = [name for name in rates if name != own]
    bins = calibration_bins(n, rates[own])
    filled = [number for number in range(CALIBRATION_BINS) if (bins == number).any()]
    slices = _slices(table, train)

    # every ratio of the report as numerator and denominator by row; a generator, so that only one pair of rows is in memory at a time
    ratios = itertools.chain(
        ((losses[own] - losses[name], n) for name in others),
        ((np.where(bins == number, k, 0), np.where(bins == number, n, 0)) for number in filled),
        ((np.where(rows, n * rates[own] - k, 0), np.where(rows, n, 0)) for kind in slices.values() for rows in kind.values()),
    )
    number, keywords = bootstrap.number_keywords(table.entity_id)
    estimates = iter(_estimates(number, keywords, ratios, confidence))

    differences = {name: next(estimates) for name in others}
    calibration = [
        CalibrationBin(clicks=float(n[rows].sum()), predicted=float(n[rows] @ rates[own][rows] / n[rows].sum()), happened=next(estimates))
        for rows in (bins == number for number in filled)
    ]
    models = [own, *(name for name in others if "@" in name)]
    figures = {
        kind: {name: _figures(rows, k, table, {name: rates[name] for name in models}, next(estimates)) for name, rows in of_kind.items()}
        for kind, of_kind in slices.items()
    }
    return JudgedPredictions(
        differences=differences,
        slices=figures,
        calibration=calibration,
        gains={name: share_of_conversions(k, n, rates[name]) for name in models} if k.any() else {},
        losses=KeywordLosses(
            keyword=_storable(np.unique(table.entity_id)),
            clicks=np.bincount(number, n),
            losses={name: np.bincount(number, losses[name]) for name in models},
        ),
    )


def rows_of(outcomes: Outcomes, rows: np.ndarray) -> Outcomes:
    """Returns the outcomes of some rows."""
    return Outcomes(
        entity_id=outcomes.entity_id[rows],
        device=None if outcomes.device is None else outcomes.device[rows],
        conversions=np.asarray(outcomes.conversions, dtype=np.float64)[rows],
        clicks=np.asarray(outcomes.clicks, dtype=np.float64)[rows],
    )


def summarise(table: Outcomes, train: Outcomes) -> TableSummary:
    """Summarizes a table, with the share of keywords that the training table does not contain."""
    cold = ~np.isin(table.entity_id, train.entity_id)
    clicks = np.asarray(table.clicks, dtype=np.float64)
    return TableSummary(
        rows=len(clicks),
        keywords=len(np.unique(table.entity_id)),
        clicks=float(clicks.sum()),
        conversions=float(np.minimum(table.conversions, clicks).sum()),
        device_clicks={name: float(clicks[rows].sum()) for name, rows in _by_device(table).items()},
        cold_keywords=len(np.unique(table.entity_id[cold])),
        cold_clicks=float(clicks[cold].sum()),
    )


def share_of_conversions(conversions: np.ndarray, clicks: np.ndarray, predicted: np.ndarray) -> list[float]:
    """Returns the share of the conversions in the 0, 5, ..., 100 % of clicks with the highest predictions; ties share evenly."""
    _, place = np.unique(-predicted, return_inverse=True)
    bought = np.concatenate([[0], np.cumsum(np.bincount(place, conversions))])
    clicked = np.concatenate([[0], np.cumsum(np.bincount(place, clicks))])
    return [float(share) for share in np.interp(GAIN_SHARES * clicked[-1], clicked, bought / bought[-1])]


def _by_device(table: Outcomes) -> dict[str, np.ndarray]:
    """Maps each device to its rows; empty if the keys have no device."""
    return {} if table.device is None else {name: table.device == code for code, name in enumerate(DEVICES)}


def _slices(table: Outcomes, train: Outcomes) -> dict[str, dict[str, np.ndarray]]:
    """Maps kinds of slices to slices to their rows; slices without rows and kinds without slices are left out."""
    volume = np.searchsorted([fewest for _, fewest in CLICK_BINS], table.clicks, side="right") - 1
    cold = ~np.isin(table.entity_id, train.entity_id)
    kinds = {
        "device": _by_device(table),
        # clicks below 1, of a table with weights, count as the lowest bin
        "clicks": {name: np.maximum(volume, 0) == place for place, (name, _) in enumerate(CLICK_BINS)},
        "history": {"known keywords": ~cold, "cold keywords": cold},
    }
    return {kind: {name: rows for name, rows in of_kind.items() if rows.any()} for kind, of_kind in kinds.items() if of_kind}


def _estimates(number: np.ndarray, keywords: int, ratios: Iterable[tuple[np.ndarray, np.ndarray]], confidence: float) -> list[Estimate]:
    sums = np.stack([bootstrap.sums_by_keyword(number, keywords, ratio) for ratio in ratios])
    numerators, denominators = sums[:, :, 0].T, sums[:, :, 1].T
    values = numerators.sum(axis=0) / denominators.sum(axis=0)
    ends = bootstrap.intervals(numerators, denominators, confidence)
    return [
        Estimate(value=float(value), low=None if np.isnan(low) else float(low), high=None if np.isnan(high) else float(high))
        for value, (low, high) in zip(values, ends, strict=True)
    ]


def _figures(rows: np.ndarray, k: np.ndarray, table: Outcomes, rates: dict[str, np.ndarray], residual: Estimate) -> SliceFigures:
    return SliceFigures(
        rows=int(rows.sum()),
        keywords=len(np.unique(table.entity_id[rows])),
        clicks=float(table.clicks[rows].sum()),
        metrics={name: asdict(evaluate(k[rows], table.clicks[rows], of_all[rows])) for name, of_all in rates.items()},
        residual=residual,
    )


def _storable(keyword: np.ndarray) -> np.ndarray:
    return keyword if keyword.dtype.kind in "iuf" else keyword.astype(str).astype(object)
