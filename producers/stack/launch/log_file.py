"""The log file of ``scoring up``: the output of all processes, in files of limited size that only their owner can read."""

import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path

LOG_BYTES = 10_000_000
OLDER_FILES = 4
"""Older files that are kept; ``up.log.1`` is the newest of them."""


class LogFile:
    """A rotating log file. A full disk must not stop the work, so a line that cannot be written is lost."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = _PrivateFile(path, maxBytes=LOG_BYTES, backupCount=OLDER_FILES, encoding="utf-8", errors="replace", delay=True)

    def write(self, line: str) -> None:
        """Appends a line."""
        self._file.handle(logging.LogRecord("up", logging.INFO, "", 0, line, None, None))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class _PrivateFile(RotatingFileHandler):
    """Creates its files with mode 0600."""

    def _open(self):  # type: ignore[no-untyped-def]  # noqa: ANN202 - the handler's own stream
        os.close(os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        del record
