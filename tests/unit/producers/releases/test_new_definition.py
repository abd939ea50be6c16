"""`scoring models new` writes a whole definition or nothing, and replaces nothing."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from producers import local_definitions
from producers.cli.commands import models
from producers.cli.root import scoring
from producers.releases import new_definition
from shared.errors import RequestError
from tests.handmade import tree


def new(*arguments: str):
    return CliRunner().invoke(scoring, ["models", "new", *arguments])


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch):
    monkeypatch.delenv("SCORING_DEFINITIONS", raising=False)


def test_it_says_what_to_type_next_and_only_what_is_not_set_yet(tmp_path, monkeypatch):
    said = new("v4", "--into", str(tmp_path)).output
    assert [line.split()[0] for line in said.splitlines()[1:3]] == ["export", "scoring"]
    tested, trained = said.splitlines()[3:5]
    assert tested.endswith(f"python -m pytest {tmp_path}/tests/test_v4.py")
    assert trained == "scoring train v4"
    assert f"export SCORING_DEFINITIONS={tmp_path} " in said
    monkeypatch.setenv("SCORING_DEFINITIONS", str(tmp_path))
    said = new("v5").output
    assert "export" not in said
    assert f"pytest {tmp_path}/tests/test_v5.py" in said
    assert (tmp_path / "v5/model.py").is_file()
    printed = {"definition": "v6", "folder": f"{tmp_path}/v6", "test": f"{tmp_path}/tests/test_v6.py"}
    assert json.loads(new("v6", "--json").output) == printed


def test_where_there_is_no_pytest_no_step_says_to_type_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = new("v4", "--into", str(tmp_path)).output
    assert "-m pytest" not in said
    assert "scoring models check v4" in said


def test_a_name_that_is_taken_is_refused_and_nothing_is_written(tmp_path):
    new("v4", "--into", str(tmp_path))
    before = tree(tmp_path)
    for name, there in (("v4", f"{tmp_path}/v4"), ("v1", "model_store/v1")):
        refused = new(name, "--into", str(tmp_path)).exception
        assert isinstance(refused, RequestError)
        assert f"{there} is there already" in refused.message
    (tmp_path / "v4").rename(tmp_path / "v6")
    assert f"{tmp_path}/tests/test_v4.py is there already" in new("v4", "--into", str(tmp_path)).exception.message
    (tmp_path / "v6").rename(tmp_path / "v4")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["", "4", "../v4", "v 4", "v4@x", "tests", "latest", "x" * 65])
def test_a_name_that_cannot_be_one_is_refused(tmp_path, name):
    refused = new(name, "--into", str(tmp_path)).exception
    assert isinstance(refused, RequestError)
    assert "cannot be the name of a definition" in refused.message
    assert not tree(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    refused = new("v4", "--into", str(tmp_path / "file" / "below")).exception
    assert f"{tmp_path}/file/below" in refused.message
    assert refused.next_step == "Name another folder with --into."


def test_without_a_folder_it_goes_beside_the_others_with_its_test_among_theirs(tmp_path, monkeypatch):
    monkeypatch.setattr(local_definitions, "REPOSITORY", tmp_path)
    monkeypatch.setattr(new_definition, "REPOSITORY", tmp_path)
    package = tmp_path / "model_store"
    (package / "v1").mkdir(parents=True)
    (package / "v1/install_dependencies.sh").write_text("#!/bin/bash\n")
    monkeypatch.setattr(local_definitions, "PACKAGE", package)
    monkeypatch.setattr(models, "PACKAGE", package)
    monkeypatch.setattr(new_definition, "PACKAGE", package)
    said = new("v4").output
    assert "export" not in said
    assert set(tree(tmp_path)) == {
        "model_store/v1/install_dependencies.sh",
        *(f"model_store/v4/{name}" for name in ("__init__.py", "model.py", "install_dependencies.sh")),
        "tests/unit/model_store/test_v4.py",
    }
    assert "DEFINITIONS = None" in (tmp_path / "tests/unit/model_store/test_v4.py").read_text()


@pytest.mark.parametrize("inside", [True, False])
def test_what_it_writes_is_formatted_and_lint_clean(tmp_path, inside):
    folder = local_definitions.PACKAGE if inside else tmp_path
    for name, text in (("model.py", new_definition.MODEL), ("test_v4.py", new_definition.test_of("v4", folder))):
        command = [sys.executable, "-m", "ruff", "check", "--stdin-filename", f"{'tests' if 'test' in name else 'model_store'}/{name}", "-"]
        for arguments in (command, [*command[:3], "format", "--check", *command[4:]]):
            done = subprocess.run(arguments, input=text.replace("NAME", "v4"), capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout
