"""The sweep: inspects the open jobs and sends the messages that were lost.

It runs every few seconds and when a worker starts.
A sweep takes a bounded time: with many open jobs the next sweep continues where it stopped.
Two sweeps may run at the same time: a step that is sent twice finds its work done.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from shared.bucket.interface import Bucket, FileInfo
from shared.errors import JobFailedError, MessageError, PermanentError, TransientError
from shared.jobs.files import JobFile, Subfolder
from shared.jobs.folder import OPEN, JobFolder, Outcome, close_job
from shared.jobs.messages import ChunkMessage, ScoreJob, StepMessage, TrainJob
from shared.queue.routes import NOTIFY, QUEUE_OF_TASK, SCORE_CHUNK, SCORE_FINISH, SCORE_PLAN, TRAIN_CANDIDATE, TRAIN_FIT
from shared.queue.state.stacks import OwnJobs, OwnStack
from workers.concurrency import prefetch_each
from workers.notices.delivery import is_delivered
from workers.scoring.parts import missing_chunks
from workers.scoring.plan import read_plan
from workers.training.search.steps import missing_messages

CHUNKS_AT_ONCE = 10_000
ORPHAN_SECONDS = 3600
"""A mark without a request is left by an enqueue that crashed; it is removed after this many seconds."""

SENDING = timedelta(seconds=2)
"""How long a batch of messages takes to arrive."""

CLOCKS_APART = timedelta(seconds=60)
"""How much the clocks of hosts and of an object store may differ: one dates the sending of a step, another the waiting messages."""

SWEEP_SECONDS = 1.0
"""Time limit of a sweep, whose process plans and finishes no job meanwhile."""

STORE_THREADS = 32
"""Jobs inspected concurrently on an object store, where each inspection waits for several responses."""

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Messages of a step that are on no queue and that no process works on."""

    task: str
    messages: list[StepMessage]
    sent: datetime
    """When they were sent last, according to the job's folder."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What Redis knows about messages."""

    waiting_since: Callable[[str], datetime | None]
    """Returns for a queue when its oldest waiting message was sent; None if no message waits."""
    are_leased: Callable[[Sequence[str]], list[bool]]
    """Returns for each name of a step whether a process works on it."""


@dataclass(kw_only=True)
class Turn:
    """The open jobs that one sweep inspects: those after a job, then those before it, for a limited time."""

    after: str = ""
    """The last inspected job; empty when all were inspected. The sweep sets it."""
    seconds: float = float("inf")

    def in_order(self, marks: list[FileInfo]) -> list[FileInfo]:
        """Returns the marks of the open jobs: those after the last inspected job, then the others."""
        return [mark for mark in marks if _job_of(mark) > self.after] + [mark for mark in marks if _job_of(mark) <= self.after]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When a step counts as lost and a job as overdue."""

    grace: timedelta
    """How long after its message was sent a step is sent again."""
    deadline: timedelta
    """A job that was opened longer ago fails."""
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    """The time of one clock for all workers, that of Redis: a worker whose clock is wrong must not fail jobs."""


def sweep(
    bucket: Bucket,
    traffic: Traffic,
    rules: Rules,
    turn: Turn | None = None,
    stack: OwnStack | None = None,
    may_enter: Callable[[str], bool] | None = None,
) -> Iterator[Missing]:
    """Yields what must be sent so that every open job continues, and closes jobs that need nothing more.

    A message is lost if no process works on its step and every message in its queue was sent later, because queues are served in order.
    So a job after 20,000 chunks of others is not sent twice, and a lost chunk does not wait for them.
    Jobs of another stack than ``stack`` are skipped, and jobs for which ``may_enter``, called before each inspection, returns False.
    """
    turn = turn or Turn()
    limit = time.monotonic() + turn.seconds
    marks = turn.in_order(bucket.files(OPEN))
    share = stack.own_jobs_among([_job_of(mark) for mark in marks]) if stack else None
    look = functools.partial(_inspect_jobs, bucket, rules, share, may_enter)
    # on a disk, threads take longer than a plain loop
    looks = prefetch_each(look, marks, STORE_THREADS) if bucket.is_remote and may_enter is None else map(look, marks)
    try:
        for mark, missing in zip(marks, looks, strict=True):
            turn.after = _job_of(mark)
            if missing is not None and (lost := _lost_messages(missing, traffic, rules)):
                log.info("sweep sends again", job=turn.after, task=missing.task, messages=len(lost))
                _note_sent(JobFolder(bucket, turn.after))
                yield Missing(task=missing.task, messages=lost, sent=missing.sent)
            if time.monotonic() > limit:
                log.info("sweep continues at its next turn", after=turn.after, open_jobs=len(marks))
                return
        turn.after = ""
    finally:
        if stack and share:
            stack.log_foreign_jobs(share)


def _job_of(mark: FileInfo) -> str:
    return mark.path.rpartition("/")[2]


def _inspect_jobs(
    bucket: Bucket, rules: Rules, own_jobs: OwnJobs | None, may_enter: Callable[[str], bool] | None, mark: FileInfo
) -> Missing | None:
    """Returns the step that a job waits for; None if it needs none, is skipped, belongs to another stack, or cannot be read now."""
    if may_enter is not None and not may_enter(_job_of(mark)):
        return None
    try:
        if own_jobs and not own_jobs.is_own(_job_of(mark)):
            return None
        return _missing_step(JobFolder(bucket, _job_of(mark)), mark, rules)
    except PermanentError as error:
        _drop_orphan(bucket, mark, str(error), rules.now)
    except TransientError as error:
        log.warning("job not inspected, the next sweep is due soon", job=_job_of(mark), error=str(error))
    return None


def _lost_messages(missing: Missing, traffic: Traffic, rules: Rules) -> list[StepMessage]:
    if not _is_lost(missing, traffic, rules):
        return []
    held = traffic.are_leased([lease_name(missing.task, message) for message in missing.messages])
    return [message for message, taken in zip(missing.messages, held, strict=True) if not taken]


def lease_name(task: str, message: StepMessage) -> str:
    """Returns the name of the lease of a step: one per chunk, one per candidate and fold, one per other step of a job."""
    return ":".join([task, message.job_id, *([message.piece_name] if message.piece else [])])


def _is_lost(missing: Missing, traffic: Traffic, rules: Rules) -> bool:
    if rules.now - missing.sent < rules.grace:
        return False
    oldest = traffic.waiting_since(QUEUE_OF_TASK[missing.task])
    return oldest is None or oldest > missing.sent + SENDING + CLOCKS_APART


def _missing_step(folder: JobFolder, mark: FileInfo, rules: Rules) -> Missing | None:
    """Returns the step that the job waits for, or None when it needs nothing.

    Raises:
        RequestError: the job has no request, or nothing of it can be read, not even how it ended.
    """
    outcome = folder.outcome()
    if outcome is not None:
        return _missing_end(folder, outcome, rules)
    try:
        return _missing_work(folder, mark, rules)
    except MessageError as error:
        return _failed(folder, error)


def _missing_work(folder: JobFolder, mark: FileInfo, rules: Rules) -> Missing | None:
    job = folder.job()
    opened = max(job.created, datetime.fromtimestamp(mark.modified, UTC))  # requested or resumed
    if rules.now - opened > rules.deadline:
        return _failed(folder, JobFailedError(f"the job did not end within {rules.deadline.total_seconds() / 3600:g} hours"))
    if isinstance(job, TrainJob):
        return _missing_training(folder, job, rules)
    if not folder.has(JobFile.PLAN):
        return _message(folder, SCORE_PLAN, job.created, rules)
    plan = read_plan(folder)
    missing = missing_chunks(folder, plan)[:CHUNKS_AT_ONCE]
    if not missing:
        return _message(folder, SCORE_FINISH, _last_file(folder, Subfolder.PARTS, plan.made), rules)
    messages: list[StepMessage] = [ChunkMessage(job_id=folder.job_id, index=index, of=len(plan.chunks)) for index in missing]
    return Missing(task=SCORE_CHUNK, messages=messages, sent=_last_sent(folder, plan.made, rules))


def _missing_training(folder: JobFolder, job: TrainJob, rules: Rules) -> Missing:
    """Returns what a train job waits for: candidates of its search, or the fit, which also continues the search."""
    candidates, made = missing_messages(folder)
    if candidates:
        messages: list[StepMessage] = [*candidates[:CHUNKS_AT_ONCE]]
        return Missing(task=TRAIN_CANDIDATE, messages=messages, sent=_last_sent(folder, made or job.created, rules))
    return _message(folder, TRAIN_FIT, _last_file(folder, Subfolder.CANDIDATES, job.created), rules)


def _missing_end(folder: JobFolder, outcome: Outcome, rules: Rules) -> Missing | None:
    """Returns what a job that has ended still needs: its publication, its notice, or nothing."""
    if is_delivered(folder, outcome):
        folder.remove_open_mark(outcome)
        return None
    if not folder.is_settled(outcome):
        return _message(folder, SCORE_FINISH if isinstance(folder.job(), ScoreJob) else TRAIN_FIT, outcome.at, rules)
    return _message(folder, NOTIFY, outcome.at, rules)


def _failed(folder: JobFolder, error: PermanentError) -> Missing:
    """Fails a job that cannot continue, with a notice."""
    log.error("job failed", job=folder.job_id, error=str(error))
    folder.fail(error)
    return Missing(task=NOTIFY, messages=[StepMessage(job_id=folder.job_id)], sent=datetime.fromtimestamp(0, UTC))


def _message(folder: JobFolder, task: str, sent: datetime, rules: Rules) -> Missing:
    return Missing(task=task, messages=[StepMessage(job_id=folder.job_id)], sent=_last_sent(folder, sent, rules))


def _last_file(folder: JobFolder, subfolder: Subfolder, otherwise: datetime) -> datetime:
    """Returns when the newest part or candidate record was written, which is when its step sent the next one."""
    newest = max((info.modified for info in folder.bucket.files(folder.file(subfolder))), default=0.0)
    return max(datetime.fromtimestamp(newest, UTC), otherwise)


def _last_sent(folder: JobFolder, first: datetime, rules: Rules) -> datetime:
    """Returns when the messages of the current step were sent last: when the step became due, or by a later sweep.

    A time in the future is replaced by one that is the grace period ago: the clock of the worker that wrote it is ahead, by a day
    perhaps, and the step does not wait for that day.
    """
    again = folder.bucket.stat(folder.file(JobFile.SENT_AGAIN))
    times = [first, datetime.fromtimestamp(again.modified, UTC)] if again else [first]
    return max(rules.now - rules.grace if time > rules.now + CLOCKS_APART else time for time in times)


def _note_sent(folder: JobFolder) -> None:
    try:
        folder.bucket.write(folder.file(JobFile.SENT_AGAIN), b"")
    except TransientError as error:
        # the next sweep may then send messages twice, which has the same outcome
        log.warning("sending not noted", job=folder.job_id, error=str(error))


def _drop_orphan(bucket: Bucket, mark: FileInfo, why: str, now: datetime) -> None:
    if now.timestamp() - mark.modified > ORPHAN_SECONDS:
        log.warning("job that cannot be read is left alone", job=_job_of(mark), why=why)
        close_job(bucket, _job_of(mark))
