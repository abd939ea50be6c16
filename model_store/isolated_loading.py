"""Loads releases and predicts in separate processes, so that a release that kills or hangs its loader does no other harm.

The process is a fresh interpreter that shares no memory with this one, like the worker that will score with the release. One process
loads all releases, one after another; if a release ends it, the next release gets a new process. Requests and results go through a
private folder: ``requests.json``, the tables as Arrow files, then ``<n>.loaded`` and ``<n>.npz`` or ``<n>.json``.
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
"""Time limit for loading a release and predicting, plus as much per ``ROWS_IN_THAT_TIME`` rows; then its process is killed."""
ROWS_IN_THAT_TIME = 1_000_000

POLL_SECONDS = 0.01
"""Seconds between two checks for a result."""

PARENT_DEATH_SIGNAL = 1
"""Linux' number of this option of prctl (linux/prctl.h)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionRequest:
    """A release, and the rows to predict."""

    manifest: ReleaseManifest
    files: Path
    """A private folder with its verified files. It is removed once the release is loaded, as in a worker."""
    frame: pd.DataFrame
    """The columns that the release needs, and possibly more."""
    table: str
    """The name of the table in messages."""
    interval: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionResult:
    """The predictions of a release, or why there are none."""

    rates: list[np.ndarray] = field(default_factory=list)
    """The raw rates, then the lower and upper bounds if requested."""
    problem: str = ""
    """Why there are no rates; empty if there are."""
    has_crashed: bool = False
    """True if the release killed or hung its process."""


class Loader(Protocol):
    """A process that loads releases."""

    def poll(self) -> int | None:
        """Returns its exit code, or None while it runs."""

    def kill(self) -> None:
        """Kills it, with all its child processes."""


Start = Callable[[Path, int, Path | None], Loader]


class FreshInterpreter:
    """A Python interpreter that runs the requests in ``folder``, starting with number ``first``."""

    def __init__(self, folder: Path, first: int, definitions: Path | None) -> None:
        parent = str(os.getpid())
        # -P and an explicit path: it imports from the same places as this process, and not from the working directory
        path = os.pathsep.join(dict.fromkeys([str(REPOSITORY), *(entry or str(Path.cwd()) for entry in sys.path)]))
        command = [sys.executable, "-P", "-m", __name__, parent, str(folder), str(first), *([str(definitions)] if definitions else [])]
        self._process = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": path}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )

    def poll(self) -> int | None:
        """Returns its exit code, or None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """Kills it, with all its child processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


start_loader: Start = FreshInterpreter


def predict_isolated(
    requests: Sequence[PredictionRequest], place: Path, definitions: Path | None = None, seconds: float = LOAD_SECONDS
) -> Generator[PredictionResult, None, None]:
    """Yields the results of these requests in order; a release that crashes, hangs or fails has a problem and does not affect the others.

    ``place`` is a private folder. ``seconds`` is the time limit of a release, which grows with the number of rows.
    """
    _write_requests(requests, place)
    first = 0
    while first < len(requests):
        loader = start_loader(place, first, definitions)
        try:
            for number in range(first, len(requests)):
                first = number + 1
                limit = seconds * (1 + len(requests[number].frame) / ROWS_IN_THAT_TIME)
                result = _wait_for(loader, place, number, limit)
                yield result or PredictionResult(problem=_end_of(loader, place, number, limit), has_crashed=True)
                if result is None:
                    break
        finally:
            loader.kill()


def _write_requests(requests: Sequence[PredictionRequest], place: Path) -> None:
    written: dict[int, str] = {}
    encoded = []
    for request in requests:
        name = written.setdefault(id(request.frame), f"{len(written)}.arrow")
        if not (place / name).exists():
            request.frame.reset_index(drop=True).to_feather(place / name, compression="uncompressed")
        encoded.append(
            {
                "manifest": request.manifest.to_json().decode(),
                "files": str(request.files),
                "frame": name,
                "table": request.table,
                "interval": request.interval,
            }
        )
    (place / "requests.json").write_text(json.dumps(encoded))


def _wait_for(loader: Loader, place: Path, number: int, seconds: float) -> PredictionResult | None:
    """Waits for the result of one request; returns None if the process ends or the time is over first."""
    limit = time.monotonic() + seconds
    while True:
        has_ended = loader.poll() is not None  # checked before the result, so that the last result of a process is not missed
        if (result := _read_result(place, number)) is not None:
            return result
        if has_ended or time.monotonic() > limit:
            return None
        time.sleep(POLL_SECONDS)


def _read_result(place: Path, number: int) -> PredictionResult | None:
    if (place / f"{number}.npz").exists():
        with np.load(place / f"{number}.npz") as held:
            return PredictionResult(rates=[held[name] for name in held.files])
    if (place / f"{number}.json").exists():
        return PredictionResult(problem=str(json.loads((place / f"{number}.json").read_text())["problem"]))
    return None


def _end_of(loader: Loader, place: Path, number: int, seconds: float) -> str:
    """Describes why there is no result."""
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
    """Runs the requests in a folder, starting with number ``first``, for the process ``parent``."""
    end_with_parent(parent)
    for number, request in enumerate(json.loads((place / "requests.json").read_text())):
        if number >= first:
            _predict(place, number, request, definitions)


def _predict(place: Path, number: int, request: dict[str, str], definitions: Path | None) -> None:
    whole, unfinished = place / f"{number}.npz", place / f"{number}.unfinished"
    try:
        release = load_copy(Path(request["files"]), decode_long(ReleaseManifest, request["manifest"].encode()), definitions)
        shutil.rmtree(request["files"])
        (place / f"{number}.loaded").touch()
        columns = [column.name for column in release.manifest.columns]
        frame = columns_for(release.definition, columns, pd.read_feather(place / request["frame"]))
        rates = predict_rows(release.definition, release.model, frame, interval=bool(request["interval"]), table=request["table"])
        with unfinished.open("wb") as out:
            np.savez(out, *rates)
    except (ScoringError, DefinitionHungError) as error:
        unfinished.write_text(json.dumps({"problem": error.message if isinstance(error, ScoringError) else str(error)}))
        whole = place / f"{number}.json"
    unfinished.rename(whole)


def end_with_parent(parent: int) -> None:
    """Makes the kernel kill this process when its parent ends, in any way; does nothing on systems other than Linux."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:  # the parent has ended already
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]) if len(sys.argv) > 4 else None)
