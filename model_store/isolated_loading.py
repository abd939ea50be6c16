"""Loads releases in a process of their own and asks them for rates, so that one which kills or hangs its loader does so alone.

The process is a fresh interpreter: nothing of this one's memory is there, as in the worker that will score with the release. All
releases are loaded in one process, one after another; where one ends it, the next one gets a new process. What is asked and answered
goes through a private folder: ``asked.json``, the tables as Arrow files, then ``<n>.loaded`` and ``<n>.npz`` or ``<n>.json``.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from model_store.foreign_code import DefinitionHungError
from model_store.predicting import columns_for, predict_rows
from model_store.store import load_copy
from shared.catalog.manifests import ReleaseManifest
from shared.errors import ScoringError
from shared.records import decode_long

REPOSITORY = Path(__file__).resolve().parents[1]

LOAD_SECONDS = 60.0
"""A release may take so long to be loaded and asked, and as long again for each so many rows; its process is then ended."""
ROWS_IN_THAT_TIME = 1_000_000

POLL_SECONDS = 0.01
"""How often this process looks for an answer."""

PARENT_DEATH_SIGNAL = 1
"""Linux' number for this option of prctl (linux/prctl.h)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """A release, and the rows that it is to predict."""

    manifest: ReleaseManifest
    files: Path
    """A folder of our own with its verified files. It is removed once the release is loaded, as a worker does."""
    frame: pd.DataFrame
    """The columns that the release needs, and maybe more."""
    table: str
    """What the rows are called."""
    interval: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a release predicts, or why it does not."""

    rates: list[np.ndarray] = field(default_factory=list)
    """The rates as they are predicted, then the lower and upper bounds if they were asked for."""
    problem: str = ""
    """Why there are no rates; empty when there are."""
    killed: bool = False
    """True when the release ended its process or hung in it."""


class Loader(Protocol):
    """A process that loads releases."""

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""

    def kill(self) -> None:
        """End it now, with all that it started."""


Start = Callable[[Path, int, Path | None], Loader]


class FreshInterpreter:
    """A Python interpreter that answers the questions in ``folder`` from ``first`` on."""

    def __init__(self, folder: Path, first: int, definitions: Path | None) -> None:
        parent = str(os.getpid())
        # -P and a path of its own: it finds what this process finds, and nothing else that lies in the working folder
        path = os.pathsep.join(dict.fromkeys([str(REPOSITORY), *(entry or str(Path.cwd()) for entry in sys.path)]))
        command = [sys.executable, "-P", "-m", __name__, parent, str(folder), str(first), *([str(definitions)] if definitions else [])]
        self._process = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": path}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it now, with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


start_loader: Start = FreshInterpreter


def ask_releases(
    questions: Sequence[Question], place: Path, definitions: Path | None = None, seconds: float = LOAD_SECONDS
) -> Generator[Answer, None, None]:
    """The answers to these questions in their order; a release that dies, hangs or fails has a problem and stops no other.

    ``place`` is a folder of our own. ``seconds`` is the time that a release has, more with many rows.
    """
    _write_questions(questions, place)
    first = 0
    while first < len(questions):
        loader = start_loader(place, first, definitions)
        try:
            for number in range(first, len(questions)):
                first = number + 1
                limit = seconds * (1 + len(questions[number].frame) / ROWS_IN_THAT_TIME)
                answer = _wait_for(loader, place, number, limit)
                yield answer or Answer(problem=_end_of(loader, place, number, limit), killed=True)
                if answer is None:
                    break
        finally:
            loader.kill()


def _write_questions(questions: Sequence[Question], place: Path) -> None:
    written: dict[int, str] = {}
    asked = []
    for question in questions:
        name = written.setdefault(id(question.frame), f"{len(written)}.arrow")
        if not (place / name).exists():
            question.frame.reset_index(drop=True).to_feather(place / name, compression="uncompressed")
        asked.append(
            {
                "manifest": question.manifest.to_json().decode(),
                "files": str(question.files),
                "frame": name,
                "table": question.table,
                "interval": question.interval,
            }
        )
    (place / "asked.json").write_text(json.dumps(asked))


def _wait_for(loader: Loader, place: Path, number: int, seconds: float) -> Answer | None:
    """The answer to one question; None when the process ends first, or the time."""
    limit = time.monotonic() + seconds
    while True:
        has_ended = loader.poll() is not None  # before the look, so that the last answer of a process is seen
        if (answer := _read_answer(place, number)) is not None:
            return answer
        if has_ended or time.monotonic() > limit:
            return None
        time.sleep(POLL_SECONDS)


def _read_answer(place: Path, number: int) -> Answer | None:
    if (place / f"{number}.npz").exists():
        with np.load(place / f"{number}.npz") as held:
            return Answer(rates=[held[name] for name in held.files])
    if (place / f"{number}.json").exists():
        return Answer(problem=str(json.loads((place / f"{number}.json").read_text())["problem"]))
    return None


def _end_of(loader: Loader, place: Path, number: int, seconds: float) -> str:
    """Why there is no answer, in words."""
    step = "predicts" if (place / f"{number}.loaded").exists() else "is loaded"
    code = loader.poll()
    if code is None:
        return f"it hangs when it {step}: it was stopped after {seconds:.0f} s"
    if code == -signal.SIGKILL:
        return f"it kills its process when it {step} (SIGKILL), most likely for lack of memory"
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"it kills its process when it {step} ({how})"


# --- in the process -----------------------------------------------------------------------------------------------------------


def main(parent: int, place: Path, first: int, definitions: Path | None) -> None:
    """Answer the questions in a folder from ``first`` on, one after another, for the process ``parent``."""
    end_with_parent(parent)
    for number, asked in enumerate(json.loads((place / "asked.json").read_text())):
        if number >= first:
            _answer(place, number, asked, definitions)


def _answer(place: Path, number: int, asked: dict[str, str], definitions: Path | None) -> None:
    whole, unfinished = place / f"{number}.npz", place / f"{number}.unfinished"
    try:
        release = load_copy(Path(asked["files"]), decode_long(ReleaseManifest, asked["manifest"].encode()), definitions)
        shutil.rmtree(asked["files"])
        (place / f"{number}.loaded").touch()
        columns = [column.name for column in release.manifest.columns]
        frame = columns_for(release.definition, columns, pd.read_feather(place / asked["frame"]))
        rates = predict_rows(release.definition, release.model, frame, interval=bool(asked["interval"]), table=asked["table"])
        with unfinished.open("wb") as out:
            np.savez(out, *rates)
    except (ScoringError, DefinitionHungError) as error:
        unfinished.write_text(json.dumps({"problem": error.message if isinstance(error, ScoringError) else str(error)}))
        whole = place / f"{number}.json"
    unfinished.rename(whole)


def end_with_parent(parent: int) -> None:
    """Let the system kill this process when the one that started it ends, however it ends; elsewhere than on Linux nothing happens."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended already
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]) if len(sys.argv) > 4 else None)
