"""Opens a release in a process of its own first, so that a release that kills or hangs its loader does not end the server.

The process is a fresh interpreter: ``python -m workers.serving.releases.trial PARENT FOLDER RELEASE``. It does all that the server does to
open a release, and writes to a file why it cannot be opened.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from model_store.foreign_code import DefinitionHungError
from model_store.isolated_loading import REPOSITORY, end_with_parent
from model_store.library import ModelLibrary
from shared.bucket.opening import open_bucket
from shared.catalog.channels import read_channel
from shared.errors import ModelError, ScoringError
from shared.processes import temporary_folder
from shared.settings import Settings, read_settings
from workers.serving.releases.opening import open_release

SECONDS = 120.0
"""A release that is not open after this time hangs, unless the server takes nearly all time of the processor."""
LOW_PRIORITY = 10
"""As an equal of the server, a trial would double the time of each answer; so it still gets a tenth of a core that is always busy."""
LONGEST_WAITS = 5
"""Times ``SECONDS`` that a trial may take that gets hardly any time of the processor."""
_PROBLEM, _OPENED = "problem.json", "opened"


def try_release(settings: Settings, release: str, seconds: float = SECONDS) -> None:
    """Opens a release in a process of its own.

    Raises:
        ModelError: the release cannot be opened, or kills or hangs the process.
    """
    with temporary_folder(settings.home / "serving" / "trials") as place:
        path = os.pathsep.join(dict.fromkeys([str(REPOSITORY), *(entry or str(Path.cwd()) for entry in sys.path)]))
        command = [sys.executable, "-P", "-m", __name__, str(os.getpid()), str(place), release]
        environment = os.environ | {"PYTHONPATH": path}
        running = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, running.pid, LOW_PRIORITY)
            code = _wait(running, seconds)
        except subprocess.TimeoutExpired:
            raise _ended(release, f"hangs when it is opened: it was stopped after {seconds:g} s") from None
        finally:
            running.kill()
            running.wait()
        if (place / _PROBLEM).exists():
            problem = json.loads((place / _PROBLEM).read_text())
            raise ModelError(problem["message"], next_step=problem["next_step"])
        if not (place / _OPENED).exists():
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise _ended(release, f"kills its process when it is opened ({how})")


def _wait(running: "subprocess.Popen[bytes]", seconds: float) -> int:
    """Waits for the end of a trial, longer than ``seconds`` only while it still works and has worked for less than a sixth of that time.

    Raises:
        TimeoutExpired: it hangs.
    """
    turns, used, process = 4, 0.0, psutil.Process(running.pid)
    for turn in range(1, turns * LONGEST_WAITS):
        try:
            return running.wait(seconds / turns)
        except subprocess.TimeoutExpired:
            before, used = used, sum(process.cpu_times()[:2])
            is_starved = before + seconds / 1000 < used < seconds / 6
            if turn >= turns and not is_starved:
                raise
    return running.wait(seconds / turns)


def _ended(release: str, how: str) -> ModelError:
    definition = release.partition("@")[0]
    return ModelError(f"the release {release} {how}", next_step=f"Try its definition with: scoring models check {definition}")


def main(parent: int, place: Path, release: str) -> None:
    """Opens a release for the process ``parent``, and reports in the folder ``place``."""
    end_with_parent(parent)
    settings = read_settings()
    bucket = open_bucket(settings.bucket_url, settings.signer)
    library = ModelLibrary(bucket, settings.home / "releases", settings.definitions)
    try:
        open_release(bucket, library, release, read_channel(bucket, settings.serve_channel))
    except (ScoringError, DefinitionHungError) as error:
        message = error.message if isinstance(error, ScoringError) else str(error)
        problem = {"message": message, "next_step": getattr(error, "next_step", "")}
        (place / f"{_PROBLEM}.unfinished").write_text(json.dumps(problem))
        (place / f"{_PROBLEM}.unfinished").rename(place / _PROBLEM)
        return
    (place / _OPENED).touch()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
