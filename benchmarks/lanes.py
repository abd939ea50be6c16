"""Ways of scoring a table, each in its own processes, which are started once, kept warm, and measured from outside."""

import contextlib
import multiprocessing
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import psutil


class BenchmarkError(Exception):
    """Raised when the benchmark cannot continue, or its results would be meaningless."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A table to score with a release."""

    bucket: Path
    release: str
    table: Path
    out: Path
    """An empty folder for the output."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """A table that was scored."""

    seconds: float
    files: list[Path]
    """The result; several files are read one after another."""
    steps: dict[str, float] = field(default_factory=dict)
    """Seconds of its steps, if known."""


class Lane(Protocol):
    """One way of scoring tables, warm."""

    def score(self, task: Task) -> Done:
        """Scores a table, from the request to the finished file."""

    def processes(self) -> dict[int, str]:
        """Returns the process ids of all participating processes, with the role of each."""

    def close(self) -> None:
        """Stops all processes."""


Score = Callable[[Task], tuple[list[Path], dict[str, float]]]
Way = Callable[[int], AbstractContextManager[Score]]
"""Starts a way with this number of processes and yields the function that scores one table."""


class OtherLane:
    """Another way than ours: a process that keeps its libraries, release and pools from one table to the next."""

    def __init__(self, way: Way, processes: int) -> None:
        # spawned, so that it inherits no imports and no open files
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, way, processes))
        self._process.start()
        theirs.close()

    def score(self, task: Task) -> Done:
        began = time.perf_counter()
        self._ours.send(task)
        try:
            answer = self._ours.recv()
        except EOFError:
            raise BenchmarkError("a process that scores another way died: see its lines above") from None
        seconds = time.perf_counter() - began
        files, steps = answer
        return Done(seconds=seconds, files=files, steps=steps)

    def processes(self) -> dict[int, str]:
        main = psutil.Process(self._process.pid)
        started = [process for process in main.children(recursive=True) if "resource_tracker" not in " ".join(process.cmdline())]
        return {main.pid: "main", **{process.pid: "process" for process in started}}

    def close(self) -> None:
        self._ours.close()
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()


def _serve(tasks: Connection, way: Way, processes: int) -> None:
    # ends this process when its parent is gone
    with contextlib.suppress(EOFError, ConnectionError), way(processes) as score:
        while True:
            task = tasks.recv()
            tasks.send(score(task))
