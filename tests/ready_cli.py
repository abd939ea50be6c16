"""The command line, ready to run: a process that has imported it forks itself for each call, which saves half a second of CPU a call.

Each call is a process of its own, with its own environment, standard streams, signals and exit code, and it ends as any interpreter
does. Between the calls the imported process runs no code of ours and no second thread, so that a fork copies nothing half done. A call of
``models check`` gets its other process from ``ReadyPrograms``. That the installed `scoring` and `python -m producers.cli` work as well is
shown by the tests that start those.
"""

import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from tests.ready_programs import ForkServer, ReadyPrograms, fork_interpreters, receive, run_to_the_end

REPOSITORY = Path(__file__).resolve().parents[1]
BRING_PYARROW = {
    "columns",
    "comparing",
    "comparison",
    "exports",
    "sample",
    "changed_rows",
    "compared_results",
    "difference_files",
    "differences",
}
"""pyarrow starts a thread when it is imported."""
NOT_IMPORTED = BRING_PYARROW | {"beat", "celery_program", "__main__"}
"""``beat`` reads the environment when it is imported, as a Celery application must; the last two are programs."""

SERVER = ForkServer("tests.ready_cli")


class ReadyCli:
    """What starts calls; nothing is imported before the first."""

    def __init__(self, programs: ReadyPrograms) -> None:
        self._programs = programs

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], seconds: float, folder: Path = REPOSITORY
    ) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run`` with ``capture_output`` does it, with nothing to read; raises TimeoutExpired after killing the process."""
        ours, theirs = socket.socketpair()
        with ours, ours.makefile("rw") as call, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with theirs:
                for_interpreters = [self._programs.line.fileno()] if _runs_interpreters(arguments) else []
                socket.send_fds(SERVER.line, [b"!"], [out.fileno(), err.fileno(), theirs.fileno(), *for_interpreters])
            call.write(json.dumps([list(arguments), dict(environment), str(folder)]) + "\n")
            call.flush()
            pid = int(call.readline())
            in_time = False
            try:
                in_time = bool(wait([ours], seconds))
            finally:
                if not in_time:
                    os.kill(pid, signal.SIGKILL)
            code = int(call.readline())
            if not in_time:
                raise subprocess.TimeoutExpired(list(arguments), seconds, _text(out), _text(err))
            return subprocess.CompletedProcess(["scoring", *arguments], code, _text(out), _text(err))


def _runs_interpreters(arguments: Sequence[str]) -> bool:
    return sys.platform == "linux" and [*arguments[:2]] == ["models", "check"]


def _text(file: "tempfile._TemporaryFileWrapper[bytes]") -> str:
    file.seek(0)
    return file.read().decode()


def serve(asked: int, line: int) -> None:
    """Forks for each message; returns when the line is closed."""
    with socket.socket(fileno=asked) as of_tests, socket.socket(fileno=line) as life:
        if life in wait([of_tests, life]):
            return
        _import_commands()
        gc.collect()
        gc.freeze()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while streams := receive([of_tests], life):
            _check_alone()
            if not os.fork():
                break
            for stream in streams:
                os.close(stream)
        else:
            return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _carry_out(streams)


def _import_commands() -> None:
    import producers

    found = pkgutil.walk_packages(producers.__path__, "producers.")
    ours = [module.name for module in found if NOT_IMPORTED.isdisjoint(module.name.split("."))]
    for name in (*ours, "rich.progress", "rich.table"):
        importlib.import_module(name)


def _check_alone() -> None:
    threads = Path("/proc/self/task")
    if threads.exists() and len([*threads.iterdir()]) > 1:
        sys.exit("something that the command line imports has started a thread; nothing can be forked beside it")


def _carry_out(streams: Sequence[int]) -> None:
    """In a fork of its own: become the call; beside it: tell its process id and how it ended."""
    with socket.socket(fileno=streams[2]) as line, line.makefile("rw") as call:
        arguments, environment, folder = json.loads(call.readline())
        pid = os.fork()
        if pid:
            print(pid, file=call, flush=True)
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), file=call, flush=True)
            os._exit(0)
    for stream, number in zip(streams[:2], (1, 2), strict=True):
        os.dup2(stream, number)
        os.close(stream)
    for number in streams[3:]:
        fork_interpreters(socket.socket(fileno=number))
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    sys.argv = ["scoring", *arguments]
    from producers.cli.root import main

    run_to_the_end(main)
