"""Loads a release alone, under a lease and as a counted step, once its job has lost a process."""

import time

import structlog

from shared.jobs.folder import JobFolder
from shared.queue.leases import leased
from workers.recovery.attempts import MAX_DEATHS, Attempt, counted
from workers.scoring.chunk import ChunkStage
from workers.tasks import context
from workers.tasks.killers import remember_killer
from workers.tasks.policies import verdicts

log = structlog.get_logger()

LOADING_SECONDS, LOADING_PAUSE_SECONDS = 10, 0.2
"""How long a chunk waits while another process tries to load the release, and how often it checks."""

_loaded: set[str] = set()


def has_loaded(release: str) -> bool:
    """True when this process has loaded the release: it kills no loader."""
    return release in _loaded


def note_loaded(release: str) -> None:
    """Remember that this process has loaded the release."""
    _loaded.add(release)


def load_alone(release: str, folder: JobFolder, chunk: Attempt) -> bool:
    """Load the release of a job that lost a process, one process at a time; False if another process is still loading it.

    Raises:
        ModelError: it killed or hung so many processes that another one would fare no better.
    """
    if folder.outcome() is not None:
        return False
    chunk.enter(ChunkStage.LOADING)
    limit = time.monotonic() + min(LOADING_SECONDS, context.settings().chunk_seconds / 3)
    while time.monotonic() < limit:
        with leased(context.redis_client(), f"load:{folder.job_id}") as is_ours:
            if is_ours:
                _load_counted(release, folder)
                return True
        time.sleep(LOADING_PAUSE_SECONDS)
    log.info("left to another process, which loads the release", release=release)
    return False


def _load_counted(release: str, folder: JobFolder) -> None:
    with counted(context.redis_client(), folder, "load") as attempt:
        if attempt.deaths >= MAX_DEATHS:
            verdict = verdicts.killed_loader(release, attempt)
            remember_killer(release, folder, verdict.message)
            raise verdict
        context.library().release(release)
