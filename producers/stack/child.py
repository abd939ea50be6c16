"""A process of the stack, which ends with the process that started it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from producers.stack.services import (
    ROOT,
    lone_worker_command,
)

POLL_SECONDS = 0.1

LAST_LINES = 15
MAX_LINE_BYTES = 8192

TIED_START = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""Asks the kernel for SIGTERM at the death of the launcher (1 is PR_SET_PDEATHSIG), then becomes the program.

A separate program, because Popen's ``preexec_fn`` may deadlock when the launcher has threads. The comparison covers the case that the
launcher has already died.
"""


class Child:
    """A process of the stack in its own session; each line of its output is passed to ``say``."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], say: Callable[[str, str], None], keeps: Sequence[int] = ()
    ) -> None:
        self.name = name
        self.started = time.monotonic()
        self._made_of = name, command, environment, say, keeps
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._say = say
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, pass_fds=keeps,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, name=f"lines of {name}", daemon=True)
        self._reader.start()

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    @property
    def ending(self) -> str:
        """The exit code or the signal that ended the process, in words."""
        code = self._process.wait()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def again(self) -> "Child":
        """Starts the same program again."""
        return Child(*self._made_of)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process itself; ignored when it has ended."""
        self._process.send_signal(number)

    def end(self) -> None:
        """Kills the rest of the process group and reads its last lines."""
        # the group is its own session; macOS answers EPERM for a group of zombies
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=1)

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - stdout is a pipe
        with self._process.stdout as lines:
            while line := lines.readline(MAX_LINE_BYTES):
                text = line.decode(errors="replace").rstrip()
                if text:
                    self.last_lines.append(text)
                    self._say(self.name, text)


def wait_for_end(children: Sequence[Child], seconds: float, at_once: Callable[[], bool] = lambda: False) -> None:
    limit = time.monotonic() + seconds
    while any(child.is_alive for child in children) and time.monotonic() < limit and not at_once():
        time.sleep(POLL_SECONDS)


def python(*arguments: str) -> list[str]:
    """The command of a bare interpreter, which starts in 10 ms."""
    return [sys.executable, "-I", "-S", *arguments]


def worker_command(name: str, queues: Sequence[str], processes: int) -> list[str]:
    """The command of a worker that ends with the process that starts it."""
    return tied(lone_worker_command(name, queues, processes))


def tied(command: list[str]) -> list[str]:
    """The same command, wrapped so that the kernel ends it with the process that starts it."""
    return [*python("-c", TIED_START, str(os.getpid())), *command] if sys.platform == "linux" else command
