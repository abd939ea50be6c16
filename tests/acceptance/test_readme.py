"""Every command in an `sh` block of the README and of the guide to models is run, and the guide's model is added before."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Place, make_place, stop

README = (REPOSITORY / "README.md").read_text()
GUIDE = (REPOSITORY / "docs/add-a-model.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def run_all(stack: Place, text: str) -> dict[str, str]:
    """Run every command in the `sh` blocks of a text; returns what each printed."""
    path = f"{Path(sys.executable).parent}:{stack.environment['PATH']}"
    commands = [line for block in blocks(text, "sh") for line in block.splitlines()]
    assert len(commands) > 8
    printed = {}
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
        printed[command] = done.stdout
    return printed


@pytest.mark.slow
def test_every_command_of_the_readme_works(stack: Place) -> None:
    run_all(stack, README)
    assert any(release["definition"] == "v4" for release in stack.scoring_json("models", "list"))


@pytest.mark.slow
@pytest.mark.timeout(600)  # a stack of its own and twenty commands
def test_every_command_of_the_guide_to_models_works(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    stack = place.start()
    try:
        [model] = blocks(GUIDE, "python")
        definition = place.root / "definitions" / model.splitlines()[0].removeprefix("# ")
        definition.parent.mkdir()
        definition.write_text(model)
        (definition.parent / "install_dependencies.sh").write_bytes((REPOSITORY / "model_store/v1/install_dependencies.sh").read_bytes())
        printed = run_all(place, GUIDE)
    finally:
        assert stop(stack) == 0
        place.webhook.close()
    [shown] = blocks(GUIDE, "csv")
    lines = [line.removesuffix("...") for line in shown.splitlines()]
    [head] = [out.splitlines() for command, out in printed.items() if command.endswith("/words")]
    assert head[0] == "keyword,match_type,cr,cr_low,cr_high"
    assert [row.startswith(line) for row, line in zip(head[1:], lines[1:], strict=True)] == [True, True], head


def test_readme_names_every_variable_that_is_read() -> None:
    settings = (REPOSITORY / "shared/settings.py").read_text()
    fields = re.findall(r"^    (\w+): .* = ", settings, flags=re.MULTILINE)
    named = re.findall(r'validation_alias="(\w+)"', settings)
    variables = named + [f"SCORING_{name.upper()}" for name in fields if name.upper() not in named]
    assert [variable for variable in variables if f"`{variable}`" not in README] == []
