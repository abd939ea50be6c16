"""Definitions that are dropped into a folder: two as they were written for the older service, and one with keys and text of its own."""

import shutil
from pathlib import Path

from model_store import model_template

_BY_PATH = """
import importlib.util
import os
import pickle

name = "model_template"
file = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), f"{name}.py")
spec = importlib.util.spec_from_file_location(name, file)
model_template = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model_template)

data_preparation = model_template.data_preparation
"""

_BY_PICKLE = """
    def save(self, path: str):
        if not os.path.isdir(path):
            os.makedirs(path)
        with open(path + "/model.pkl", "wb") as file:
            pickle.dump(self.model, file)

    def load(self, path: str):
        if not path.endswith("model.pkl"):
            raise ValueError(path)
        with open(path, "rb") as file:
            self.model = pickle.load(file)

    def predict(self, X):
        if self.model is None:
            return None
        return self.model.predict(X)
"""

LINEAR = f"""{_BY_PATH}
from sklearn.linear_model import LinearRegression


class Model(model_template.Model):
    def __init__(self, model=None):
        self.model = model

    def _model_definition(self, config=None):
        if self.model is None:
            self.model = LinearRegression()

    def train(self, X, y):
        if self.model is None:
            self._model_definition()
        self.model.fit(X, y)
        return self.score(y_true=y, y_pred=self.predict(X))
{_BY_PICKLE}
"""
"""As v1 of the older service: the template loaded by path, a linear regression in a pickle, no weights."""

BOOSTED = f"""{_BY_PATH}
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GridSearchCV


class Model(model_template.Model):
    CONFIG = {{"learning_rate": 0.1, "max_iter": 40, "max_depth": 10}}

    def __init__(self, model=None):
        self.model = model

    def _model_definition(self, config=CONFIG):
        if self.model is None:
            self.model = HistGradientBoostingRegressor(**(config or {{}}))

    def train(self, X, y):
        if self.model is None:
            self._model_definition()
        self.model.fit(X, y)
        return self.score(y_true=y, y_pred=self.predict(X))

    def grid_search(self, X, y, config):
        if self.model is None:
            self._model_definition(config=None)
        grid = GridSearchCV(estimator=self.model, param_grid=config, scoring="neg_mean_squared_error", cv=2)
        grid.fit(X, y)
        self.model = grid.best_estimator_
        return self.score(y_true=y, y_pred=self.predict(X))
{_BY_PICKLE}
"""
"""As v2 and v3 there: boosted trees with a configuration of the class and a grid search; scikit-learn's take the place of XGBoost's."""

OWN_KEYS = """
import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import Ridge

from model_store import model_template


class Model(model_template.Model):
    KEYS = ("keyword", "match_type")
    COLUMNS = ("keyword", "price")
    TEXT = ("keyword",)
    MODEL_FILE = "model.skops"

    def _model_definition(self, config=None):
        return Ridge(alpha=1.0)

    def _features(self, X):
        grams = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 3), n_features=64, norm=None, alternate_sign=False)
        return np.column_stack([grams.transform(X["keyword"]).toarray(), X["price"].to_numpy(np.float64)])

    def train(self, X, y, sample_weight=None):
        fitted = self._model_definition().fit(self._features(X), y, sample_weight)
        self.model = {"weights": fitted.coef_, "intercept": float(fitted.intercept_)}
        return self.score(y, self.predict(X))

    def predict(self, X):
        rates = np.full(len(X), self.model["intercept"])
        for weight, column in zip(self.model["weights"], self._features(X).T, strict=True):  # a matrix product rounds by place
            rates += weight * column
        return rates

    def predict_interval(self, X):
        rates = np.clip(self.predict(X), 0, 1)
        return rates * 0.5, 1 - (1 - rates) * 0.5
"""
"""Keys that are text, one of them a feature as well: hashed n-grams of letters; and it says between what a rate lies."""


def drop_in(parent: Path, name: str, source: str, *, template: bool = False) -> Path:
    """Makes a definition; with the template above it if its source looks for one there."""
    folder = parent / name
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(source)
    (folder / "__init__.py").touch()
    (folder / "install_dependencies.sh").write_text("#!/bin/bash\nexit 0\n")
    if template and not (parent / "model_template.py").exists():
        shutil.copy(model_template.__file__, parent)
    return folder
