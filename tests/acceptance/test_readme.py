"""Every command that the README gives in an `sh` block is run, and its model is added, checked and trained."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Place

README = (REPOSITORY / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_every_command_of_the_readme_works(stack: Place) -> None:
    definition = Path(stack.environment["SCORING_DEFINITIONS"]) / "v3"
    definition.mkdir(parents=True)
    [model] = blocks("python")
    (definition / "model.py").write_text(model)
    (definition / "__init__.py").touch()
    (definition / "install_dependencies.sh").write_bytes((REPOSITORY / "model_store/v1/install_dependencies.sh").read_bytes())
    path = f"{Path(sys.executable).parent}:{stack.environment['PATH']}"
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) > 8
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=REPOSITORY,
            env=stack.environment | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert any(release["definition"] == "v3" for release in stack.scoring_json("models", "list"))


def test_own_model_takes_fifteen_lines() -> None:
    [model] = blocks("python")
    assert len([line for line in model.splitlines() if line.strip()]) <= 15


def test_readme_names_every_variable_that_is_read() -> None:
    settings = (REPOSITORY / "shared/settings.py").read_text()
    fields = re.findall(r"^    (\w+): .* = ", settings, flags=re.MULTILINE)
    named = re.findall(r'validation_alias="(\w+)"', settings)
    variables = named + [f"SCORING_{name.upper()}" for name in fields if name.upper() not in named]
    assert [variable for variable in variables if f"`{variable}`" not in README] == []
