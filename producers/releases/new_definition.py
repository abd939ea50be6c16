"""``scoring models new``: writes the skeleton of a definition, which trains and scores unchanged, and its test."""

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path

from producers.local_definitions import PACKAGE, REPOSITORY
from shared.errors import RequestError

INSTALL = "install_dependencies.sh"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")

MODEL = '''"""NAME: say here in one sentence what it is."""

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

from model_store import model_template

DEFAULTS = {"n_estimators": 50, "max_depth": 8, "min_samples_leaf": 20, "random_state": 1}


class Model(model_template.Model):
    """``self.model`` is the forest; it is saved and loaded by the template, without a pickle."""

    MODEL_FILE = "model.skops"
    TRUSTED = ("sklearn.tree._tree.Tree",)

    def _model_definition(self, config: dict | None = None) -> RandomForestRegressor:
        """The untrained forest, with other parameters than ``DEFAULTS`` where ``config`` names them."""
        return RandomForestRegressor(**model_template.choose_params(DEFAULTS, config))

    def train(self, X: pd.DataFrame, y: pd.Series, sample_weight: np.ndarray | None = None) -> model_template.ModelEval:
        """Fit to the rates ``y``; ``sample_weight`` holds the clicks that each was seen on."""
        self.model = self._model_definition(self.config).fit(X, y, sample_weight)
        return self.score(y, self.predict(X))

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return the rate of each row; other rows of the block must not change it."""
        # for a booster of LightGBM, model_store.trees.Trees(booster).predict(matrix) gives the same digits in a tenth of the time
        # and Trees.from_text(text) reads one from text in a file, checked first
        return self.model.predict(X)
'''

TEST = '''"""The definition NAME keeps every promise of a definition, and learns something."""

from pathlib import Path

import numpy as np
import pytest

from model_store import checks

DEFINITIONS = FOLDER


@pytest.fixture(scope="module")
def trial():
    with checks.trial_of("NAME", DEFINITIONS) as trial:
        yield trial


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.name)
def test_it_keeps_every_promise(trial, check):
    finding = check.run(trial)
    assert finding.outcome != "failed", finding.why


def test_it_is_better_than_the_mean_on_the_rows_it_was_trained_on(trial):
    rates, happened = trial.rates, trial.table["cr"].to_numpy()
    assert np.mean((rates - happened) ** 2) < np.var(happened)
'''


def test_command(test: Path) -> str:
    """The command line of the test for the running Python; empty when pytest is not installed."""
    if importlib.util.find_spec("pytest") is None:
        return ""
    inside = "" if Path.cwd() == REPOSITORY else f"cd {REPOSITORY} && "
    return f"{inside}{shown(Path(sys.executable))} -m pytest {test if inside else shown(test)}\n"


def write_skeleton(name: str, folder: Path) -> Path:
    """Writes the definition ``folder/name`` and its test; returns the path of the test.

    Raises:
        RequestError: the name is invalid or taken; nothing is written.
    """
    if not _NAME.fullmatch(name) or name in ("tests", "latest"):
        raise RequestError(
            f"{name!r} cannot be the name of a definition: it begins with a letter, and letters, digits and _ follow",
            next_step="Choose a name like v4.",
        )
    test = (REPOSITORY / "tests/unit/model_store" if folder == PACKAGE else folder / "tests") / f"test_{name}.py"
    for there in (folder / name, PACKAGE / name, test):
        if there.exists():
            raise RequestError(f"{shown(there)} is there already", next_step="Choose another name, or move it away.")
    files = {
        folder / name / "__init__.py": "",
        folder / name / "model.py": MODEL.replace("NAME", name),
        test: test_of(name, folder),
    }
    try:
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        shutil.copy(PACKAGE / "v1" / INSTALL, folder / name / INSTALL)
    except OSError as error:
        raise RequestError(f"{error.filename} cannot be written: {error.strerror}", next_step="Name another folder with --into.") from error
    return test


def test_of(name: str, folder: Path) -> str:
    """The text of the test, for a definition in this folder."""
    text = TEST.replace("NAME", name)
    if folder == PACKAGE:
        return text.replace("from pathlib import Path\n\n", "").replace("FOLDER", "None")
    return text.replace("FOLDER", "Path(__file__).resolve().parents[1]")


def shown(path: Path) -> str:
    """The path in its shorter form, relative or absolute."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
