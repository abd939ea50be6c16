"""Bounds the local cache of releases from an object store; the least recently used releases are removed.

    SCORING_HOME/releases/model/<definition>/<release>/

Removed releases are fetched again when they are needed.
"""

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from shared.catalog.paths import MODELS
from shared.processes import process_token

MOST_RELEASES = 8
MOST_BYTES = 2 << 30
"""The Kubernetes deployment gives the home of a worker 5 GiB."""
IN_USE_SECONDS = 600
"""Files are copied out of the cache within seconds; releases that were used this recently stay, whatever the bounds."""


@dataclass(frozen=True, kw_only=True)
class _Kept:
    folder: Path
    used: float
    size: int


def note_used(folder: Path) -> None:
    """Records that a release in the cache was used now, because many file systems do not record access times."""
    with contextlib.suppress(OSError):
        os.utime(folder)


def shrink(cache: Path, *, most_releases: int = MOST_RELEASES, most_bytes: int = MOST_BYTES) -> list[str]:
    """Removes the least recently used releases until both bounds hold; returns their ids."""
    kept = sorted(_find(cache), key=lambda release: release.used, reverse=True)
    removed = []
    size = 0
    for number, release in enumerate(kept, 1):
        size += release.size
        if (number > most_releases or size > most_bytes) and time.time() - release.used > IN_USE_SECONDS:
            _remove(release.folder)
            removed.append(release.folder.name)
    return removed


def _find(cache: Path) -> list[_Kept]:
    found = []
    for folder in (cache / MODELS).glob("*/*@*"):
        with contextlib.suppress(OSError):  # another process removes it
            size = sum(file.stat().st_size for file in folder.iterdir())
            found.append(_Kept(folder=folder, used=folder.stat().st_mtime, size=size))
    return found


def _remove(folder: Path) -> None:
    """Removes a folder from the cache atomically, so that no process finds half of it."""
    aside = folder.parent / f".{process_token()}"  # removed by the next fetch if this process is killed
    with contextlib.suppress(OSError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)
