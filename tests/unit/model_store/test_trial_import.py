"""A definition that kills or hangs the process that imports it is found by a child process, excluded, and named; the others are served."""

import os
import subprocess
import sys
import time

import pytest

from model_store.definitions import exclude_definition, excluded_definitions, is_tried, load_definition
from model_store.trial_import import exclude_crashing_definitions, find_crashing_definitions
from shared.errors import ModelError
from tests.conftest import REPOSITORY
from tests.trainings import GUESSING, add_definition

ABORTS, ENDS, HANGS, LEAVES, FAILS = (
    "import os\nos.abort()",
    "import os\nos._exit(0)",
    "import time\ntime.sleep(600)",
    "import sys\nsys.exit(3)",
    "raise ValueError('no')",
)


@pytest.fixture
def definitions(tmp_path):
    codes = {"a1": GUESSING, "a2": ABORTS, "a3": ENDS, "a4": LEAVES, "a5": FAILS, "a6": GUESSING, "a7": HANGS, "a8": GUESSING}
    for name, code in codes.items():
        add_definition(tmp_path / "definitions", name, code)
    return tmp_path / "definitions"


def names(definitions):
    return sorted(folder.name for folder in definitions.iterdir())


def test_those_that_kill_or_hang_are_found_and_no_others(definitions):
    assert find_crashing_definitions(names(definitions), definitions, seconds=1) == {
        "a2": "kills its process (SIGABRT)",
        "a3": "ends its process (exit code 0)",
        "a7": "does not end within 1 s",
    }


def test_one_child_tries_all_where_nothing_is_wrong(definitions, monkeypatch):
    children = []
    real = os.fork
    monkeypatch.setattr(os, "fork", lambda: children.append(1) or real())
    assert find_crashing_definitions(["a1", "a4", "a5", "a6", "a8"], definitions) == {}
    assert len(children) == 1


def test_nothing_is_tried_for_nothing():
    assert find_crashing_definitions([]) == {}


def test_a_child_whose_parent_is_gone_ends_by_itself(definitions):
    code = f"""
import os
from pathlib import Path
from model_store import trial_import
trial_import._follow = lambda *_: os._exit(0)
trial_import.find_crashing_definitions(["a7"], Path({str(definitions)!r}), seconds=-4)
"""
    began = time.monotonic()
    # ends once its child does, too, which holds its standard output
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, timeout=60)
    assert time.monotonic() - began < 50


def test_an_excluded_definition_is_not_imported_and_says_why(definitions, monkeypatch):
    monkeypatch.setattr("model_store.trial_import.find_crashing_definitions", lambda *_: {"a2": "kills its process (SIGABRT)"})
    exclude_crashing_definitions(names(definitions), definitions)
    assert excluded_definitions(definitions) == {"a2": "kills its process (SIGABRT)"}
    with pytest.raises(
        ModelError, match=r"the definition a2 kills its process \(SIGABRT\) when it is imported, and is excluded on"
    ) as refused:
        load_definition("a2", definitions)
    assert "scoring models check a2" in refused.value.next_step
    assert not is_tried("a2", definitions)


def test_a_definition_that_was_corrected_is_imported_again(definitions):
    exclude_definition("a2", definitions, "kills its process (SIGABRT)")
    add_definition(definitions, "a2", GUESSING)
    assert load_definition("a2", definitions).name == "a2"
    assert excluded_definitions(definitions) == {}
    assert is_tried("a2", definitions)
