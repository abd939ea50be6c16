"""`environment.sh` makes the environment once, and says in one sentence what is missing on a machine where it cannot."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PYTHON = getattr(sys, "_base_executable", sys.executable)
START = ". ./environment.sh; environment {lock}; echo ready with $(command -v python)"

NO_VENV_MODULE = """#!/bin/sh
if [ "$1" = -m ] && [ "$2" = venv ]; then
    echo "The virtual environment was not created successfully because ensurepip is not available." >&2
    exit 1
fi
exec '{python}' "$@"
"""

MAKES_A_HOLLOW_ENVIRONMENT = """#!/bin/sh
if [ "$1" = -m ] && [ "$2" = venv ]; then
    mkdir -p "$3/bin"
    printf '#!/bin/sh\\necho "$@" >>pip-calls\\nexit "${{PIP_ENDS_WITH:-0}}"\\n' >"$3/bin/python"
    chmod +x "$3/bin/python"
    exit 0
fi
exec '{python}' "$@"
"""

NO_VENV = "Python's venv module does not work here: install it (on Debian and Ubuntu: apt-get install python3-venv) and start again."
NO_REGISTRY = "The libraries could not be installed: check that the package registry can be reached, then start again."


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with what an environment is made from, and nothing else."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("environment.sh", "pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(REPOSITORY / name, project)
    return project


@pytest.fixture
def fake(tmp_path: Path):
    """Makes a Python from a script."""

    def write(script: str) -> str:
        file = tmp_path / "fake-python"
        file.write_text(script.format(python=PYTHON))
        file.chmod(0o755)
        return str(file)

    return write


def start(project: Path, lock: str = "requirements.lock", **environment: str) -> subprocess.CompletedProcess[str]:
    """Source environment.sh and make the environment, with no settings of pip but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "VIRTUAL_ENV"))}
    kept |= {"HOME": str(project.parent), "PIP_CONFIG_FILE": "/dev/null"}
    return subprocess.run(
        ["bash", "-euc", START.format(lock=lock)],
        cwd=project, env=kept | environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def pip_calls(project: Path) -> list[str]:
    calls = project / "pip-calls"
    return calls.read_text().splitlines() if calls.exists() else []


def test_a_python_without_its_venv_module_is_said_in_one_sentence(project: Path, fake) -> None:
    done = start(project, PYTHON=fake(NO_VENV_MODULE))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == NO_VENV
    assert done.stderr.count(NO_VENV) == 1
    assert NO_REGISTRY not in done.stderr
    assert "ready" not in done.stdout


@pytest.mark.slow
def test_a_registry_that_cannot_be_reached_is_said_in_one_sentence(project: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
    done = start(project, PYTHON=PYTHON, **nowhere)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == NO_REGISTRY
    assert done.stderr.count(NO_REGISTRY) == 1
    assert NO_VENV not in done.stderr
    assert "ready" not in done.stdout
    assert not list((project / ".venv").glob("made-from-*"))


def test_an_environment_is_made_once_and_put_on_the_path(project: Path, fake) -> None:
    python = fake(MAKES_A_HOLLOW_ENVIRONMENT)
    first, second = start(project, PYTHON=python), start(project, PYTHON=python)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout.splitlines()[0].startswith("Making the environment .venv from requirements.lock with Python 3.")
    assert second.stdout == f"ready with {project}/.venv/bin/python\n"
    assert len(pip_calls(project)) == 2


def test_every_library_is_installed_from_the_lock_file_with_its_digest(project: Path, fake) -> None:
    assert start(project, PYTHON=fake(MAKES_A_HOLLOW_ENVIRONMENT)).returncode == 0
    libraries, ours = pip_calls(project)
    assert "--require-hashes --requirement requirements.lock" in libraries
    assert "--no-deps" in ours
    assert "--editable ." in ours


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_an_environment_is_made_again_when_what_it_was_made_from_changed(project: Path, fake, name: str) -> None:
    python = fake(MAKES_A_HOLLOW_ENVIRONMENT)
    start(project, PYTHON=python)
    with (project / name).open("a") as file:
        file.write("# changed\n")
    assert "Making the environment" in start(project, PYTHON=python).stdout
    assert len(pip_calls(project)) == 4


def test_an_environment_that_could_not_be_filled_is_made_again(project: Path, fake) -> None:
    python = fake(MAKES_A_HOLLOW_ENVIRONMENT)
    failed = start(project, PYTHON=python, PIP_ENDS_WITH="1")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == NO_REGISTRY
    repaired = start(project, PYTHON=python)
    assert repaired.returncode == 0
    assert "Making the environment" in repaired.stdout


def test_the_environment_with_the_tests_libraries_serves_for_all(project: Path, fake) -> None:
    python = fake(MAKES_A_HOLLOW_ENVIRONMENT)
    assert start(project, "requirements-dev.lock", PYTHON=python).returncode == 0
    assert start(project, PYTHON=python).stdout == f"ready with {project}/.venv/bin/python\n"
    assert len(pip_calls(project)) == 2


def test_a_python_that_is_too_old_is_passed_over(project: Path, tmp_path: Path, fake) -> None:
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(fake(MAKES_A_HOLLOW_ENVIRONMENT))
    done = start(project, PYTHON=str(old), PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert len(pip_calls(project)) == 2
