"""Weighted linear regression on the attributes and the device, shrunk a little, with rates cut to [0, 1].

A row gets the very same double wherever it stands in whatever block. A matrix product does not promise that, because it may
add the columns in another order at another place. Here it has no choice: all weights are multiples of one power of two, so
coarse that every sum of columns of small whole numbers is exact in float64, and exact sums do not depend on their order.
Columns of other numbers are added one after another.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from model_store import model_template
from shared.errors import ModelError

DEFAULTS = {"ridge_clicks": 30_000.0}
"""How many clicks of evidence pull each weight towards 0 (columns scaled to unit variance). Redundant attributes need some;
cross-validation over the keywords of a real week of 170,000 clicks was best from here to 170,000, and flat."""

ROWS_AT_ONCE = 512
"""As float64 a block of 162 columns takes 660 KB and stays in the processor's second-level cache."""

TRAIN_ROWS_AT_ONCE = 16_384
LARGEST_SMALL = 255
"""No value of a one-byte column is larger."""


class Model(model_template.Model):
    """``self.model`` is a dict: ``columns`` (names), ``weights`` (float64, one for each) and ``intercept``."""

    MODEL_FILE = "model.skops"
    IMPORTANCE = "change of the conversion rate when the column grows by 1"
    params: Mapping[str, Any] | None = None

    def _model_definition(self, config: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Choose the parameters; ``ridge_clicks`` is the only one.

        Raises:
            ModelError: an unknown parameter, or a ridge that is not above 0.
        """
        params = model_template.choose_params(DEFAULTS, self.config if config is None else config)
        ridge = params["ridge_clicks"]
        if isinstance(ridge, bool) or not isinstance(ridge, int | float) or not 0 < ridge < math.inf:
            raise ModelError(f"the parameter ridge_clicks must be a number above 0, not {ridge!r}")
        self.params = params
        return params

    def train(self, X: pd.DataFrame, y: pd.Series, sample_weight: np.ndarray | None = None) -> model_template.ModelEval:
        """Fit by weighted least squares with a ridge penalty; memory beyond ``X`` does not grow with the rows.

        Raises:
            TableError: there are no weights above 0.
        """
        params = self.params or self._model_definition()
        by_row = model_template.weights_of_rows(sample_weight, len(X))
        rates = np.asarray(y, dtype=np.float64)
        means, mean_rate = _means(X, rates, by_row)
        covariance, with_rate = _covariance(X, rates, by_row, means, mean_rate)
        weights = _solve(covariance, with_rate, means, params["ridge_clicks"] / by_row.sum())
        weights, intercept = _on_grid(weights, mean_rate - float(means @ weights))
        self.model = {"columns": X.columns.tolist(), "weights": weights, "intercept": intercept}
        return self.score(rates, self.predict(X))

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Rates as float64 in [0, 1], each independent of the other rows down to the last bit.

        Raises:
            ModelError: the model is neither trained nor loaded.
            TableError: a column that it was trained on is missing.
        """
        if self.model is None:
            raise ModelError("the model is neither trained nor loaded")
        weights = self.model["weights"]
        X = model_template.put_in_order(X, self.model["columns"])
        small = np.array([dtype.itemsize == 1 for dtype in X.dtypes], dtype=bool)
        sums = _exact_sums((X if small.all() else X.loc[:, small]).to_numpy(), weights[small])
        sums += self.model["intercept"]
        for weight, column in zip(weights[~small], X.loc[:, ~small].to_numpy(dtype=np.float64).T, strict=True):
            sums += weight * column
        return np.clip(sums, 0.0, 1.0, out=sums)

    def importance(self) -> dict[str, float]:
        """The weight of each column."""
        return dict(zip(self.model["columns"], map(float, self.model["weights"]), strict=True))

    def load(self, path: str | Path) -> None:
        """Read the model file back.

        Raises:
            ModelError: it is refused, or holds something else than such a model.
        """
        super().load(path)
        held, self.model = self.model, None
        if not _is_linear(held):
            raise ModelError(f"the model file {path} does not hold a linear model")
        self.model = held


def _is_linear(held: object) -> bool:
    if not isinstance(held, dict) or held.keys() != {"columns", "weights", "intercept"}:
        return False
    columns, weights, intercept = held["columns"], held["weights"], held["intercept"]
    if not isinstance(columns, list) or not isinstance(weights, np.ndarray) or not isinstance(intercept, float):
        return False
    named = all(isinstance(name, str) for name in columns)
    return named and weights.dtype == np.float64 and weights.shape == (len(columns),) and bool(np.isfinite([*weights, intercept]).all())


def _blocks(X: pd.DataFrame) -> Iterator[tuple[slice, np.ndarray]]:
    for first in range(0, len(X), TRAIN_ROWS_AT_ONCE):
        rows = slice(first, first + TRAIN_ROWS_AT_ONCE)
        yield rows, X.iloc[rows].to_numpy(dtype=np.float64)


def _means(X: pd.DataFrame, rates: np.ndarray, by_row: np.ndarray) -> tuple[np.ndarray, float]:
    total = by_row.sum()
    sums = np.zeros(X.shape[1])
    for rows, block in _blocks(X):
        sums += by_row[rows] @ block
    return sums / total, float(by_row @ rates / total)


def _covariance(
    X: pd.DataFrame, rates: np.ndarray, by_row: np.ndarray, means: np.ndarray, mean_rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted covariances of the columns with each other, and with the rate."""
    among = np.zeros((len(means), len(means)))
    with_rate = np.zeros(len(means))
    for rows, block in _blocks(X):
        centred = block - means
        weighted = centred * by_row[rows, None]
        among += weighted.T @ centred
        with_rate += (rates[rows] - mean_rate) @ weighted
    total = by_row.sum()
    return among / total, with_rate / total


def _solve(covariance: np.ndarray, with_rate: np.ndarray, means: np.ndarray, ridge: float) -> np.ndarray:
    """Ridge regression on columns scaled to unit variance; a constant column gets the weight 0."""
    variances = np.diag(covariance)
    varies = variances > 1e-12 * (means**2 + variances)
    scale = np.sqrt(variances[varies])
    correlation = covariance[np.ix_(varies, varies)] / np.outer(scale, scale)
    weights = np.zeros(len(means))
    weights[varies] = np.linalg.solve(correlation + ridge * np.eye(len(scale)), with_rate[varies] / scale) / scale
    return weights


def _on_grid(weights: np.ndarray, intercept: float) -> tuple[np.ndarray, float]:
    """Round all to multiples of the finest power of two with which no sum over one-byte columns can need more than 53 bits."""
    largest_sum = LARGEST_SMALL * float(np.abs(weights).sum()) + abs(intercept)
    # one bit to spare, because rounding may make the largest sum a little larger
    step = math.ldexp(1.0, math.frexp(largest_sum)[1] - 52)
    # + 0.0 turns -0.0 into 0.0, which is written as another text
    return np.round(weights / step) * step, round(intercept / step) * step + 0.0


def _exact_sums(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """``values @ weights`` for one-byte values, block by block."""
    sums = np.empty(len(values))
    for first in range(0, len(values), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        np.matmul(values[rows].astype(np.float64), weights, out=sums[rows])
    return sums
