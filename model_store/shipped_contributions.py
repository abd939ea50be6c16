"""What each column contributes to the rates of the shipped definitions ``v1``, ``v2`` and ``v3``.

It stands beside these definitions and not in them, because a release is bound to the code of its definition by a digest: another method
there would end the use of every release that was trained before. A model of another definition has the method ``contributions`` itself.
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from model_store.model_template import put_in_order

Given = tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]
"""The base of each row, what each column adds, and other reasons by name: what ``contributions`` returns."""

KEYWORD_HISTORY, ROW_HISTORY = "history of the keyword on all devices", "history of the keyword on this device"
"""The names of the two corrections of ``v3``."""


def shipped_contributions(model: Any) -> tuple[Callable[[pd.DataFrame], Given], str] | None:  # noqa: ANN401 - a definition's own class
    """Returns what gives the contributions of a model, and its link; None if the model has another form than those of ``v1`` to ``v3``.

    A model of the same form that predicts in another way is no danger: its contributions do not add up to its rates, which is checked.
    """
    parts = model.model if isinstance(getattr(model, "model", None), dict) else {}
    if {"columns", "weights", "intercept"} <= parts.keys():
        return lambda X: _of_linear(parts, X), "identity"
    if "columns" not in parts or not hasattr(model, "_booster"):
        return None
    if hasattr(model, "_ledger"):
        return lambda X: _of_trees_with_history(model, X), "logit"
    return lambda X: _of_trees(model, X), "logit"


def _of_linear(parts: dict[str, Any], X: pd.DataFrame) -> Given:
    """The intercept, and weight x value of each column."""
    values = put_in_order(X, parts["columns"]).to_numpy(dtype=np.float64) * parts["weights"]
    return np.full(len(X), parts["intercept"]), _in_columns_of(X, parts["columns"], values)


def _of_trees(model: Any, X: pd.DataFrame) -> Given:  # noqa: ANN401
    """The mean raw score of the trees, and the Shapley value of each column.

    LightGBM's ``pred_contrib`` computes them: Lundberg, Erion and Lee, Consistent Individualized Feature Attribution for Tree Ensembles,
    2018.
    """
    columns = model.model["columns"]
    values = _module_of(model)._matrix(put_in_order(X, columns))
    found = np.asarray(model._booster.predict(values, pred_contrib=True, num_threads=1))
    return found[:, -1], _in_columns_of(X, columns, found[:, :-1])


def _of_trees_with_history(model: Any, X: pd.DataFrame) -> Given:  # noqa: ANN401
    """The contributions of the trees, and what the histories of the keyword and of the row add to the guess of the trees."""
    module, strength = _module_of(model), model.model["strength"]
    base, columns, *_ = _of_trees(model, X)
    guesses = module._guess(model._booster, module._matrix(put_in_order(X, model.model["columns"])))
    history = model._ledger.find(*module._keys(X))
    alpha, beta = module.correct(guesses, history, strength)
    prior = module._shift(guesses, history.keyword_surplus, history.keyword_clicks, strength)
    return base, columns, {KEYWORD_HISTORY: prior - guesses, ROW_HISTORY: alpha / (alpha + beta) - prior}


def _module_of(model: Any) -> ModuleType:  # noqa: ANN401
    """The module of the definition, with the functions that its ``predict`` uses."""
    return sys.modules[type(model).__module__]


def _in_columns_of(X: pd.DataFrame, columns: list[str], values: np.ndarray) -> np.ndarray:
    """Returns ``values``, one column for each of ``columns``, in the order of the columns of ``X``; 0 where ``X`` has further columns."""
    found = np.zeros((len(X), X.shape[1]))
    places = {name: place for place, name in enumerate(X.columns)}
    found[:, [places[name] for name in columns]] = values
    return found
