"""The process that loads releases, ready to run: one that has imported the libraries forks itself for each, which saves a second each time.

No definition is imported before the fork, so each call finds what a fresh interpreter would. That the fresh interpreter of
``model_store.isolated_loading`` works as well is shown by its own tests and by those of the whole stack.
"""

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from multiprocessing.connection import wait
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
IMPORTED = ("pandas", "pyarrow.feather", "skops.io", "sklearn.ensemble", "lightgbm", "model_store.isolated_loading")


class ReadyLoader:
    """What starts loaders; nothing is imported before the first."""

    def __init__(self) -> None:
        self._line: socket.socket | None = None

    def start(self, folder: Path, first: int, definitions: Path | None) -> "Running":
        """As ``isolated_loading.FreshInterpreter``."""
        if self._line is None:
            self._line, theirs = socket.socketpair()
            with theirs:
                program = f"from tests.ready_loader import serve; serve({theirs.fileno()})"
                self._server = subprocess.Popen(
                    [sys.executable, "-c", program],
                    cwd=REPOSITORY,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._line, [b"!"], [theirs.fileno()])
        call = ours.makefile("rw")
        asked = [str(folder), first, str(definitions or ""), dict(os.environ), str(Path.cwd()), sys.path]
        call.write(json.dumps(asked) + "\n")
        call.flush()
        return Running(ours, call)


class Running:
    """One loader."""

    def __init__(self, ours: socket.socket, call) -> None:
        self._ours, self._call = ours, call
        self._pid = int(call.readline())
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None and wait([self._ours], 0):
            self._code = int(self._call.readline())
            self._ours.close()
        return self._code

    def kill(self) -> None:
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):  # it ended this moment
                os.killpg(self._pid, signal.SIGKILL)
            wait([self._ours], 20)
            self.poll()


def serve(line: int) -> None:
    """Forks for each message on the line, until it is closed."""
    for name in IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=line) as asked:
        while True:
            message, streams, *_ = socket.recv_fds(asked, 1, 1)
            if not message:
                return
            if not os.fork():
                break
            os.close(streams[0])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=streams[0]) as ours, ours.makefile("rw") as call:
        place, first, definitions, environment, folder, path = json.loads(call.readline())
        pid = os.fork()
        if pid:
            os.waitpid(pid, os.WUNTRACED)  # it stops itself once it leads a group that can be killed
            print(pid, file=call, flush=True)
            os.kill(pid, signal.SIGCONT)
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), file=call, flush=True)
            os._exit(0)
    os.setsid()
    os.kill(os.getpid(), signal.SIGSTOP)
    _load(Path(place), first, Path(definitions) if definitions else None, environment, folder, path)


def _load(place: Path, first: int, definitions: Path | None, environment: dict[str, str], folder: str, path: list[str]) -> None:
    from model_store import isolated_loading

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = path
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    code = 0
    try:
        isolated_loading.main(os.getppid(), place, first, definitions)
    except BaseException:  # noqa: BLE001 - the exit code of a program that raised
        traceback.print_exc()
        code = 1
    os._exit(code)
