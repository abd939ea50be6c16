"""Boosted trees (LightGBM) for conversions out of clicks.

The objective is the binomial likelihood. LightGBM's ``cross_entropy`` with the rate as target and the clicks as weight is the
same: ``clicks * (cr * log p + (1 - cr) * log(1 - p)) = conversions * log p + (clicks - conversions) * log(1 - p)``.
Each row runs through the trees alone and in their order, so its rate does not depend on the other rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd

from model_store import model_template
from shared.errors import ModelError

DEFAULTS = {
    "num_leaves": 31,
    "num_boost_round": 150,
    "learning_rate": 0.05,
    "lambda_l2": 20.0,
    "feature_fraction": 0.5,
    "min_data_in_leaf": 20,
    "seed": 7,
}

FIXED = {
    "objective": "cross_entropy",
    "deterministic": True,
    "force_row_wise": True,  # else LightGBM measures which way is faster, and may choose the other one the next time
    "num_threads": 0,  # as many as OMP_NUM_THREADS says
    "verbosity": -1,
}

ROWS_AT_ONCE = 16_384


class Model(model_template.Model):
    """``self.model`` is a dict: ``columns`` (names, as trained) and ``booster`` (LightGBM's own text of the trees)."""

    MODEL_FILE = "model.skops"
    IMPORTANCE = "share of the likelihood that the splits on the column gained"
    params: Mapping[str, Any] | None = None
    _booster: lightgbm.Booster

    def _model_definition(self, config: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Choose the parameters, named and meant as LightGBM names and means them.

        Raises:
            ModelError: a parameter that is not among ``DEFAULTS``.
        """
        self.params = model_template.choose_params(DEFAULTS, self.config if config is None else config)
        return self.params

    def train(self, X: pd.DataFrame, y: pd.Series, sample_weight: np.ndarray | None = None) -> model_template.ModelEval:
        """Fit the trees; needs 4 bytes for each value of ``X`` beside it.

        Raises:
            TableError: there are no weights above 0.
            ModelError: LightGBM refuses a parameter.
        """
        params = dict(self.params or self._model_definition())
        rounds = params.pop("num_boost_round")
        by_row = model_template.weights_of_rows(sample_weight, len(X))
        rates = np.asarray(y, dtype=np.float64)
        table = lightgbm.Dataset(_matrix(X), rates, weight=by_row)
        try:
            trained = lightgbm.train({**params, **FIXED}, table, num_boost_round=rounds)
        except (lightgbm.basic.LightGBMError, TypeError, ValueError) as error:
            raise ModelError(f"LightGBM does not train with {params}: {error}") from error
        # predicting from the text at once, not only after loading, leaves no room for a difference
        self._take({"columns": X.columns.tolist(), "booster": trained.model_to_string()})
        return self.score(rates, self.predict(X))

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Rates as float64 in (0, 1), each independent of the other rows down to the last bit.

        Raises:
            ModelError: the model is neither trained nor loaded.
            TableError: a column that it was trained on is missing.
        """
        if self.model is None:
            raise ModelError("the model is neither trained nor loaded")
        X = model_template.put_in_order(X, self.model["columns"])
        rates = np.empty(len(X))
        for first in range(0, len(X), ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            rates[rows] = self._booster.predict(_matrix(X.iloc[rows]), num_threads=1)
        return rates

    def importance(self) -> dict[str, float]:
        """The share of each column in all that splits gained."""
        gains = self._booster.feature_importance("gain")
        return dict(zip(self.model["columns"], map(float, gains / max(gains.sum(), 1e-300)), strict=True))

    def load(self, path: str | Path) -> None:
        """Read the model file back.

        Raises:
            ModelError: it is refused, or holds something else than such a model.
        """
        super().load(path)
        held, self.model = self.model, None
        if not _is_boosted(held):
            raise ModelError(f"the model file {path} does not hold boosted trees")
        try:
            self._take(held)
        except (lightgbm.basic.LightGBMError, ValueError) as error:
            raise ModelError(f"LightGBM cannot read the trees in the model file {path}: {error}") from error

    def _take(self, held: dict[str, Any]) -> None:
        booster = lightgbm.Booster(model_str=held["booster"])
        if booster.num_feature() != len(held["columns"]):
            raise ValueError(f"the trees have {booster.num_feature()} features, not {len(held['columns'])}")
        self.model, self._booster = held, booster


def _is_boosted(held: object) -> bool:
    if not isinstance(held, dict) or held.keys() != {"columns", "booster"}:
        return False
    columns, booster = held["columns"], held["booster"]
    return isinstance(columns, list) and all(isinstance(name, str) for name in columns) and isinstance(booster, str)


def _matrix(X: pd.DataFrame) -> np.ndarray:
    """The values as LightGBM takes them without another copy: float32, row after row."""
    return np.ascontiguousarray(X.to_numpy(), dtype=np.float32)
