"""A params.yaml is either a search that can be run, or refused in one sentence that names what is wrong."""

import pytest

from shared.errors import RequestError
from shared.jobs.search_config import ParameterRange, SearchConfig, read_config


def read(text: str, most: int = 100) -> SearchConfig:
    return read_config(text.encode(), "params.yaml", most)


def test_the_example_of_the_documents_is_read():
    config = read("search: grid\nfolds: 3\nparameters:\n  num_leaves: [15, 31, 63]\n  learning_rate: [0.03, 0.05]\n")
    assert (config.search, config.folds, config.count, config.stop_early) == ("grid", 3, 6, True)
    assert config.grid() == {"num_leaves": [15, 31, 63], "learning_rate": [0.03, 0.05]}


def test_ranges_are_read_and_a_number_with_an_exponent_is_one():
    config = read("search: random\ncandidates: 40\nparameters:\n  rate: {low: 1e-3, high: 0.3, log: true}\n  leaves: {low: 4, high: 64}\n")
    assert config.parameters == {"rate": ParameterRange(low=0.001, high=0.3, log=True), "leaves": ParameterRange(low=4, high=64)}
    assert not config.parameters["rate"].is_whole
    assert config.parameters["leaves"].is_whole
    assert read("parameters:\n  rate: [1e-3, .5e2]\n").grid() == {"rate": [0.001, 50.0]}


def test_a_file_of_parameters_alone_as_the_older_service_had_them_is_a_grid():
    config = read("learning_rate:\n  - 0.01\n  - 0.05\nmax_depth:\n  - 5\n  - 10\n")
    assert (config.search, config.grid()) == ("grid", {"learning_rate": [0.01, 0.05], "max_depth": [5, 10]})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it is empty"),
        ("- 1\n- 2\n", "it has no entries"),
        ("a: [1\n", "it is not YAML: .* in line 2"),
        ("a: &x [1]\nb: *x\n", "it uses an alias"),
        ("a: !!python/object/apply:os.getcwd []\n", "it is not YAML: could not determine a constructor"),
        ("a: [1]\na: [2]\n", "it is not YAML: the field 'a' is there twice in line 2"),
        ("\x00", "it is not YAML"),
        ("[" * 2000, "it is not YAML"),
        ("search: grid\nfold: 3\nparameters: {a: [1]}\n", "it has the unknown entry 'fold'; there are search, folds,"),
        ("search: grid\nnum_leaves: [1]\n", "it has the unknown entry 'num_leaves'; .* a parameter belongs below parameters"),
        ("search: grid\n", "it has no parameters: name below parameters what to try"),
        ("parameters: {}\n", "parameters: Dictionary should have at least 1 item"),
        ("parameters: {a: []}\n", "the parameter a has no values"),
        ("parameters: {a: }\n", "the parameter a has no values"),
        ("parameters: {a: 5}\n", r"the parameter a must have a list of values, like \[5\]"),
        ("a: 5\n", r"the parameter a must have a list of values, like \[5\]"),
        ("parameters: {'a b': [1]}\n", "parameters.a b: String should match pattern"),
        ("parameters: {a: [[1]]}\n", "parameters.a: "),
        ("parameters: {a: [.nan]}\n", "parameters.a: must be a finite number"),
        ("search: bayes\nparameters: {a: [1]}\n", r"search: Input should be 'grid', 'random' or 'optuna' \(got 'bayes'\)"),
        ("folds: 1\nparameters: {a: [1]}\n", "folds: Input should be greater than or equal to 2"),
        ("folds: '3'\nparameters: {a: [1]}\n", r"folds: .* integer \(got '3'\)"),
        ("parameters: {a: {low: 1, high: 2}}\n", "a is a range, and a grid takes lists"),
        ("candidates: 5\nparameters: {a: [1]}\n", "a grid has as many candidates as it has"),
        ("search: random\nparameters: {a: [1]}\n", "search: random needs candidates, the number to draw"),
        ("search: random\ncandidates: 5\nparameters: {a: {low: 2, high: 1}}\n", "parameters.a: low must be below high"),
        ("search: random\ncandidates: 5\nparameters: {a: {low: 0, high: 1, log: true}}\n", "low must be above 0 where log is true"),
        ("search: random\ncandidates: 5\nparameters: {a: {low: 0, hihg: 1}}\n", "parameters.a: "),
        ("search: random\ncandidates: 101\nparameters: {a: [1]}\n", "asks for 101 candidates, more than the 100 that SCORING_MAX_CAND"),
        ("parameters: {a: [1,2,3,4,5,6,7,8,9,10,11], b: [1,2,3,4,5,6,7,8,9,10]}\n", "asks for 110 candidates"),
        (f"a: [{'1,' * 40_000}]\n", "it is 80,006 bytes long, more than the 65,536 allowed"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_search_is_refused_in_one_sentence(text, sentence):
    with pytest.raises(RequestError, match=sentence) as caught:
        read(text)
    assert "params.yaml" in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    assert caught.value.next_step
