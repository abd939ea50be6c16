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

from tests.ready_programs import ReadyPrograms, fork_interpreters

REPOSITORY = Path(__file__).resolve().parents[1]
NOT_IMPORTED = {"beat", "comparing", "comparison", "sample", "celery_program", "__main__"}
"""The first reads the environment when it is imported, as a Celery application must; the next three bring pyarrow, which starts a
thread; the others are programs."""


class ReadyCli:
    """What starts calls; nothing is imported before the first."""

    def __init__(self, programs: ReadyPrograms) -> None:
        self._programs = programs
        self._line: socket.socket | None = None

    def run(
        self, arguments: Sequence[str], environment: Mapping[str, str], seconds: float, folder: Path = REPOSITORY
    ) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run`` with ``capture_output`` does it, with nothing to read; raises TimeoutExpired after killing the process."""
        if self._line is None:
            self._line, self._server = _start()
        ours, theirs = socket.socketpair()
        with ours, ours.makefile("rw") as call, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with theirs:
                for_interpreters = [self._programs.line.fileno()] if _runs_interpreters(arguments) else []
                socket.send_fds(self._line, [b"!"], [out.fileno(), err.fileno(), theirs.fileno(), *for_interpreters])
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


def _start() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    with theirs:
        program = f"from tests.ready_cli import serve; serve({theirs.fileno()})"
        # a session of its own: Ctrl-C is for the tests, and it ends when they close the line
        server = subprocess.Popen(
            [sys.executable, "-c", program], cwd=REPOSITORY, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
        )
    return ours, server


def serve(line: int) -> None:
    """Fork for each message on the line; return in each fork's child when its call is done, and in the server when the line is closed."""
    import producers

    found = pkgutil.walk_packages(producers.__path__, "producers.")
    ours = [module.name for module in found if NOT_IMPORTED.isdisjoint(module.name.split("."))]
    for name in (*ours, "rich.progress", "rich.table"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=line) as asked:
        while True:
            message, streams, *_ = socket.recv_fds(asked, 1, 4)
            if not message:
                return
            _check_alone()
            if not os.fork():
                break
            for stream in streams:
                os.close(stream)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _carry_out(streams)


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

    main()
