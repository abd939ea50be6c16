"""The output of ``scoring up``: the lines of all processes, on standard output and in the log file."""

import errno
import os
import sys
import threading
from pathlib import Path

from rich.console import Console

from producers.stack.launch.log_file import LogFile

COLOURS = {"up": 1, "redis": 31, "score": 32, "control": 36, "beat": 33, "flower": 35}
"""ANSI colour of each process name, in the order of display."""


class Output:
    """Prints lines with the name of their process, and writes them to the log file."""

    def __init__(self, path: Path) -> None:
        console = Console()
        self._colours = console.color_system is not None and not console.no_color
        self._lock = threading.Lock()
        self._log = LogFile(path)
        self.path = path

    def say(self, name: str, text: str, *, secret: bool = False) -> None:
        """Prints a line after the name of its process, and writes it to the log file unless it holds a ``secret``.

        Never raises: a full or closed output must not stop the work.
        """
        prefix = f"{name:<8}| "
        if not secret:
            self._log.write(prefix + text)
        if self._colours:
            prefix = f"\x1b[{COLOURS[name]}m{prefix}\x1b[0m"
        encoding = sys.stdout.encoding or "utf-8"
        with self._lock:
            try:
                sys.stdout.write(f"{prefix}{text}\n".encode(encoding, "replace").decode(encoding))
                sys.stdout.flush()
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.EIO):
                    # the reader or the terminal is gone: discard the rest, which would fail again at exit
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def close(self) -> None:
        """Closes the log file."""
        self._log.close()
