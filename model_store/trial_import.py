"""Imports definitions in a child process first, to find those that would kill or hang the importing process.

One child imports all of them, forked from a process that has loaded the usual libraries, so that it costs little. If it dies, the
definition that it was importing is the cause, and another child continues with the definitions after it.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from model_store.definitions import exclude_definition, load_definition

IMPORT_SECONDS = 60.0
"""A definition whose import takes longer than this many seconds hangs."""

log = structlog.get_logger()


def exclude_crashing_definitions(names: Sequence[str], extra: Path | None = None) -> None:
    """Excludes the definitions that would kill or hang this process, and logs their names."""
    for name, what in find_crashing_definitions(names, extra).items():
        log.error("definition excluded", definition=name, why=f"it {what} when it is imported")
        exclude_definition(name, extra, what)


def find_crashing_definitions(names: Sequence[str], extra: Path | None = None, seconds: float = IMPORT_SECONDS) -> dict[str, str]:
    """Returns the definitions that kill or hang the importing process, each with a description of the failure.

    A definition whose import raises an exception is not among them: ``load_definition`` reports its error.
    """
    crashing: dict[str, str] = {}
    left = list(names)
    while left:
        imported, fate = _try(left, extra, seconds)
        if imported == len(left):
            break
        crashing[left[imported]] = fate
        left = left[imported + 1 :]
    return crashing


def _try(names: Sequence[str], extra: Path | None, seconds: float) -> tuple[int, str]:
    """Returns how many of these definitions a child process imported one after another, and how the child ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _import_each(names, extra, writing, seconds)
    os.close(writing)
    try:
        imported, is_in_time = _follow(reading, len(names), seconds)
    finally:
        os.close(reading)
        if not _ends_soon(child):
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return imported, _fate(status) if is_in_time else f"does not end within {seconds:g} s"


def _import_each(names: Sequence[str], extra: Path | None, writing: int, seconds: float) -> None:
    """Imports the definitions in the child process; never returns."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        # the parent may be killed, and nothing else ends a child that hangs
        signal.alarm(int(seconds * len(names)) + 5)
        for name in names:
            with contextlib.suppress(BaseException):
                load_definition(name, extra)
            os.write(writing, b".")
    finally:
        os._exit(0)


def _follow(reading: int, count: int, seconds: float) -> tuple[int, bool]:
    """Reads one byte per imported definition; returns their number, and whether the last one arrived in time."""
    came = 0
    while came < count:
        if not select.select([reading], [], [], seconds)[0]:
            return came, False
        signs = os.read(reading, count)
        if not signs:
            break
        came += len(signs)
    return came, True


def _ends_soon(child: int) -> bool:
    limit = time.monotonic() + 1
    while time.monotonic() < limit:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return True
        time.sleep(0.001)
    return False


def _fate(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"kills its process ({signal.Signals(os.WTERMSIG(status)).name})"
    return f"ends its process (exit code {os.WEXITSTATUS(status)})"
