"""A judgement says of each slice and predictor what it says it does."""

import numpy as np
import pytest

from model_store.evaluation.comparison import compare_predictions, share_of_conversions, summarise
from model_store.evaluation.importance import find_importance
from model_store.evaluation.metrics import Observations, evaluate


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def truth(random) -> np.ndarray:
    return random.uniform(0.02, 0.2, 6000)


@pytest.fixture
def table(random, truth) -> Observations:
    clicks = np.ceil(random.pareto(1.2, 6000) * 3).clip(0, 500)
    return Observations(
        entity_id=np.repeat(np.arange(2000), 3),
        device=np.tile([0, 1, 2], 2000),
        conversions=random.binomial(clicks.astype(int), truth).astype(float),
        clicks=clicks,
    )


@pytest.fixture
def train(table) -> Observations:
    """Knows the first half of the keywords."""
    return Observations(**{name: values[:3000] for name, values in vars(table).items()})


def test_slices_hold_every_row_with_clicks_once(table, train, truth):
    found = compare_predictions("own", {"own": truth}, table, train)
    used = int((table.clicks > 0).sum())
    assert found.slices.keys() == {"device", "clicks", "history"}
    for kind, slices in found.slices.items():
        assert sum(figures.rows for figures in slices.values()) == used, kind
        assert sum(figures.clicks for figures in slices.values()) == pytest.approx(table.clicks.sum()), kind


def test_the_figures_of_a_slice_are_those_of_its_rows_alone(table, train, truth):
    found = compare_predictions("own", {"own": truth}, table, train).slices
    for rows, figures in (
        (table.device == 1, found["device"]["Smartphone"]),
        ((table.clicks >= 4) & (table.clicks < 10), found["clicks"]["4 to 9"]),
        (table.entity_id >= 1000, found["history"]["cold keywords"]),
        (table.entity_id < 1000, found["history"]["known keywords"]),
    ):
        alone = evaluate(table.conversions[rows], table.clicks[rows], truth[rows])
        assert figures.metrics["own"] == vars(alone)
        assert figures.residual.value == pytest.approx(alone.predicted_rate - alone.rate)


def test_a_shifted_prediction_is_seen_where_it_is_shifted_and_an_honest_one_nowhere(table, train, truth):
    shifted = np.where(table.device == 2, truth + 0.05, truth)
    devices = compare_predictions("own", {"own": shifted}, table, train).slices["device"]
    assert devices["Tablet"].residual.low > 0.03
    for name in ("Computer", "Smartphone"):
        assert devices[name].residual.low < 0 < devices[name].residual.high


def test_differences_are_to_each_other_predictor_and_below_0_for_the_better(table, train, truth):
    others = {"v1@20261123T101500Z-9bfad3": truth + 0.03, "mean of all": np.full(6000, 0.1), "twin": truth.copy()}
    found = compare_predictions("own", {"own": truth} | others, table, train)
    for name, rates in others.items():
        expected = [evaluate(table.conversions, table.clicks, of).log_loss_per_click for of in (truth, rates)]
        assert found.differences[name].value == pytest.approx(expected[0] - expected[1], abs=1e-12)
    assert found.differences["mean of all"].high < 0
    assert (found.differences["twin"].low, found.differences["twin"].high) == (0, 0)
    assert list(found.losses.losses) == ["own", "v1@20261123T101500Z-9bfad3"]
    assert found.losses.losses["own"].sum() / found.losses.clicks.sum() == pytest.approx(expected[0])


def test_calibration_bins_hold_equal_clicks_and_the_truth_lies_in_most_intervals(table, train, truth):
    bins = compare_predictions("own", {"own": truth}, table, train).calibration
    assert len(bins) == 10
    assert sum(part.clicks for part in bins) == pytest.approx(table.clicks.sum())
    assert [part.predicted for part in bins] == sorted(part.predicted for part in bins)
    assert sum(part.happened.low <= part.predicted <= part.happened.high for part in bins) >= 8


def test_the_gain_of_a_ranking_worked_out_by_hand():
    shares = share_of_conversions(np.array([0.0, 3.0, 1.0]), np.array([5.0, 5.0, 10.0]), np.array([0.1, 0.9, 0.5]))
    assert (shares[0], shares[5], shares[15], shares[20]) == pytest.approx((0, 0.75, 1, 1))
    assert share_of_conversions(np.array([1.0, 0.0]), np.array([1.0, 3.0]), np.full(2, 0.3)) == pytest.approx(np.linspace(0, 1, 21))


def test_a_table_is_summed_up(table, train):
    found = summarise(table, train)
    assert (found.rows, found.keywords, found.cold_keywords) == (6000, 2000, 1000)
    assert sum(found.device_clicks.values()) == found.clicks == table.clicks.sum()
    assert found.cold_clicks == table.clicks[3000:].sum()


class Shuffled:
    def predict(self, X):
        return 0.05 + 0.1 * X["a"].to_numpy()


class Named(Shuffled):
    IMPORTANCE = "how it is"

    def importance(self):
        return {"a": -0.5, "b": 0.25, "c": 0}


class Failing(Shuffled):
    def importance(self):
        raise ValueError


def test_the_column_that_the_model_rests_on_is_the_most_important(random, table):
    import pandas as pd

    X = pd.DataFrame({"b": random.random(6000), "a": random.random(6000).round(1)})
    conversions = random.binomial(table.clicks.astype(int), 0.05 + 0.1 * X["a"].to_numpy())
    found = find_importance(Shuffled(), X, conversions, table.clicks)
    assert list(found.columns) == ["a"]
    assert found.columns["a"] > 0
    assert found.what.startswith("log-loss per click that is added when the column is shuffled")
    named = find_importance(Named(), X, conversions, table.clicks)
    assert (named.what, named.columns) == ("how it is", {"a": -0.5, "b": 0.25})
    assert find_importance(Failing(), X, conversions, table.clicks) is None
