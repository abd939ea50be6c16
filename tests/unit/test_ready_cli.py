"""A call of the command line that the tests fork is what a program of its own is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.conftest import READY_CLI, REPOSITORY, free_port

CALLS = {
    "a list": ["jobs", "list"],
    "JSON": ["jobs", "list", "--json"],
    "a table that is not there": ["score", "no-such-table"],
    "an unknown command": ["nonsense"],
    "another process in its place": ["run", "flower"],
    "help": ["score", "--help"],
}


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SCORING_")}
    return kept | {"BUCKET_URL": str(tmp_path / "bucket"), "SCORING_HOME": str(tmp_path / "home"), "COLUMNS": "200"}


@pytest.mark.parametrize("arguments", CALLS.values(), ids=CALLS)
def test_the_installed_program_says_the_same_and_ends_the_same(environment, arguments):
    program = Path(sys.executable).with_name("scoring")
    real = subprocess.run([program, *arguments], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False)
    forked = READY_CLI.run(arguments, environment, 60)
    assert (forked.returncode, forked.stdout, forked.stderr) == (real.returncode, real.stdout, real.stderr)


def test_a_call_leaves_nothing_to_the_next(environment, tmp_path):
    names = {"one", "two"}
    for name in names:
        shown = READY_CLI.run(["jobs", "list"], environment | {"BUCKET_URL": str(tmp_path / name)}, 60).stdout
        assert {other for other in names if str(tmp_path / other) in shown.replace("\n", "")} == {name}
    assert json.loads(READY_CLI.run(["jobs", "list", "--json"], environment, 60).stdout) == []


def test_a_call_that_does_not_end_is_killed(environment):
    port = free_port()
    with pytest.raises(subprocess.TimeoutExpired):
        READY_CLI.run(["metrics", "--port", str(port)], environment, 3)
    listening = [place for place in psutil.net_connections("tcp") if place.status == psutil.CONN_LISTEN and place.laddr.port == port]
    assert not listening
