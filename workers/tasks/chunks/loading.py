"""Loads the release of a chunk: in parallel with other processes, or alone and counted once a process of its job has crashed.

The main process of a worker reports a process of its pool that crashes. A worker that is killed as a whole, such as a container, reports
nothing. Every process therefore marks its first load of a release, in the hash of the job's attempts (``loading:<process>``) and with a
lease. A mark without a lease means that the loader crashed.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import redis
import structlog

from shared.jobs.folder import JobFolder
from shared.processes import process_token
from shared.queue.state.leases import are_leased, leased
from workers.recovery.attempts import MAX_CRASHES, Attempt, counted, record_crash
from workers.scoring.chunks.chunk import ChunkStage
from workers.tasks import context
from workers.tasks.crashing_releases import record_crashing_release
from workers.tasks.policies import verdicts

log = structlog.get_logger()

LOADING_SECONDS, LOADING_PAUSE_SECONDS = 10, 0.2
"""How long a chunk waits while another process tries to load the release, and how often it checks, in seconds."""

LOADING = "loading:"
"""Prefix of the process name, in the hash of a job's attempts and in the name of its lease."""

_loaded: set[str] = set()


def has_loaded(release: str) -> bool:
    """Returns True if this process has loaded the release, so the release does not kill its loader."""
    return release in _loaded


def note_loaded(release: str) -> None:
    """Records that this process has loaded the release."""
    _loaded.add(release)


def has_crashed_loader(chunk: Attempt) -> bool:
    """Returns True if a process crashed while it loaded the release of this job; its mark is removed, and the crash is recorded."""
    client = chunk.client
    with contextlib.suppress(redis.RedisError):
        fields = [field.decode() for field in client.hkeys(chunk.key) if isinstance(field, bytes)]
        marks = [field for field in fields if field.startswith(LOADING)]
        crashed = [mark for mark, is_alive in zip(marks, are_leased(client, marks), strict=True) if not is_alive]
        if crashed:
            record_crash(client, chunk.folder.job_id)
            client.hdel(chunk.key, *crashed)
            return True
    return False


@contextlib.contextmanager
def marked_load(release: str, chunk: Attempt) -> Iterator[Callable[[ChunkStage], None]]:
    """Marks that this process loads a release, unless it has loaded it before; yields a function that removes the mark after that stage."""
    if has_loaded(release):
        yield lambda _: None
        return
    mark = f"{LOADING}{process_token()}"
    with contextlib.ExitStack() as held:
        held.enter_context(leased(chunk.client, mark))
        held.callback(_remove_mark, chunk, mark)
        with contextlib.suppress(redis.RedisError):
            chunk.client.hset(chunk.key, mark, 1)
        yield lambda stage: None if stage is ChunkStage.LOADING else held.close()


def _remove_mark(chunk: Attempt, mark: str) -> None:
    with contextlib.suppress(redis.RedisError):
        chunk.client.hdel(chunk.key, mark)


def load_alone(release: str, folder: JobFolder, chunk: Attempt) -> bool:
    """Loads the release of a job with a crashed process, one process at a time; returns False if another process is still loading it.

    Raises:
        ModelError: the release killed or hung ``MAX_CRASHES`` processes.
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
        if attempt.crashes >= MAX_CRASHES:
            verdict = verdicts.crashed_loader(release, attempt)
            record_crashing_release(release, folder, verdict.message)
            raise verdict
        context.library().release(release)
