"""Trees take the arguments of a booster, and never predict with other trees than theirs."""

import copy
import pickle

import lightgbm
import numpy as np
import pytest

from model_store.trees import Trees
from model_store.trees.booster import CHANGES, Way, same_bits
from model_store.trees.evaluator import MOST_FEATURES
from model_store.trees.text import ModelTextError

ROWS = np.random.default_rng(1).random((600, 3))
FIXED = {"num_threads": 1, "verbosity": -1, "min_data_in_leaf": 5}


@pytest.fixture(scope="module")
def booster() -> lightgbm.Booster:
    return lightgbm.train({**FIXED, "objective": "poisson", "num_leaves": 7}, lightgbm.Dataset(ROWS, ROWS[:, 0]), 4)


def test_positional_arguments_mean_what_they_mean_to_lightgbm(booster: lightgbm.Booster) -> None:
    trees = Trees(booster)
    assert trees.way is Way.BITWISE
    assert same_bits(trees.predict(ROWS, 1, 2), booster.predict(ROWS, 1, 2))
    assert not same_bits(trees.predict(ROWS, 1), trees.predict(ROWS))
    assert same_bits(trees.predict(ROWS, num_threads=1), booster.predict(ROWS))


def test_the_caller_may_write_to_the_predictions(booster: lightgbm.Booster) -> None:
    assert Trees(booster).predict(ROWS).flags.writeable


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_method_that_changes_the_trees_is_missing(booster: lightgbm.Booster, name: str) -> None:
    assert callable(getattr(booster, name))
    with pytest.raises(AttributeError, match=f"{name} would change the trees"):
        getattr(Trees(booster), name)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda trees: pickle.loads(pickle.dumps(trees))])
def test_a_copy_is_fast_too(booster: lightgbm.Booster, copied) -> None:
    other = copied(Trees(booster))
    assert (type(other), other.way) == (Trees, Way.BITWISE)
    assert same_bits(other.predict(ROWS), booster.predict(ROWS))


def test_a_text_is_checked_before_lightgbm_reads_it(booster: lightgbm.Booster) -> None:
    text = booster.model_to_string()
    assert same_bits(Trees.from_text(text).predict(ROWS), booster.predict(ROWS))
    with pytest.raises(ModelTextError, match="not a parameter: foo"):
        Trees.from_text(text.replace("parameters:\n", "parameters:\nfoo\n", 1))


def test_trees_of_very_many_features_are_left_to_lightgbm() -> None:
    wide = np.zeros((40, MOST_FEATURES + 1), dtype=np.float32)
    wide[:, 7] = np.arange(40)
    booster = lightgbm.train({**FIXED, "objective": "regression"}, lightgbm.Dataset(wide, wide[:, 7]), 1)
    assert Trees(booster).reason == "there are 10,001 features, more than 10,000"
