"""Counts the crashes of a step: runs that started and never ended, because the step kills its process or hangs.

Redis counts each start, in a hash ``scoring:attempts:<job>`` with a field per step; an orderly end, also with an error, removes the count.
A step that crashed before, or was sent again by the sweep, is also recorded in the job's folder (``crash_records``): an event that empties
Redis also loses its messages, so the sweep sends again every step that runs afterwards.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import redis
import structlog
from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # new in billiard 4.3, after its type stubs
from celery.exceptions import SoftTimeLimitExceeded

from shared.jobs.folder import JobFolder
from shared.jobs.messages import StepMessage
from shared.memory_limit import describe_memory
from shared.queue.state.progress import KEPT_SECONDS
from shared.queue.state.scripts import Argument, Key, Script
from workers.recovery.crash_records import CrashRecord, read_crash_record, remove_crash_record, remove_crash_records, write_crash_record

MAX_CRASHES = 3
"""After this many crashes a step is not tried again: the job fails, a chunk is scored in pieces, a candidate is given up."""

CRASHED = "lost"
"""Field of the hash: a process of the job crashed."""

EXIT_CODE = "exit code "
"""Prefix of the number in that field, if the last crashed process exited by itself."""

log = structlog.get_logger()


@dataclass(kw_only=True)
class _UncountStart(Script[None]):
    """Takes back one start of a step, unless none is counted."""

    attempts: Key
    step: Argument

    lua = "if tonumber(redis.call('hget', attempts, step) or '0') > 0 then redis.call('hincrby', attempts, step, -1) end"


@dataclass(kw_only=True)
class Attempt:
    """A run of a step that has started and not ended."""

    client: redis.Redis
    folder: JobFolder
    step: str
    crashes: int = 0
    """Earlier runs that started and never ended."""
    job_has_crashed: bool = False
    """True when a process crashed with any step of the job."""
    exit_code: int | None = None
    """The exit code of the last crashed process of the job; None if a signal killed it, or if unknown."""
    is_over: bool = False
    """True once its count was removed, for example by the script that marks a chunk as done."""
    last: CrashRecord | None = None
    """The record of the previous run."""
    written: CrashRecord | None = field(default=None, repr=False)
    """The record of this run; None for a step that never crashed and was never sent again."""

    @property
    def key(self) -> str:
        """The hash in Redis with the counts of its job."""
        return attempts_key(self.folder.job_id)

    @property
    def crashes_elsewhere(self) -> int:
        """Consecutive crashes outside of scoring rows, as far as known."""
        return self.written.crashes_elsewhere if self.written else 0

    def enter(self, doing: str, *, is_scoring_rows: bool = False) -> None:
        """Records what the step does from now on; does nothing for a step that never crashed."""
        if self.written is None or not self.crashes:
            return
        self.written = self.written.model_copy(update={"doing": doing, "is_scoring_rows": is_scoring_rows})
        write_crash_record(self.folder, self.step, self.written)

    def forget(self) -> None:
        """Removes its count: the run ended, with or without an error."""
        if not self.is_over:
            with contextlib.suppress(redis.RedisError):
                self.client.hdel(self.key, self.step, _sent_again(self.step))
        if self.written is not None:
            remove_crash_record(self.folder, self.step)
        self.is_over, self.written = True, None

    def note_time_limit(self) -> None:
        """Counts the end at the time limit as a crash, because the step would reach the limit again."""
        record_crash(self.client, self.folder.job_id)
        if self.written is not None:
            self.written = self.written.model_copy(update={"ran_out_of_time": True})
            write_crash_record(self.folder, self.step, self.written)


def attempts_key(job_id: str) -> str:
    """Returns the key of the hash in Redis that counts the starts of a job's steps."""
    return f"scoring:attempts:{job_id}"


def step_name(task: str, message: StepMessage) -> str:
    """Returns the name under which a step is counted within its job; for a chunk it is the index, as in ``progress.mark_part``."""
    return message.piece_name or task


@contextlib.contextmanager
def counted(client: redis.Redis, folder: JobFolder, step: str) -> Iterator[Attempt]:
    """Counts the start of a step; an orderly end, also with an error, removes its count.

    A step that reaches its time limit has no orderly end. A step whose process stops with its worker takes back only this start.
    """
    attempt = _begin(client, folder, step)
    try:
        yield attempt
    except SoftTimeLimitExceeded:
        attempt.note_time_limit()
        raise
    except BaseException:
        if terminate_handler_fired():
            uncount_start(client, folder.job_id, step)
        else:
            attempt.forget()
        raise
    attempt.forget()


def _begin(client: redis.Redis, folder: JobFolder, step: str) -> Attempt:
    attempt = Attempt(client=client, folder=folder, step=step)
    known, was_sent_again = _count(client, attempt)
    attempt.crashes = max(0, int(known or 0))
    if attempt.crashes and not attempt.job_has_crashed:
        record_crash(client, folder.job_id)
    if not attempt.crashes and not was_sent_again:
        return attempt
    attempt.last = read_crash_record(folder, step)
    if known is None and attempt.last is not None:
        attempt.crashes = attempt.last.starts
    attempt.written = CrashRecord(starts=attempt.crashes + 1, crashes_elsewhere=_crashes_elsewhere(attempt), had=describe_memory())
    write_crash_record(folder, step, attempt.written)
    return attempt


def _count(client: redis.Redis, attempt: Attempt) -> tuple[bytes | None, bool]:
    """Counts one more start; returns the earlier count (None if unknown), and whether the folder may have a record."""
    try:
        with client.pipeline(transaction=False) as pipe:
            pipe.hmget(attempt.key, attempt.step, _sent_again(attempt.step), CRASHED)
            pipe.hincrby(attempt.key, attempt.step, 1)
            pipe.expire(attempt.key, KEPT_SECONDS)
            known, again, lost = pipe.execute()[0]
    except redis.RedisError as error:
        log.warning("attempt not counted in Redis", error=str(error))
        return None, True
    attempt.job_has_crashed = lost is not None
    code = (lost or b"").decode(errors="replace").removeprefix(EXIT_CODE)
    attempt.exit_code = int(code) if lost is not None and lost.startswith(EXIT_CODE.encode()) and code.isdecimal() else None
    return known, again is not None


def _crashes_elsewhere(attempt: Attempt) -> int:
    """Counts the consecutive crashes outside of scoring rows; a crash while scoring rows resets the count.

    A crash whose record names no activity, such as the first, counts as one outside.
    """
    if not attempt.crashes:
        return 0
    if attempt.last is None or not attempt.last.doing:
        return attempt.crashes
    return 0 if attempt.last.is_scoring_rows else attempt.last.crashes_elsewhere + 1


def forget_job(client: redis.Redis, folder: JobFolder) -> None:
    """Removes all counts of a job that failed: if it is resumed, each step gets its tries again."""
    with contextlib.suppress(redis.RedisError):
        client.delete(attempts_key(folder.job_id))
    remove_crash_records(folder)


def uncount_start(client: redis.Redis, job_id: str, step: str) -> None:
    """Takes back one start of a step whose worker stops: the step is not at fault for that end."""
    with contextlib.suppress(redis.RedisError):
        _UncountStart(attempts=attempts_key(job_id), step=step).run(client)


def record_crash(client: redis.Redis, job_id: str, exit_code: int | None = None) -> None:
    """Records that a process crashed while it ran a step of this job, and its exit code if it exited by itself.

    A process that begins another chunk of the job then loads the release with care.
    """
    key = attempts_key(job_id)
    with contextlib.suppress(redis.RedisError), client.pipeline(transaction=False) as pipe:
        pipe.hset(key, CRASHED, 1 if exit_code is None else f"{EXIT_CODE}{exit_code}")
        pipe.expire(key, KEPT_SECONDS)
        pipe.execute()


def note_sent_again(client: redis.Redis, job_id: str, steps: Sequence[str]) -> None:
    """Records that messages of these steps were lost and are sent again, so that their crashes are also counted in the job's folder."""
    key = attempts_key(job_id)
    with contextlib.suppress(redis.RedisError), client.pipeline(transaction=False) as pipe:
        pipe.hset(key, mapping={_sent_again(step): 1 for step in steps})
        pipe.expire(key, KEPT_SECONDS)
        pipe.execute()


def _sent_again(step: str) -> str:
    return f"{step}:again"
