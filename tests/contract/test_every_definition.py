"""Every definition keeps every promise; and every check of a promise can fail."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_store import checks
from model_store.definitions import list_definitions
from tests.conftest import READY_PROGRAMS
from tests.definitions import BOOSTED, LINEAR, OWN_KEYS, drop_in

REPOSITORY = Path(__file__).resolve().parents[2]

SMALL = """
from pathlib import Path
import numpy as np
from model_store import model_template

data_preparation = model_template.data_preparation

class Model(model_template.Model):
    MODEL_FILE = "model.npy"

    def _model_definition(self, config=None):
        return None

    def train(self, X, y, sample_weight=None):
        self.model = np.array([np.average(y, weights=sample_weight)])
        return self.score(y, self.predict(X))

    def predict(self, X):
        return self.model[0] + 0.01 * X["computer"].to_numpy(np.float64)

    def predict_interval(self, X):
        return self.predict(X) * 0.5, np.minimum(self.predict(X) * 2, 1)

    def save(self, path):
        Path(path).mkdir(parents=True, exist_ok=True)
        np.save(Path(path) / "model.npy", self.model)

    def load(self, path):
        self.model = np.load(path)
"""
"""A definition that keeps every promise: the mean, and a little more for computers."""

FROM_TEMPLATE = "data_preparation = model_template.data_preparation\n"
BREAKS = {
    "prepares_for_training": (
        FROM_TEMPLATE,
        """
def data_preparation(df, target_col="cr", cols_to_drop=["entity_id"]):
    X, y, error = model_template.data_preparation(df, target_col, cols_to_drop)
    return X, y if y is None else y[::-1], error
""",
        "the target is not the column cr",
    ),
    "prepares_for_scoring": (
        FROM_TEMPLATE,
        """
def data_preparation(df, target_col="cr", cols_to_drop=["entity_id"]):
    X, y, error = model_template.data_preparation(df, target_col, cols_to_drop)
    return (X[X.columns[::-1]] if target_col is None else X), y, error
""",
        "not those of training, in the same order",
    ),
    "reports_a_missing_column": (
        FROM_TEMPLATE,
        """
def data_preparation(df, target_col="cr", cols_to_drop=["entity_id"]):
    away = cols_to_drop if target_col is None else [*cols_to_drop, target_col]
    return df.drop(columns=away), None if target_col is None else df[target_col], None
""",
        "KeyError",
    ),
    "train_returns_mse": ("return self.score(y, self.predict(X))", "return 0.5", "train returned 0.5"),
    "predicts_every_row": ("return self.model[0] +", "return np.nan +", "not finite for 1200 of 1200 rows"),
    "predicts_one_row": ("return self.model[0] +", "return self.model[int(len(X) == 1)] +", "IndexError"),
    "predict_changes_nothing": ("return self.model[0] +", 'X["new"] = 1; return self.model[0] +', "others after predict"),
    "rows_are_independent": (
        "return self.model[0] +",
        "return self.model[0] + 1e-12 * np.arange(len(X)) +",
        "chunks of another size give another output",
    ),
    "intervals_hold_the_rates": ("self.predict(X) * 0.5", "self.predict(X) * 1.5", "rates do not lie in their interval"),
    "training_is_deterministic": ("np.average(y, weights=sample_weight)", "np.random.default_rng().random()", "fix the seed"),
    "heeds_weights": ("weights=sample_weight", "weights=None", "the same with and without weights"),
    "saves_a_file": ('MODEL_FILE = "model.npy"', 'MODEL_FILE = "model.bin"', "there is no model.bin"),
    "loads_what_it_saved": ("self.model = np.load(path)", "self.model = np.load(path) + 1e-9", "differ after loading"),
    "loads_in_a_fresh_process": (
        "return self.model[0] +",
        "import os; return self.model[0] + 1e-9 * os.getpid() +",
        "differ in the other process",
    ),
    "refuses_a_damaged_file": ("self.model = np.load(path)", "self.model = np.zeros(1)", "it loads a file that is empty"),
    "has_an_install_script": ("", "", "syntax error"),
}
"""Check -> the text of the small definition to replace, what by, and a part of what the check says then."""


class ForkedProcess:
    """What ``checks`` starts Python with: a process that has the libraries forks itself."""

    def __getattr__(self, name):
        return getattr(subprocess, name)

    def run(self, command, **options):
        return READY_PROGRAMS.run(command, **options)


@pytest.fixture(autouse=True, scope="module")
def quick_processes() -> Iterator[None]:
    """The other process of a check is a fork; that a new one does as well is shown by the test of the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "subprocess", ForkedProcess())
        yield


@pytest.fixture(scope="module", params=list_definitions())
def trial(request):
    with checks.trial_of(request.param) as trial:
        yield trial


def make_definition(parent: Path, name: str, source: str) -> Path:
    folder = parent / name
    folder.mkdir()
    (folder / "model.py").write_text(source)
    (folder / "install_dependencies.sh").write_text("#!/bin/bash\nexit 0\n")
    return folder


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.name)
def test_every_definition_keeps_every_promise(trial, check):
    finding = check.run(trial)
    assert finding.outcome != "failed", f"{trial.definition.name}: {finding.promise}: {finding.why}"


def test_the_small_definition_keeps_every_promise(tmp_path):
    make_definition(tmp_path, "small", SMALL)
    assert {finding.check: finding.outcome for finding in checks.run_checks("small", tmp_path)} == {
        check.name: "ok" for check in checks.CHECKS
    }


def test_there_is_a_broken_definition_for_every_check():
    assert BREAKS.keys() == {check.name for check in checks.CHECKS}


@pytest.mark.parametrize("name", BREAKS)
def test_every_check_can_fail_and_says_why(name, tmp_path):
    old, new, says = BREAKS[name]
    assert old in SMALL
    folder = make_definition(tmp_path, "broken", SMALL.replace(old, new) if old else SMALL)
    if name == "has_an_install_script":
        (folder / "install_dependencies.sh").write_text("if then\n")
    check = next(check for check in checks.CHECKS if check.name == name)
    with checks.trial_of("broken", tmp_path) as trial:
        finding = check.run(trial)
    assert finding.outcome == "failed"
    assert says in finding.why


def test_a_definition_that_still_needs_its_file_after_loading_is_reported(tmp_path):
    lazy = SMALL.replace("self.model = np.load(path)", "self.path = path")
    make_definition(tmp_path, "lazy", lazy.replace("return self.model[0] +", "return (self.model or np.load(self.path))[0] +"))
    finding = {finding.check: finding for finding in checks.run_checks("lazy", tmp_path)}["loads_what_it_saved"]
    assert (finding.outcome, "FileNotFoundError" in finding.why) == ("failed", True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("np.minimum(self.predict(X) * 2, 1)", "self.predict(X) * 200"), "intervals reach outside [0, 1]"),
        (("return self.predict(X) * 0.5, np.minimum", "return np.minimum"), "gave ndarray, not (low, high)"),
        (("np.minimum(self.predict(X) * 2, 1)", "np.ones(1)"), "predict_interval gave an array of shape (1,) for 1200 rows"),
        (("self.predict(X) * 0.5", "self.predict(X) / (2 + np.arange(len(X)))"), "chunks of another size give another output"),
    ],
)
def test_an_interval_that_cannot_be_is_reported_in_words(tmp_path, change, says):
    make_definition(tmp_path, "small", SMALL.replace(*change))
    finding = {finding.check: finding for finding in checks.run_checks("small", tmp_path)}["intervals_hold_the_rates"]
    assert (finding.outcome, says in finding.why) == ("failed", True), finding.why


def test_a_definition_with_keys_of_its_own_and_text_is_asked_all_the_same(tmp_path):
    drop_in(tmp_path, "own", OWN_KEYS)
    with checks.trial_of("own", tmp_path) as trial:
        assert trial.features.columns.tolist() == ["keyword", "price"]
        assert {check.name: check.run(trial).outcome for check in checks.CHECKS} == {check.name: "ok" for check in checks.CHECKS}


@pytest.mark.parametrize("source", [LINEAR, BOOSTED], ids=["linear", "boosted"])
def test_an_older_definition_is_not_asked_what_it_does_not_have(tmp_path, source):
    drop_in(tmp_path, "older", source, template=True)
    findings = {finding.check: finding for finding in checks.run_checks("older", tmp_path)}
    unasked = {"heeds_weights", "intervals_hold_the_rates"}
    assert {name for name, finding in findings.items() if finding.outcome == "not asked"} == unasked
    others = {name: finding.outcome for name, finding in findings.items() if name not in {*unasked, "rows_are_independent"}}
    assert set(others.values()) == {"ok"}


def test_a_matrix_product_that_rounds_by_place_is_reported_in_words(tmp_path):
    drop_in(tmp_path, "older", LINEAR, template=True)
    finding = {finding.check: finding for finding in checks.run_checks("older", tmp_path)}["rows_are_independent"]
    if finding.outcome == "ok":
        pytest.skip("the matrix product of this machine rounds a row alike wherever it stands")
    assert "A matrix product does this" in finding.why


@pytest.mark.parametrize(
    ("program", "change", "code", "outcome"),
    [
        (["producers.cli", "models", "check"], ("", ""), 0, "ok"),
        (["model_store.checks"], ("self.predict(X))", "self.predict(X[::-1])).mse"), 4, "failed"),
    ],
    ids=["scoring", "checks"],
)
def test_the_command_prints_json_and_exits_with_what_it_found(tmp_path, program, change, code, outcome):
    make_definition(tmp_path, "small", SMALL.replace(*change) if change[0] else SMALL)
    command = [sys.executable, "-m", *program, "small", "--json", *(["--extra", str(tmp_path)] if len(program) == 1 else [])]
    environment = os.environ | {"SCORING_DEFINITIONS": str(tmp_path)}
    run = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (code, "")
    printed = json.loads(run.stdout)
    assert printed["ok"] is (code == 0)
    assert {one["check"]: one["outcome"] for one in printed["checks"]}["train_returns_mse"] == outcome


def test_the_command_prints_sentences(tmp_path, capsys):
    make_definition(tmp_path, "broken", SMALL.replace("weights=sample_weight", "weights=None"))
    assert checks.main(["broken", "--extra", str(tmp_path)]) == 4
    printed = capsys.readouterr().out
    assert "   failed  train uses sample_weight\n           the rates are the same with and without weights" in printed
    assert printed.endswith(f"broken: 1 of {len(checks.CHECKS)} promises broken\n")


def test_the_command_names_the_known_definitions_when_there_is_none_of_the_name(capsys):
    assert checks.main(["nothing"]) == 4
    assert f"there are: {', '.join(list_definitions())}" in capsys.readouterr().err


def test_a_definition_is_tried_on_a_table_of_ones_own(tmp_path):
    picky = SMALL.replace(
        'return self.model[0] + 0.01 * X["computer"].to_numpy(np.float64)',
        "return self.model[0] + 0.001 * np.array([{1.5: 1, 99.0: 2}[price] for price in X['price']])",
    ).replace('MODEL_FILE = "model.npy"', 'MODEL_FILE = "model.npy"\n    COLUMNS = ("price",)')
    make_definition(tmp_path, "picky", picky)
    rows = [
        f"{number},{('Computer', 'Tablet')[number % 2]},{(1.5, 99.0)[number % 2]},{number % 7 + 1},{number % 2}" for number in range(60)
    ]
    table = tmp_path / "own.csv"
    table.write_text("\n".join(["entity_id,device,price,Clicks,Conversions", *rows, ""]))
    made_up = {finding.check: finding for finding in checks.run_checks("picky", tmp_path)}
    assert "KeyError" in made_up["predicts_every_row"].why
    assert {finding.outcome for finding in checks.run_checks("picky", tmp_path, table)} == {"ok"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("entity_id,device,Clicks,Conversions\n1,Watch,1,0\n", "line 2, column device: 'Watch' is not one of Computer, Smartphone, Tablet"),
        ("entity_id,device,att1\n1,Tablet,1\n", "has neither Clicks and Conversions nor cr"),
        ("entity_id,device,att1,cr\n1,Tablet,x,0.5\n", "line 2, column att1: 'x' is not a finite number"),
        ("device,att1,cr\nTablet,1,0.5\n", "lacks the column entity_id"),
        ("entity_id,device,att1,Clicks,Conversions\n1,Tablet,1,0,0\n", "has no row with clicks"),
        ("", "cannot be read"),
    ],
)
def test_a_table_of_ones_own_that_cannot_be_used_is_refused_in_words(tmp_path, capsys, text, says):
    make_definition(tmp_path, "small", SMALL)
    (tmp_path / "own.csv").write_text(text)
    assert checks.main(["small", "--extra", str(tmp_path), "--table", str(tmp_path / "own.csv")]) == 3
    assert says in capsys.readouterr().err


def test_where_a_promise_is_broken_on_made_up_values_the_command_says_so_and_how_to_give_others(tmp_path, capsys):
    make_definition(
        tmp_path, "short", SMALL.replace("return self.model[0] +", "return self.model[0] + 0 * X['att1'].iloc[1:].to_numpy() +")
    )
    make_definition(tmp_path, "cut", SMALL.replace('X["computer"].to_numpy(np.float64)', 'X["computer"].to_numpy(np.float64)[1:]'))
    assert checks.main(["cut", "--extra", str(tmp_path)]) == 4
    printed = capsys.readouterr().out
    assert printed.startswith("The values are made up: ")
    assert "scoring models check cut --table FILE" in printed
    assert "there are 1,199 predictions for 1,200 rows" in printed
    assert f"{tmp_path}/cut/model.py, line " in printed
