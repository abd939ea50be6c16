"""v3 corrects a guess by the keyword's own history, as much as the history deserves."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from model_store.v3.model import STRONGEST, History, Ledger, Model, correct, fold_of, keep_ledger, learn_strength
from shared.errors import TableError

GUESS = np.array([0.05])


def simulate(strength: float, keywords: int = 20_000, clicks_each: float = 150.0):
    """Rows of keywords on three devices: the keyword's rate is drawn around the guess, worth so many clicks, the same on all devices."""
    random = np.random.default_rng(5)
    guess = random.uniform(0.02, 0.12, keywords)
    rate = random.beta(strength * guess, strength * (1 - guess))
    entity_id, device = np.repeat(np.arange(keywords), 3), np.tile(np.arange(3), keywords)
    clicks = random.poisson(clicks_each, len(entity_id)).astype(np.float64)
    conversions = random.binomial(clicks.astype(np.int64), rate[entity_id]).astype(np.float64)
    return entity_id, device, clicks, conversions, guess[entity_id], rate[entity_id]


def history(clicks: float, conversions: float) -> History:
    """Of a row that is its keyword's only one, guessed at 0.05."""
    return History(
        keyword_clicks=np.array([clicks]),
        keyword_surplus=np.array([conversions - 0.05 * clicks]),
        clicks=np.array([clicks]),
        conversions=np.array([conversions]),
    )


def rate_of(*arguments) -> float:
    alpha, beta = correct(*arguments)
    return float((alpha / (alpha + beta))[0])


@pytest.mark.parametrize("strength", [100.0, 300.0, 1000.0])
def test_the_strength_of_simulated_keywords_is_found_again(strength):
    entity_id, device, clicks, conversions, guesses, _ = simulate(strength)
    assert learn_strength(entity_id, device, clicks, conversions, guesses) == pytest.approx(strength, rel=0.1)


def test_where_conversions_come_in_pairs_a_history_is_worth_half():
    """Twice the variance for the same mean, so twice as many clicks say as much; that each row looks like itself does not count."""
    entity_id, device, clicks, conversions, guesses, _ = simulate(300.0)
    pairs = np.minimum(2 * np.random.default_rng(6).binomial(conversions.astype(np.int64), 0.5), clicks)
    assert learn_strength(entity_id, device, clicks, pairs, guesses) == pytest.approx(600.0, rel=0.1)


def test_keywords_without_two_devices_teach_nothing():
    entity_id, device, clicks, conversions, guesses, _ = simulate(300.0, keywords=300)
    one = device == 0
    assert learn_strength(entity_id[one], device[one], clicks[one], conversions[one], guesses[one]) == STRONGEST


def test_a_cold_keyword_gets_the_guess():
    assert rate_of(GUESS, history(0, 0), 300.0) == pytest.approx(0.05, rel=1e-12)
    empty = keep_ledger(*simulate(300.0, keywords=10)[:5]).find(np.array([99_999, -1]), np.array([0, 2]))
    assert all(not array.any() for array in vars(empty).values())


def test_the_more_history_there_is_the_nearer_the_rate_comes_to_it():
    rates = [rate_of(GUESS, history(clicks, 0.2 * clicks), 300.0) for clicks in (1, 30, 300, 3_000, 3_000_000)]
    assert rates == sorted(rates)
    assert rates[0] < 0.052
    assert rates[-1] == pytest.approx(0.2, abs=1e-3)


def test_other_devices_move_a_rate_less_than_its_own_clicks_do():
    elsewhere = dataclasses.replace(history(300, 60), clicks=np.zeros(1), conversions=np.zeros(1))
    assert 0.05 < rate_of(GUESS, elsewhere, 300.0) < rate_of(GUESS, history(300, 60), 300.0) < 0.2


def test_the_same_keyword_and_device_in_several_weeks_is_one_history():
    ledger = keep_ledger(*(np.array(column) for column in ([7, 3, 7], [1, 0, 1], [10.0, 5.0, 20.0], [1.0, 0.0, 2.0], [0.1, 0.1, 0.1])))
    found = ledger.find(np.array([7, 7, 3]), np.array([1, 0, 0]))
    assert found.clicks.tolist() == [30.0, 0.0, 5.0]
    assert found.keyword_clicks.tolist() == [30.0, 30.0, 5.0]
    assert found.conversions.tolist() == [3.0, 0.0, 0.0]
    assert found.keyword_surplus == pytest.approx([0.0, 0.0, -0.5])


def test_folds_are_of_like_size_and_depend_on_the_keyword_alone():
    ids = np.arange(-50_000, 50_000) * 1_000
    fold = fold_of(ids, 5)
    assert np.bincount(fold).tolist() == pytest.approx([20_000] * 5, rel=0.03)
    assert fold_of(ids[::-1], 5).tolist() == fold[::-1].tolist()


@pytest.fixture(scope="module")
def simulated():
    """A table whose attributes tell the guess, the model that was trained on it, and the true rates."""
    random = np.random.default_rng(9)
    keywords, strength = 3_000, 200.0
    attribute = random.integers(0, 2, keywords)
    mean = np.where(attribute == 1, 0.12, 0.04)
    rate = random.beta(strength * mean, strength * (1 - mean))
    keyword, device = np.repeat(np.arange(keywords), 3), np.tile(np.arange(3), keywords)
    clicks = np.ceil(random.pareto(1.0, len(keyword)) * 20 + 1).clip(max=1000)
    conversions = random.binomial(clicks.astype(np.int64), rate[keyword])
    X = pd.DataFrame(
        {
            "entity_id": keyword,
            "computer": (device == 0).astype(np.int8),
            "smartphone": (device == 1).astype(np.int8),
            "att1": attribute[keyword].astype(np.int8),
        }
    )
    model = Model(config={"num_boost_round": 60, "num_leaves": 3})
    model.train(X, pd.Series(conversions / clicks), clicks)
    return X, model, rate[keyword], conversions.sum() / clicks.sum()


def test_nine_of_ten_intervals_hold_the_true_rate_of_simulated_keywords(simulated):
    X, model, truth, _ = simulated
    low, high = model.predict_interval(X)
    assert 0.85 < np.mean((low <= truth) & (truth <= high)) < 0.95


def test_an_interval_holds_its_rate_and_is_wider_for_a_cold_keyword(simulated):
    X, model, _, _ = simulated
    cold = X.assign(entity_id=X["entity_id"] + 1_000_000)
    widths = []
    for table in (X, cold):
        low, high = model.predict_interval(table)
        rates = model.predict(table)
        assert ((low >= 0) & (low <= rates) & (rates <= high) & (high <= 1)).all()
        widths.append((high - low).mean())
    assert widths[0] < widths[1]


def test_history_brings_the_rates_nearer_to_the_truth(simulated):
    X, model, truth, mean = simulated
    off, off_cold = (np.abs(model.predict(table) - truth).mean() for table in (X, X.assign(entity_id=X["entity_id"] + 1_000_000)))
    assert off < 0.85 * off_cold < off_cold < np.abs(mean - truth).mean()


def test_intervals_are_the_same_in_blocks_of_any_size(simulated):
    X, model, _, _ = simulated
    whole = np.column_stack(model.predict_interval(X))
    blocks = [np.column_stack(model.predict_interval(X.iloc[first : first + 7])) for first in range(0, 700, 7)]
    assert np.concatenate(blocks).tobytes() == whole[:700].tobytes()


def test_a_table_without_entity_id_is_refused(simulated):
    X, model, _, _ = simulated
    with pytest.raises(TableError, match="the first is entity_id"):
        model.predict(X.drop(columns="entity_id"))


def test_a_keyword_is_found_at_both_ends_of_the_ledger():
    ledger = Ledger(entity_id=np.array([3, 9]), surplus=np.array([1.0, 2.0]), clicks=np.ones((2, 3)), conversions=np.zeros((2, 3)))
    assert ledger.find(np.array([2, 3, 9, 10]), np.zeros(4, dtype=int)).keyword_surplus.tolist() == [0.0, 1.0, 2.0, 0.0]
