"""What a search tries follows from its config and from what is known so far, and no candidate comes up twice."""

import sys

import pytest

from shared.errors import RequestError
from shared.jobs.search_config import SearchConfig
from workers.training.search.candidates import OPTUNA_AT_ONCE, propose


def config(**more) -> SearchConfig:
    return SearchConfig.model_validate(more)


def test_a_grid_holds_every_combination_once():
    candidates = propose(config(parameters={"a": [1, 2, 1], "b": [0.5, None]}), [])
    assert candidates == [{"a": 1, "b": 0.5}, {"a": 1, "b": None}, {"a": 2, "b": 0.5}, {"a": 2, "b": None}]
    assert propose(config(parameters={"a": [1]}), [({"a": 1}, 0.2)]) == []


def test_random_candidates_differ_lie_in_their_ranges_and_follow_from_the_seed():
    parameters = {
        "rate": {"low": 0.001, "high": 0.3, "log": True},
        "leaves": {"low": 4, "high": 64, "log": True},
        "depth": {"low": 1, "high": 3},
        "kind": ["a", "b"],
    }
    asked = config(search="random", candidates=200, seed=7, parameters=parameters)
    candidates = propose(asked, [])
    assert candidates == propose(asked, [])
    assert candidates != propose(config(search="random", candidates=200, seed=8, parameters=parameters), [])
    assert len({tuple(one.values()) for one in candidates}) == 200
    assert all(0.001 <= one["rate"] <= 0.3 for one in candidates)
    assert {one["depth"] for one in candidates} == {1, 2, 3}
    assert {one["kind"] for one in candidates} == {"a", "b"}
    assert {type(one["leaves"]) for one in candidates} == {int}
    assert min(one["leaves"] for one in candidates) == 4
    # the logarithm is even: about half lies below the geometric mean, far more than half below the arithmetic one
    assert 70 < sum(one["rate"] < 0.0173 for one in candidates) < 130


def test_a_space_with_fewer_candidates_than_were_asked_for_gives_all_it_has():
    candidates = propose(config(search="random", candidates=50, parameters={"a": [1, 2], "b": {"low": 1, "high": 3}}), [])
    assert len(candidates) == 6


def test_optuna_is_asked_in_lots_learns_from_what_was_tried_and_ends():
    pytest.importorskip("optuna", reason="the extra optuna is not installed")
    parameters = {"x": {"low": -10.0, "high": 10.0}, "leaves": {"low": 2, "high": 64, "log": True}, "kind": ["good", "bad", None]}
    asked = config(search="optuna", candidates=60, seed=3, parameters=parameters)
    tried = []
    while lot := propose(asked, tried):
        assert lot == propose(asked, tried), "the same is known, so the same is asked"
        assert len(lot) <= OPTUNA_AT_ONCE
        tried += [(one, None if one["kind"] is None else (one["x"] - 3) ** 2 + (one["kind"] == "bad") * 50) for one in lot]
    assert len(tried) == 60
    known = [(one["x"] - 3) ** 2 for one, loss in tried if loss is not None]
    assert sum(known[-15:]) / 15 < sum(known[:15]) / 15 / 2, "it does not look where it was good"


def test_a_worker_without_optuna_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RequestError, match=r"optuna is not installed on the worker. Type: pip install .\[optuna\]"):
        propose(config(search="optuna", candidates=5, parameters={"a": [1]}), [])
