"""Predictions of trees are those of LightGBM to the last bit."""

from collections.abc import Sequence
from typing import Any

import hypothesis
import hypothesis.strategies as st
import lightgbm
import numpy as np
import pytest
from hypothesis import given

from model_store.trees import Trees
from model_store.trees.booster import Way, same_bits
from model_store.trees.evaluator import Evaluator
from model_store.trees.text import read_forest

OBJECTIVES = ("cross_entropy", "binary", "regression", "poisson", "tweedie", "gamma", "huber", "quantile")
COLUMNS = ("flag", "float", "whole", "category", "sparse", "tiny", "huge", "constant")
ODD = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-35, -1e-35, 1e-36, 1e-40, 5e-324, 1e300, -1e300, 3e9, -0.5, 0.5, 63.9, 64, 1e6])
BLOCKS = (1, 63, 64, 65, 10_000)


def column_of(kind: str, rows: int, random: np.random.Generator) -> np.ndarray:
    return {
        "flag": lambda: random.integers(0, 2, rows),
        "float": lambda: random.standard_normal(rows),
        "whole": lambda: random.integers(-5, 6, rows),
        "category": lambda: random.integers(0, 70, rows),
        "sparse": lambda: np.where(random.random(rows) < 0.8, 0.0, random.standard_normal(rows)),
        "tiny": lambda: random.choice([-3e-35, -1e-35, -1e-36, 0.0, 1e-36, 1e-35, 2e-35], rows),
        "huge": lambda: random.choice([-1e308, -1e30, 0.0, 1e30, 1e38, 1e39, 1e308], rows),
        "constant": lambda: np.ones(rows),
    }[kind]().astype(np.float64)


@st.composite
def params_of_training(draw: st.DrawFn) -> dict[str, Any]:
    """Parameters of LightGBM."""
    objective = draw(st.sampled_from(OBJECTIVES))
    return {
        "objective": objective,
        "sigmoid": draw(st.sampled_from([1, 0.7])),
        "num_leaves": draw(st.sampled_from([2, 3, 15, 31, 63, 127, 255])),
        "max_depth": draw(st.sampled_from([-1, *range(1, 13)])),
        "min_data_in_leaf": draw(st.sampled_from([1, 3, 20])),
        "max_bin": draw(st.sampled_from([2, 15, 255, 1000])),
        "min_data_in_bin": draw(st.sampled_from([1, 3])),
        "learning_rate": draw(st.sampled_from([0.05, 0.5])),
        "boosting": draw(st.sampled_from(["gbdt", "gbdt", "dart", "goss"])),
        "zero_as_missing": draw(st.booleans()),
        "use_missing": draw(st.sampled_from([True, True, False])),
        "max_cat_to_onehot": draw(st.sampled_from([1, 4, 100])),
        "boost_from_average": draw(st.booleans()),
        "num_iterations": draw(st.sampled_from([1, 2, 7, 30])),
    }


FIXED = {"min_sum_hessian_in_leaf": 1e-3, "cat_smooth": 1, "min_data_per_group": 1, "feature_pre_filter": False}
FIXED |= {"seed": 1, "num_threads": 1, "verbosity": -1}


def train(params: dict[str, Any], kinds: Sequence[str], rows: int, missing: float, random: np.random.Generator) -> tuple[Any, np.ndarray]:
    """A booster, and the values that it was trained on."""
    values = np.stack([column_of(kind, rows, random) for kind in kinds], axis=1)
    values[random.random(values.shape) < missing] = np.nan
    score = (np.nan_to_num(np.clip(values, -3, 3)) * random.standard_normal(len(kinds))).sum(axis=1) + random.standard_normal(rows)
    target = (score > 0).astype(float) if params["objective"] == "binary" else 1 / (1 + np.exp(-score))
    categories = [place for place, kind in enumerate(kinds) if kind == "category"]
    try:
        return lightgbm.train(params | FIXED, lightgbm.Dataset(values, target, categorical_feature=categories)), values
    except lightgbm.basic.LightGBMError:
        hypothesis.reject()  # it ends some trainings on odd values with "Check failed"


def table_for(booster: lightgbm.Booster, trained_on: np.ndarray, rows: int, random: np.random.Generator) -> np.ndarray:
    """Rows whose values are those of training, thresholds, neighbours of these, and odd ones, in any mixture."""
    values = trained_on[random.integers(0, len(trained_on), rows)]
    forest = read_forest(booster.model_to_string())
    feature, threshold = (np.concatenate([getattr(tree, name) for tree in forest.trees]) for name in ("feature", "threshold"))
    for place in range(values.shape[1]):
        near = threshold[feature == place]
        near = np.concatenate([near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf), near.astype(np.float32), ODD])
        values[:, place] = np.where(random.random(rows) < 0.5, values[:, place], random.choice(near, rows))
    return values


@given(
    params=params_of_training(),
    kinds=st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=8),
    trained=st.sampled_from([50, 400, 1500]),
    missing=st.sampled_from([0.0, 0.0, 0.1, 0.6]),
    seed=st.integers(0, 2**32),
    rows=st.sampled_from(BLOCKS),
    offset=st.integers(0, 130),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_every_prediction_is_lightgbms_to_the_last_bit(  # noqa: PLR0917 - hypothesis passes them by name
    params: Any, kinds: list[str], trained: int, missing: float, seed: int, rows: int, offset: int, dtype: type
) -> None:
    random = np.random.default_rng(seed)
    booster, trained_on = train(params, kinds, trained, missing, random)
    with np.errstate(over="ignore"):
        table = table_for(booster, trained_on, offset + rows, random).astype(dtype)[offset:]
    expected = booster.predict(table, num_threads=1)
    trees, forest = Trees(booster), read_forest(booster.model_to_string())
    has_split = any(len(tree.values) > 1 for tree in forest.trees)
    assert trees.way is (Way.BITWISE if has_split else Way.LIGHTGBM), trees.reason
    assert same_bits(trees.predict(table, num_threads=1), expected)
    if has_split:  # with few rows too, which Trees leaves to LightGBM
        assert same_bits(Evaluator(forest).predict(table), expected)


@pytest.mark.parametrize(("rounds", "leaves", "rows"), [(2000, 3, 100), (20, 255, 3000)])
def test_thousands_of_trees_and_trees_of_255_leaves_give_lightgbms_digits(rounds: int, leaves: int, rows: int) -> None:
    random = np.random.default_rng(5)
    params = {"objective": "cross_entropy", "num_leaves": leaves, "min_data_in_leaf": 1, "num_iterations": rounds, "learning_rate": 0.01}
    booster, trained_on = train(params, ["flag", "float", "float", "category"], rows, 0.02, random)
    assert max(len(tree.values) for tree in read_forest(booster.model_to_string()).trees) == leaves
    trees, table = Trees(booster), table_for(booster, trained_on, 5000, random)
    assert trees.way is Way.BITWISE, trees.reason
    assert same_bits(trees.predict(table), booster.predict(table, num_threads=1))
