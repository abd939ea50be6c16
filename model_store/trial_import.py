"""Imports definitions in a process of its own first, to find those that would kill or hang the process that imports them.

One child tries all, forked from a process that has the usual libraries already, so that it costs little. Where it dies, the definition that
it was at is the reason, and another child goes on with those after it.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from model_store.definitions import bar_definition, load_definition

IMPORT_SECONDS = 60.0
"""A definition that takes longer to import hangs."""

log = structlog.get_logger()


def bar_deadly_definitions(names: Sequence[str], extra: Path | None = None) -> None:
    """Leave out the definitions that would kill or hang this process, and name them in the log."""
    for name, what in find_deadly(names, extra).items():
        log.error("definition left out", definition=name, why=f"it {what} when it is imported")
        bar_definition(name, extra, what)


def find_deadly(names: Sequence[str], extra: Path | None = None, seconds: float = IMPORT_SECONDS) -> dict[str, str]:
    """The definitions that kill or hang the process that imports them, each with what it does, in words.

    One that fails in an orderly way is not among them: ``load_definition`` says what is wrong with it.
    """
    deadly: dict[str, str] = {}
    left = list(names)
    while left:
        imported, fate = _try(left, extra, seconds)
        if imported == len(left):
            break
        deadly[left[imported]] = fate
        left = left[imported + 1 :]
    return deadly


def _try(names: Sequence[str], extra: Path | None, seconds: float) -> tuple[int, str]:
    """How many of these a new process could import one after the other, and what became of it."""
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
    """Runs in the child and never returns."""
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        # the waiting process may be killed, and no other ends a child that hangs
        signal.alarm(int(seconds * len(names)) + 5)
        for name in names:
            with contextlib.suppress(BaseException):
                load_definition(name, extra)
            os.write(writing, b".")
    finally:
        os._exit(0)


def _follow(reading: int, count: int, seconds: float) -> tuple[int, bool]:
    """Read a sign for each definition that was imported; how many came, and whether the last one came in time."""
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
