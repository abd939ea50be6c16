"""Boosted trees as a first guess, corrected by what the keyword and the row did themselves.

The correction is hierarchical credibility (Jewell, The Use of Collateral Data in Credibility Theory, 1975). The keyword's clicks on all
devices shift the guess by ``(conversions - expected) / (clicks + s)``, where the guesses say what was to be expected. The row's own
clicks then meet a beta prior around the shifted guess, worth ``s`` clicks too. A keyword without a history gets the guess.

``s`` is learned: it makes each row of the training table most likely given the keyword's other devices, with guesses of trees that
saw nothing of the keyword. A row's own clicks have no say in that. Conversions come in bursts, several from one click, so
two halves of a row's week are far more alike than one week and the next, and s would come out twenty times too small. The
likelihood is beta-binomial (Griffiths, Biometrics 29, 1973), whose clumping takes the bursts.

The history is part of the release, and ``X`` holds ``entity_id`` to find it. On its own training table such a model looks better
than it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import betaincinv, betaln

from model_store import model_template
from shared.errors import ModelError

DEFAULTS = {
    "num_leaves": 15,
    "num_boost_round": 200,
    "learning_rate": 0.05,
    "lambda_l2": 20.0,
    "feature_fraction": 0.2,
    "min_data_in_leaf": 20,
    "seed": 7,
    "folds": 5,
}

FIXED = {
    "objective": "cross_entropy",
    "deterministic": True,
    "force_row_wise": True,  # else LightGBM measures which way is faster, and may choose the other one the next time
    "num_threads": 1,  # histograms so small are done sooner than threads have met
    "verbosity": -1,
}

ENTITY, COMPUTER, SMARTPHONE = "entity_id", "computer", "smartphone"
DEVICES = 3

ROWS_AT_ONCE = 16_384
INTERVAL = 0.90
SMALLEST_RATE = 1e-9
WEAKEST, STRONGEST = 1.0, 1e7
"""Bounds of the strength: below the first a guess counts for nothing, above the second no history does."""


def data_preparation(
    df: pd.DataFrame, target_col: str | None = "cr", cols_to_drop: Sequence[str] = ()
) -> tuple[pd.DataFrame | None, pd.Series | None, Exception | None]:
    """As every definition's, but ``entity_id`` stays: by it a row finds its history."""
    return model_template.data_preparation(df, target_col, cols_to_drop)


@dataclass(frozen=True, kw_only=True)
class History:
    """What is known of some rows, or of one after another: float64, one each."""

    keyword_clicks: np.ndarray
    """Of all devices."""
    keyword_surplus: np.ndarray
    """The conversions of all devices beyond those that the guesses let expect; may be negative."""
    clicks: np.ndarray
    """Of the row itself: the keyword on this device."""
    conversions: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Every keyword's history: ``entity_id`` ascending and ``surplus``, one each; ``clicks`` and ``conversions``, (keywords, devices)."""

    entity_id: np.ndarray
    surplus: np.ndarray
    clicks: np.ndarray
    conversions: np.ndarray

    def find(self, entity_id: np.ndarray, device: np.ndarray) -> History:
        """The history of rows; zeros where there is none."""
        at = np.minimum(np.searchsorted(self.entity_id, entity_id), len(self.entity_id) - 1)
        known = self.entity_id[at] == entity_id
        return History(
            # column by column: the sum of a row must not depend on how many there are
            keyword_clicks=sum(self.clicks[at, column] for column in range(DEVICES)) * known,
            keyword_surplus=self.surplus[at] * known,
            clicks=self.clicks[at, device] * known,
            conversions=self.conversions[at, device] * known,
        )


def keep_ledger(entity_id: np.ndarray, device: np.ndarray, clicks: np.ndarray, conversions: np.ndarray, guesses: np.ndarray) -> Ledger:
    """Add up all rows of the same keyword and device, such as those of several weeks."""
    known, keyword = np.unique(entity_id, return_inverse=True)
    place, places = keyword * DEVICES + device, len(known) * DEVICES
    return Ledger(
        entity_id=known,
        surplus=np.bincount(keyword, conversions - clicks * guesses),
        clicks=np.bincount(place, clicks, minlength=places).reshape(-1, DEVICES),
        conversions=np.bincount(place, conversions, minlength=places).reshape(-1, DEVICES),
    )


def correct(guesses: np.ndarray, history: History, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """The two parameters of each row's beta posterior; its mean is the corrected rate."""
    prior = _shift(guesses, history.keyword_surplus, history.keyword_clicks, strength)
    misses = np.maximum(history.clicks - history.conversions, 0.0)
    return strength * prior + history.conversions, strength * (1 - prior) + misses


def _shift(guesses: np.ndarray, surplus: np.ndarray, clicks: np.ndarray, strength: float) -> np.ndarray:
    return np.clip(guesses + surplus / (clicks + strength), SMALLEST_RATE, 1 - SMALLEST_RATE)


def learn_strength(entity_id: np.ndarray, device: np.ndarray, clicks: np.ndarray, conversions: np.ndarray, guesses: np.ndarray) -> float:
    """The strength, in clicks, that makes each row most likely given the keyword's other devices.

    The strongest there is where no keyword has clicks on two devices, because then nothing tells.
    """
    ledger = keep_ledger(entity_id, device, clicks, conversions, guesses)
    keyword, on = np.nonzero((ledger.clicks > 0) & (np.count_nonzero(ledger.clicks, axis=1) > 1)[:, None])
    if not len(keyword):
        return STRONGEST
    known = ledger.find(ledger.entity_id[keyword], on)
    expected = np.bincount(np.searchsorted(ledger.entity_id, entity_id) * DEVICES + device, clicks * guesses, minlength=ledger.clicks.size)
    n, k, e = known.clicks, known.conversions, expected.reshape(-1, DEVICES)[keyword, on]
    other_surplus, other_clicks = known.keyword_surplus - (k - e), known.keyword_clicks - n

    def unlikelihood(logarithms: np.ndarray) -> float:
        strength, clumping = np.exp(logarithms)
        rates = _shift(e / n, other_surplus, other_clicks, strength)
        alpha, beta = clumping * rates, clumping * (1 - rates)
        return -float((betaln(alpha + k, beta + n - k) - betaln(alpha, beta)).sum())

    bounds = [(np.log(WEAKEST), np.log(STRONGEST))] * 2
    found = minimize(unlikelihood, np.log([300.0, 20.0]), method="Nelder-Mead", bounds=bounds, options={"xatol": 1e-3, "fatol": 1e-4})
    return float(np.exp(found.x[0]))


def fold_of(entity_id: np.ndarray, folds: int) -> np.ndarray:
    """The fold of each keyword, from a hash of its id (SplitMix64's last steps: Steele, Lea and Flood, OOPSLA 2014)."""
    mixed = entity_id.astype(np.int64).view(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(folds)).astype(np.int64)


class Model(model_template.Model):
    """``self.model`` is a dict: ``columns`` (names, as trained), ``booster`` (LightGBM's text), ``strength``, ``ledger`` (its arrays)."""

    MODEL_FILE = "model.skops"
    params: Mapping[str, Any] | None = None
    _booster: lightgbm.Booster
    _ledger: Ledger

    def _model_definition(self, config: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Choose the parameters: ``folds``, and the others named and meant as LightGBM names and means them.

        Raises:
            ModelError: a parameter that is not among ``DEFAULTS``, or fewer than two folds.
        """
        params = model_template.choose_params(DEFAULTS, self.config if config is None else config)
        folds = params["folds"]
        if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
            raise ModelError(f"the parameter folds must be a whole number from 2 on, not {folds!r}")
        self.params = params
        return params

    def train(self, X: pd.DataFrame, y: pd.Series, sample_weight: np.ndarray | None = None) -> model_template.ModelEval:
        """Fit the trees once without each fold, to learn the strength, and once on all; without weights each row is one click.

        Raises:
            TableError: there are no weights above 0, or a key is missing.
            ModelError: LightGBM refuses a parameter.
        """
        params = dict(self.params or self._model_definition())
        folds = params.pop("folds")
        clicks = model_template.weights_of_rows(sample_weight, len(X))
        rates = np.asarray(y, dtype=np.float64)
        entity_id, device = _keys(X)
        columns = [name for name in X.columns if name != ENTITY]
        values, fold = _matrix(X[columns]), fold_of(entity_id, folds)
        unseen = np.empty(len(X))
        for number in range(folds):
            own = fold == number
            # a fold may hold all clicks of a tiny table, and then there is nothing else to learn from
            used = ~own if clicks[~own].any() else own
            unseen[own] = _guess(_fit(values[used], rates[used], clicks[used], params), values[own])
        strength = learn_strength(entity_id, device, clicks, rates * clicks, unseen)
        booster = _fit(values, rates, clicks, params)
        ledger = keep_ledger(entity_id, device, clicks, rates * clicks, _guess(booster, values))
        self._take({"columns": columns, "booster": booster.model_to_string(), "strength": strength, "ledger": vars(ledger)})
        return self.score(rates, self.predict(X))

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Rates as float64 in (0, 1), each independent of the other rows down to the last bit.

        Raises:
            ModelError: the model is neither trained nor loaded.
            TableError: a column that it was trained on is missing, or ``entity_id``.
        """
        rates = np.empty(len(X))
        for rows, alpha, beta in self._posteriors(X):
            rates[rows] = alpha / (alpha + beta)
        return rates

    def predict_interval(self, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Two rates for each row, between which its true rate lies with 90 % probability; what ``predict`` says lies between them.

        It is the middle of the beta posterior. How sure the strength and the guesses for rare attributes are, and what changes for all
        keywords from one week to the next, is not in it: of made-up keywords, whose attributes tell much, 85 % lay in theirs.

        Raises:
            as predict.
        """
        low, high = np.empty(len(X)), np.empty(len(X))
        for rows, alpha, beta in self._posteriors(X):
            rates = alpha / (alpha + beta)
            # the mean of a very skewed distribution may lie beside its middle
            low[rows] = np.minimum(betaincinv(alpha, beta, (1 - INTERVAL) / 2), rates)
            high[rows] = np.maximum(betaincinv(alpha, beta, (1 + INTERVAL) / 2), rates)
        return low, high

    def load(self, path: str | Path) -> None:
        """Read the model file back.

        Raises:
            ModelError: it is refused, or holds something else than such a model.
        """
        super().load(path)
        held, self.model = self.model, None
        if not _is_whole(held):
            raise ModelError(f"the model file {path} does not hold boosted trees with a history")
        try:
            self._take(held)
        except (lightgbm.basic.LightGBMError, ValueError) as error:
            raise ModelError(f"LightGBM cannot read the trees in the model file {path}: {error}") from error

    def _take(self, held: dict[str, Any]) -> None:
        booster = lightgbm.Booster(model_str=held["booster"])
        if booster.num_feature() != len(held["columns"]):
            raise ValueError(f"the trees have {booster.num_feature()} features, not {len(held['columns'])}")
        self.model, self._booster, self._ledger = held, booster, Ledger(**held["ledger"])

    def _posteriors(self, X: pd.DataFrame) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """The beta posteriors of one block of rows after another."""
        if self.model is None:
            raise ModelError("the model is neither trained nor loaded")
        entity_id, device = _keys(X)
        X = model_template.put_in_order(X, self.model["columns"])
        for first in range(0, len(X), ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            guesses = _guess(self._booster, _matrix(X.iloc[rows]))
            yield rows, *correct(guesses, self._ledger.find(entity_id[rows], device[rows]), self.model["strength"])


def _keys(X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The keyword and the device (0 computer, 1 smartphone, 2 tablet) of each row."""
    keys = model_template.put_in_order(X, [ENTITY, COMPUTER, SMARTPHONE])
    computer, smartphone = keys[COMPUTER].to_numpy() != 0, keys[SMARTPHONE].to_numpy() != 0
    return keys[ENTITY].to_numpy(dtype=np.int64), np.where(computer, 0, np.where(smartphone, 1, 2))


def _fit(values: np.ndarray, rates: np.ndarray, clicks: np.ndarray, params: Mapping[str, Any]) -> lightgbm.Booster:
    """Trees as they will be loaded; LightGBM's cross entropy, with rates as target and clicks as weights, is the binomial likelihood."""
    rounds = params["num_boost_round"]
    params = {name: value for name, value in params.items() if name != "num_boost_round"}
    try:
        trained = lightgbm.train({**params, **FIXED}, lightgbm.Dataset(values, rates, weight=clicks), num_boost_round=rounds)
    except (lightgbm.basic.LightGBMError, TypeError, ValueError) as error:
        raise ModelError(f"LightGBM does not train with {params}: {error}") from error
    # predicting from the text at once, not only after loading, leaves no room for a difference
    return lightgbm.Booster(model_str=trained.model_to_string())


def _guess(booster: lightgbm.Booster, values: np.ndarray) -> np.ndarray:
    return np.asarray(booster.predict(values, num_threads=1)) if len(values) else np.empty(0)


def _is_whole(held: object) -> bool:
    if not isinstance(held, dict) or held.keys() != {"columns", "booster", "strength", "ledger"}:
        return False
    columns, booster, strength, ledger = held["columns"], held["booster"], held["strength"], held["ledger"]
    if not isinstance(columns, list) or not all(isinstance(text, str) for text in [*columns, booster]):
        return False
    strong = isinstance(strength, float) and WEAKEST / 2 < strength < STRONGEST * 2
    return strong and isinstance(ledger, dict) and _is_ledger(ledger)


def _is_ledger(held: dict[str, Any]) -> bool:
    shapes = {"entity_id": 1, "surplus": 1, "clicks": 2, "conversions": 2}
    if held.keys() != shapes.keys() or not all(isinstance(array, np.ndarray) for array in held.values()):
        return False
    known = held["entity_id"]
    if known.dtype != np.int64 or known.ndim != 1 or not len(known) or not (known[1:] > known[:-1]).all():
        return False
    for name, dimensions in shapes.items():
        array = held[name]
        if array.shape != (len(known), DEVICES)[:dimensions] or (name != "entity_id" and array.dtype != np.float64):
            return False
        if not np.isfinite(array).all() or (dimensions == 2 and (array < 0).any()):
            return False
    return True


def _matrix(X: pd.DataFrame) -> np.ndarray:
    """The values as LightGBM takes them without another copy: float32, row after row."""
    return np.ascontiguousarray(X.to_numpy(), dtype=np.float32)
