"""On two real weeks of search advertising the definitions are as good as they are known to be: trained on one, judged on the next."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.linear_model
import skops.io

from model_store.definitions import Definition, load_definition
from model_store.evaluation.metrics import Metrics, Observations, evaluate, naive_predictors
from model_store.model_template import Model
from shared.errors import ModelError, TableError

KEYWORDS = Path(__file__).resolve().parents[2].parent / "shared/data/keywords"
pytestmark = pytest.mark.skipif(not KEYWORDS.is_dir(), reason=f"the real keyword tables are not at {KEYWORDS}")

BARS = {"v1": 0.2170, "v2": 0.2145, "v3": 0.2133}
"""Definition -> the log-loss per click on the second week that it may not exceed."""


class Week:
    def __init__(self, number: int) -> None:
        raw = pd.read_csv(KEYWORDS / f"week{number}.csv.gz")
        device = raw["device"].map({"Computer": 0, "Smartphone": 1, "Tablet": 2}).to_numpy()
        self.observations = Observations(
            entity_id=raw["entity_id"].to_numpy(), device=device, conversions=raw["Conversions"].to_numpy(), clicks=raw["Clicks"].to_numpy()
        )
        self.clicks = raw["Clicks"].to_numpy(np.float64)
        attributes = {name: raw[name].astype(np.int8) for name in raw.columns if name.startswith("att")}
        self.table = pd.DataFrame(
            {
                "cr": np.minimum(raw["Conversions"], raw["Clicks"]) / raw["Clicks"],
                "entity_id": raw["entity_id"].astype(np.int64),
                "computer": (device == 0).astype(np.int8),
                "smartphone": (device == 1).astype(np.int8),
                **attributes,
            }
        )

    def evaluate(self, predicted: np.ndarray) -> Metrics:
        return evaluate(self.observations.conversions, self.observations.clicks, predicted)


@pytest.fixture(scope="module")
def week30() -> Week:
    return Week(30)


@pytest.fixture(scope="module")
def week31() -> Week:
    return Week(31)


@pytest.fixture(scope="module")
def fitted(week30) -> Callable[[str], tuple[Definition, Model]]:
    """Trains a definition on the first week, once."""

    @cache
    def fit(name: str) -> tuple[Definition, Model]:
        definition = load_definition(name)
        X, y, error = definition.data_preparation(week30.table)
        assert error is None
        model = definition.model_class()
        model.train(X, y, week30.clicks)
        return definition, model

    return fit


@pytest.fixture(scope="module", params=BARS)
def trained(request, fitted):
    return fitted(request.param)


def features_of(week: Week, definition: Definition) -> pd.DataFrame:
    X, _, error = definition.data_preparation(week.table.drop(columns="cr"), target_col=None)
    assert error is None
    return X


@pytest.fixture(scope="module")
def features31(trained, week31) -> pd.DataFrame:
    definition, _ = trained
    return features_of(week31, definition)


@pytest.mark.parametrize(
    ("name", "log_loss", "mae"),
    [
        ("always zero", 0.79252, 0.05736),
        ("mean of all", 0.21974, 0.05648),
        ("mean of the device", 0.21942, 0.05563),
        ("mean of the keyword", 0.34892, 0.05498),
    ],
)
def test_naive_predictors_reach_their_known_figures(week30, week31, name, log_loss, mae):
    found = week31.evaluate(naive_predictors(week30.observations, week31.observations)[name])
    assert (round(found.log_loss_per_click, 5), round(found.mae_by_click, 5)) == (log_loss, mae)


def test_a_definition_stays_below_its_bar_on_the_week_it_has_not_seen(trained, week31, features31):
    definition, model = trained
    found = week31.evaluate(model.predict(features31))
    assert found.log_loss_per_click <= BARS[definition.name]
    assert found.mae_by_click < 0.0515
    assert found.calibration_error < 0.006


def test_v3_is_better_than_v2_and_v2_than_v1_on_the_week_they_have_not_seen(fitted, week31):
    losses, errors = {}, {}
    for name in BARS:
        definition, model = fitted(name)
        found = week31.evaluate(model.predict(features_of(week31, definition)))
        losses[name], errors[name] = found.log_loss_per_click, found.mae_by_click
    assert losses["v3"] < losses["v2"] - 0.0002
    assert losses["v2"] < losses["v1"] - 0.001
    assert errors["v3"] < errors["v2"] < errors["v1"]
    assert losses["v3"] < 0.2130
    assert errors["v3"] < 0.0497


@pytest.mark.parametrize("seed", [1, 2])
def test_v3_is_as_good_with_another_seed(week30, week31, seed):
    definition = load_definition("v3")
    X, y, _ = definition.data_preparation(week30.table)
    model = definition.model_class()
    model._model_definition({"seed": seed})
    model.train(X, y, week30.clicks)
    assert week31.evaluate(model.predict(features_of(week31, definition))).log_loss_per_click < 0.2130


def test_a_definition_is_calibrated_on_every_device(trained, week31, features31):
    """All convert 5.6 % better in the second week, which no model can know, and 21,000 clicks on tablets leave chance its share."""
    _, model = trained
    rates, happened = model.predict(features31), week31.observations
    for device in range(3):
        on = happened.device == device
        assert evaluate(happened.conversions[on], happened.clicks[on], rates[on]).calibration_error < 0.01, device


def test_real_rows_get_the_same_rate_in_blocks_of_any_size_and_memory_layout(trained, features31):
    _, model = trained
    whole = model.predict(features31)
    row_by_row = pd.DataFrame(np.ascontiguousarray(features31.to_numpy()), columns=features31.columns)
    column_by_column = pd.DataFrame({name: features31[name].to_numpy().copy() for name in features31}, copy=False)
    for frame in (row_by_row, column_by_column):
        assert model.predict(frame).tobytes() == whole.tobytes()
    for rows in (1, 500, 513, 7000):
        blocks = [model.predict(features31.iloc[first : first + rows]) for first in range(0, min(len(whole), 300 * rows), rows)]
        assert np.concatenate(blocks).tobytes() == whole[: sum(map(len, blocks))].tobytes()


def test_rates_lie_between_0_and_1_and_none_is_written_as_minus_zero(trained, features31):
    _, model = trained
    rates = model.predict(features31)
    assert not np.signbit(rates).any()
    assert rates.max() <= 1


def test_rates_do_not_depend_on_the_order_of_columns_or_on_further_ones(trained, features31):
    _, model = trained
    turned = features31[features31.columns[::-1]].assign(further=1.5)
    assert model.predict(turned).tobytes() == model.predict(features31).tobytes()


def test_a_missing_column_is_named(trained, features31):
    _, model = trained
    with pytest.raises(TableError, match="lacks 1 of the columns that the model was trained on, the first is att7"):
        model.predict(features31.drop(columns="att7"))


def test_a_model_comes_back_from_its_file_as_it_was(trained, features31, tmp_path):
    definition, model = trained
    model.save(tmp_path)
    assert skops.io.get_untrusted_types(file=tmp_path / definition.model_file) == []
    loaded = definition.model_class()
    loaded.load(tmp_path / definition.model_file)
    assert loaded.predict(features31).tobytes() == model.predict(features31).tobytes()


LEDGER = {"entity_id": np.array([1, 2]), "surplus": np.zeros(2), "clicks": np.ones((2, 3)), "conversions": np.zeros((2, 3))}


class Foreign:
    """A type that no model file of ours holds."""


@pytest.mark.parametrize(
    "held",
    [
        Foreign(),
        {"columns": Foreign()},
        sklearn.linear_model.LinearRegression(),
        {},
        {"columns": ["a"], "weights": np.ones(2), "intercept": 0.5},
        {"columns": ["a"], "weights": np.array([np.nan]), "intercept": 0.5},
        {"columns": ["a"], "booster": "tree\n"},
        {"columns": ["a"], "booster": "tree\n", "strength": 300.0, "ledger": LEDGER},
        {"columns": ["a"], "booster": "tree\n", "strength": 300.0, "ledger": LEDGER | {"entity_id": np.array([2, 1])}},
        {"columns": ["a"], "booster": "tree\n", "strength": 300.0, "ledger": LEDGER | {"clicks": -np.ones((2, 3))}},
        {"columns": ["a"], "booster": "tree\n", "strength": 0.0, "ledger": LEDGER},
    ],
    ids=[
        "foreign type",
        "foreign type inside",
        "estimator",
        "empty",
        "too many weights",
        "not finite",
        "no trees",
        "no trees, a ledger",
        "ledger out of order",
        "negative clicks",
        "no strength",
    ],
)
def test_a_file_that_holds_something_else_is_refused_and_nothing_is_loaded(trained, tmp_path, held):
    definition, _ = trained
    skops.io.dump(held, tmp_path / "model.skops")
    model = definition.model_class()
    with pytest.raises(ModelError, match=r"model\.skops"):
        model.load(tmp_path / "model.skops")
    with pytest.raises(ModelError, match="neither trained nor loaded"):
        model.predict(pd.DataFrame({"a": [1]}))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("v1", {"ridge_clicks": 1e9}),
        ("v2", {"num_leaves": 2, "num_boost_round": 1}),
        ("v3", {"num_leaves": 2, "num_boost_round": 1, "folds": 2}),
    ],
)
def test_parameters_are_taken_by_the_constructor_and_by_the_definition_method(fitted, week30, week31, name, config):
    definition, plain = fitted(name)
    X, y, _ = definition.data_preparation(week30.table)
    features31 = features_of(week31, definition)
    by_constructor, by_method = definition.model_class(config=config), definition.model_class()
    by_method._model_definition(config)
    for model in (by_constructor, by_method):
        model.train(X, y, week30.clicks)
    rates = [model.predict(features31) for model in (by_constructor, by_method, plain)]
    assert rates[0].tobytes() == rates[1].tobytes() != rates[2].tobytes()


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("v1", {"ridge": 1}),
        ("v1", {"ridge_clicks": 0}),
        ("v2", {"leaves": 3}),
        ("v2", {"num_leaves": "many"}),
        ("v3", {"folds": 1}),
        ("v3", {"num_leaves": "many"}),
    ],
)
def test_parameters_that_cannot_be_are_refused(week30, name, config):
    definition = load_definition(name)
    X, y, _ = definition.data_preparation(week30.table)
    with pytest.raises(ModelError, match=next(iter(config))):
        definition.model_class(config=config).train(X, y)


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0]])
@pytest.mark.parametrize("name", BARS)
def test_weights_that_cannot_be_are_refused(name, weights):
    model = load_definition(name).model_class()
    with pytest.raises(TableError, match="weight"):
        model.train(pd.DataFrame({"att1": np.array([0, 1], dtype=np.int8)}), pd.Series([0.1, 0.2]), np.array(weights))
