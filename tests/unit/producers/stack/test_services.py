"""Where Flower listens when it is run alone, and what it will not be run without."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from producers.stack import services
from shared.errors import RequestError
from shared.settings import Settings, read_settings
from tests.conftest import REPOSITORY


@pytest.fixture
def started(monkeypatch):
    """The environments of the programs that this process would have become."""
    found = []
    monkeypatch.setattr(os, "execve", lambda path, command, environment: found.append(environment))
    monkeypatch.setattr(os, "chdir", lambda folder: None)
    return found


def test_flower_listens_to_this_machine_alone_unless_set_otherwise(started, tmp_path, monkeypatch):
    monkeypatch.delenv("SCORING_FLOWER_HOST", raising=False)
    monkeypatch.setenv("SCORING_FLOWER_PASSWORD", "hunter2")
    monkeypatch.setenv("SCORING_HOME", str(tmp_path))
    services.run(services.FLOWER, read_settings())
    monkeypatch.setenv("SCORING_FLOWER_HOST", "0.0.0.0")
    services.run(services.FLOWER, read_settings())
    assert [environment["FLOWER_ADDRESS"] for environment in started] == ["127.0.0.1", "0.0.0.0"]


def test_flower_is_not_run_without_a_password(started, tmp_path):
    with pytest.raises(RequestError, match="SCORING_FLOWER_PASSWORD is not set"):
        services.run(services.FLOWER, Settings(home=tmp_path))
    assert started == []


def test_a_worker_by_itself_has_a_limit_for_its_work_in_hand(started, monkeypatch):
    monkeypatch.setenv("REMAP_SIGTERM", "SIGQUIT")
    services.run(services.WORKER, Settings())
    monkeypatch.setenv("SCORING_STOP_SECONDS", "90")
    services.run(services.WORKER, Settings())
    assert [environment["SCORING_STOP_SECONDS"] for environment in started] == ["30", "90"]
    assert all("REMAP_SIGTERM" not in environment for environment in started)


def test_a_program_that_could_not_be_started_leaves_sigterm_as_it_was(started):
    services.run(services.WORKER, Settings())
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


AS_PROCESS_1 = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
STOPPED_AT_ONCE = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
assert os.getpid() == 1
os.kill(1, signal.SIGTERM)
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])
"""
"""Sends SIGTERM before the program has run a line of its own."""


@pytest.mark.parametrize("program", ["producers.stack.celery_program", "producers.cli"])
def test_process_1_of_a_container_ends_on_a_sigterm_that_comes_while_it_starts(program):
    if shutil.which("unshare") is None or subprocess.run([*AS_PROCESS_1, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a process have a container of its own")
    command = [*AS_PROCESS_1, sys.executable, "-c", STOPPED_AT_ONCE, program, "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, ""), done.stderr
