"""A process of a stack that the tests fork is what a program of its own is."""

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.conftest import READY_PROGRAMS, Place

TELL = """
import json, os, signal, sys, threading
print(json.dumps({
    "arguments": sys.argv[1:],
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "leads": os.getsid(0) == os.getpid(),
    "open": len(os.listdir("/proc/self/fd")),
    "threads": threading.active_count(),
    "handlers": {number: str(signal.getsignal(number)) for number in sorted(signal.valid_signals()) if signal.getsignal(number)},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
}))
sys.exit(3)
"""


@pytest.fixture
def log(tmp_path):
    with (tmp_path / "log").open("ab") as log:
        yield log


def test_it_finds_what_a_new_interpreter_finds(log, tmp_path):
    environment = os.environ | {"COLOUR": "blue"}
    command = ["-c", TELL, "one", "two words"]
    forked = READY_PROGRAMS.start(command, environment, log)
    real = subprocess.run(
        [sys.executable, *command], env=environment, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, check=False
    )
    assert (forked.wait(60), real.returncode) == (3, 3)
    found, expected = json.loads((tmp_path / "log").read_text()), json.loads(real.stdout)
    assert found.pop("open") == expected.pop("open") + 1, "the line on which a worker asks for a loader, and no other"
    assert found == expected


def test_it_is_killed_as_any_process_is_and_says_how_it_ended(log):
    for number in (signal.SIGTERM, signal.SIGKILL):
        started = READY_PROGRAMS.start(["-c", "import time; time.sleep(600)"], os.environ, log)
        assert started.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            started.wait(0.1)
        started.send_signal(number)
        assert started.wait(30) == -number
        assert not psutil.pid_exists(started.pid)


def test_the_processes_of_a_forked_launcher_are_its_children_with_the_command_lines_of_the_real_ones(stack: Place):
    up = json.loads((stack.root / "ready.json").read_text())["pid"]
    commands = [child.cmdline() for child in psutil.Process(up).children()]
    for part in ("score@%h", "control@%h", "beat"):
        assert any(part in command for command in commands), commands
    assert [command[-1] for command in commands].count("flower") == 1


def test_it_is_run_as_any_program_is():
    command = [sys.executable, "-c", "import sys; print('said'); print('complained', file=sys.stderr); sys.exit(3)"]
    forked, real = (run(command, capture_output=True, text=True, check=False) for run in (READY_PROGRAMS.run, subprocess.run))
    assert vars(forked) == vars(real)
    with pytest.raises(subprocess.TimeoutExpired):
        READY_PROGRAMS.run([sys.executable, "-c", "import time; time.sleep(600)"], timeout=0.1)
    assert READY_PROGRAMS.run(["/bin/sh", "-c", "exit 5"], check=False).returncode == 5
