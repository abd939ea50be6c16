"""Definitions are found by their folders and refused with one sentence that says what is wrong and where."""

import ast
import pickle
import shutil
import socket
import sys
from pathlib import Path

import pytest

from model_store import definitions, model_template
from model_store.definitions import list_definitions, load_definition
from shared.errors import ModelError
from tests.conftest import REPOSITORY

GOOD = """
from model_store import model_template

class Model(model_template.Model):
    def _model_definition(self, config=None):
        pass
    def train(self, X, y):
        self.model = float(y.mean())
    def predict(self, X):
        return [self.model] * len(X)
"""


def write(parent: Path, name: str, source: str, **others: str) -> Path:
    folder = parent / name
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(source)
    for stem, text in others.items():
        (folder / f"{stem}.py").write_text(text)
    return folder


def refusal(name: str, extra: Path) -> str:
    with pytest.raises(ModelError) as raised:
        load_definition(name, extra)
    return str(raised.value)


def test_definitions_are_the_folders_with_a_model(tmp_path):
    for name in ("w10", "w2", "w1"):
        write(tmp_path, name, GOOD)
    (tmp_path / "notes").mkdir()
    write(tmp_path, ".hidden", GOOD)
    own = list_definitions()
    assert own == sorted(file.parent.name for file in definitions.PACKAGE_FOLDER.glob("*/model.py"))
    assert list_definitions(tmp_path) == [*own, "w1", "w2", "w10"]


@pytest.mark.parametrize("name", list_definitions())
def test_a_definition_of_the_repository_is_imported_as_part_of_its_package(name):
    definition = load_definition(name)
    assert definition.model_class.__module__ == f"model_store.{name}.model"
    assert definition.source_sha256 == definitions.digest_source(definition.folder)
    assert definition is load_definition(name)


def test_no_code_names_a_definition_besides_its_own_folder():
    known = set(list_definitions())
    for file in definitions.PACKAGE_FOLDER.glob("*.py"):
        strings = {
            node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        assert not known & strings, f"{file} names a definition"


def test_what_a_definition_does_not_say_is_the_default(tmp_path):
    write(tmp_path, "plain", GOOD)
    definition = load_definition("plain", tmp_path)
    assert definition.data_preparation is model_template.data_preparation
    assert (definition.keys, definition.columns, definition.model_file) == (("entity_id", "device"), None, "model.pkl")


def test_what_a_definition_says_is_taken(tmp_path):
    attributes = "    KEYS = ['campaign_id', 'device']\n    COLUMNS = ['att1']\n    MODEL_FILE = 'm.txt'\n"
    said = GOOD + attributes + "\ndef data_preparation(df, **how):\n    pass\n"
    write(tmp_path, "says", said)
    definition = load_definition("says", tmp_path)
    assert definition.data_preparation.__module__ == definition.model_class.__module__
    assert (definition.keys, definition.columns, definition.model_file) == (("campaign_id", "device"), ("att1",), "m.txt")


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ("KEYS = ()", "has KEYS that are not one or more different names: ()"),
        ("KEYS = ('a', 'a')", "has KEYS that are not one or more different names"),
        ("KEYS = ('keyword', 'cr')", "has cr among its KEYS, which means something else in a table"),
        ("COLUMNS = ('att1',); TEXT = ('title',)", "has title in TEXT but not in COLUMNS"),
        ("KEYS = ('keyword',); COLUMNS = ('keyword',)", "has keyword in KEYS and in COLUMNS"),
    ],
)
def test_columns_that_contradict_each_other_are_refused(tmp_path, attributes, says):
    write(tmp_path, "wrong", GOOD + f"    {attributes}\n")
    assert says in refusal("wrong", tmp_path)


def test_an_outside_definition_may_import_the_files_beside_it(tmp_path):
    write(tmp_path, "split", "from .parts import Model\n", parts=GOOD, __init__="")
    write(tmp_path, "bare", "from .parts import Model\n", parts=GOOD)
    assert load_definition("split", tmp_path).model_class.__module__.endswith(".parts")
    assert load_definition("bare", tmp_path).model_class.__module__.endswith(".parts")


def test_a_changed_source_is_another_definition(tmp_path):
    write(tmp_path, "moving", GOOD + "    STEP = 1\n")
    first = load_definition("moving", tmp_path)
    assert load_definition("moving", tmp_path) is first
    write(tmp_path, "moving", GOOD + "    STEP = 22\n")
    second = load_definition("moving", tmp_path)
    assert (first.model_class.STEP, second.model_class.STEP) == (1, 22)
    assert first.source_sha256 != second.source_sha256


def test_definitions_of_one_name_from_two_folders_do_not_mix(tmp_path):
    for parent, step in (("a", 1), ("b", 2)):
        (tmp_path / parent).mkdir()
        write(tmp_path / parent, "twin", GOOD + f"    STEP = {step}\n")
    assert [load_definition("twin", tmp_path / parent).model_class.STEP for parent in "ab"] == [1, 2]


def test_what_an_outside_definition_pickled_is_found_again(tmp_path):
    write(tmp_path, "pickles", GOOD + "\nclass Held:\n    pass\n")
    held = sys.modules[load_definition("pickles", tmp_path).model_class.__module__].Held()
    assert type(pickle.loads(pickle.dumps(held))) is type(held)


def test_an_older_definition_may_load_the_template_by_its_path(tmp_path):
    shutil.copy(model_template.__file__, tmp_path / "model_template.py")
    by_path = """
import importlib.util, os
path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "model_template.py")
spec = importlib.util.spec_from_file_location("model_template", path)
model_template = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model_template)
"""
    write(tmp_path, "older", GOOD.replace("from model_store import model_template\n", by_path))
    first = load_definition("older", tmp_path)
    assert first.model_class.__name__ == "Model"
    with (tmp_path / "model_template.py").open("a") as template:
        template.write("\n# changed\n")
    assert load_definition("older", tmp_path).source_sha256 != first.source_sha256
    (tmp_path / "model_template.py").unlink()
    assert f"Put the template there: cp {model_template.__file__} {tmp_path}/" in refusal("older", tmp_path)


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    write(tmp_path, "w1", GOOD)
    said = refusal("../w1", tmp_path)
    assert said.startswith(
        f"there is no definition '../w1' on {socket.gethostname()}; there are: {', '.join(list_definitions(tmp_path))} ("
    )
    assert f"(SCORING_DEFINITIONS is {tmp_path} there)" in said
    assert "scoring models new NAME" in said


def test_where_no_further_definitions_are_known_the_variable_that_names_them_is_named():
    with pytest.raises(ModelError) as raised:
        load_definition("w1")
    assert "(SCORING_DEFINITIONS is not set there)" in raised.value.message
    assert raised.value.next_step.startswith("If it lies in a folder of its own, name the folder above it in SCORING_DEFINITIONS")


def test_a_name_that_is_here_already_is_refused(tmp_path):
    name = list_definitions()[0]
    folder = write(tmp_path, name, GOOD)
    said = refusal(name, tmp_path)
    assert f"the definition {name} is both in" in said
    assert str(folder) in said


def test_a_missing_folder_of_further_definitions_is_named(tmp_path):
    with pytest.raises(ModelError, match="nowhere is not there"):
        list_definitions(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("source", "says", "line"),
    [
        ("import os\nimport no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'", 2),
        ("x = 1\n\n1 / 0\n", "ZeroDivisionError: division by zero", 3),
        ("x = (\n", "SyntaxError", 1),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3", 2),
    ],
)
def test_an_import_that_fails_is_quoted_with_file_and_line(tmp_path, source, says, line):
    folder = write(tmp_path, "fails", source)
    said = refusal("fails", tmp_path)
    assert says in said
    assert f"({folder / 'model.py'}, line {line})" in said
    assert not [name for name in sys.modules if name.startswith("definition_fails")]


def test_a_library_of_older_definitions_that_is_missing_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)  # as if it were not installed
    write(tmp_path, "older", "import xgboost\n")
    with pytest.raises(ModelError, match="the definition older does not import: ModuleNotFoundError") as refused:
        load_definition("older", tmp_path)
    lock = "requirements-xgboost.lock"
    assert refused.value.next_step.startswith(
        f"Type, for every worker: pip install --require-hashes -r {lock}, then try: scoring models check"
    )
    assert f"--extra xgboost --output-file {lock}" in (REPOSITORY / "lock.sh").read_text()
    assert "\nxgboost==" in (REPOSITORY / lock).read_text()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\n", "has no class Model in"),
        ("Model = 3\n", "has no class Model in"),
        (GOOD.replace("def train", "def fit"), "the class Model of the definition lacking lacks train"),
        ("class Model:\n    def train(self, X, y): pass\n", "lacks _model_definition, score, predict, save, load"),
    ],
)
def test_a_class_that_lacks_something_is_refused_by_name(tmp_path, source, says):
    write(tmp_path, "lacking", source)
    assert says in refusal("lacking", tmp_path)
