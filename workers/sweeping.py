"""The sweep: looks at every job that still needs something done, and sends what no message is on its way for.

It runs every few seconds and when a worker starts. It needs nothing but the bucket and Redis, remembers nothing, and may run twice
at the same time: whatever it sends too often finds its work done.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from shared.bucket import Bucket
from shared.errors import JobFailedError, MessageError, PermanentError, TransientError
from shared.job_folder import CANDIDATES, OPEN, PUBLISHED, JobFolder, Outcome, close_job, open_jobs
from shared.messages import CandidateOrder, ChunkOrder, JobOrder, ScoreJob, TrainJob
from shared.routes import NOTIFY, QUEUE_OF_TASK, SCORE_CHUNK, SCORE_FINISH, SCORE_PLAN, TRAIN_CANDIDATE, TRAIN_FIT
from workers.notices import is_told
from workers.parts import missing_chunks
from workers.planning import read_plan
from workers.tuning import missing_orders

CHUNKS_AT_ONCE = 10_000
ORPHAN_SECONDS = 3600
"""A mark without a request is the trace of an enqueue that died; after this long it goes."""

SENT_AGAIN = "sent-again"
"""File in a job's folder whose time says when a sweep last sent something of it."""

SENDING = timedelta(seconds=2)
"""A batch of messages is on its way for so long."""

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Orders that are on no queue and in nobody's hands."""

    task: str
    orders: list[JobOrder]
    sent: datetime
    """When they were sent last, as far as the job's folder tells."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What can be asked of Redis about messages."""

    waiting_since: Callable[[str], datetime | None]
    """For a queue, when the message was sent that waits longest; None when nothing waits."""
    are_leased: Callable[[Sequence[str]], list[bool]]
    """For names of steps, whether somebody works on each."""


def sweep(bucket: Bucket, traffic: Traffic, *, grace: timedelta, deadline: timedelta) -> Iterator[Missing]:
    """What must be sent to make every open job go on; marks of jobs that need nothing more are taken away.

    A step gets ``grace`` after its message was sent before it is sent again; a job that is older than ``deadline`` is failed.

    A message is lost when nobody works on its step, and nothing waits in its queue that was sent as early as it: queues are served in
    turn, so it would have been served. A job behind 20,000 chunks of others is not sent twice, and a lost chunk does not wait for them.
    """
    for job_id in open_jobs(bucket):
        try:
            missing = _missing_step(JobFolder(bucket, job_id), deadline)
        except PermanentError as error:
            _drop_orphan(bucket, job_id, str(error))
            continue
        except TransientError as error:
            log.warning("job not looked at, the next sweep is due soon", job=job_id, error=str(error))
            continue
        if missing is None or not _is_lost(missing, traffic, grace):
            continue
        held = traffic.are_leased([lease_name(missing.task, order) for order in missing.orders])
        orders = [order for order, taken in zip(missing.orders, held, strict=True) if not taken]
        if orders:
            log.info("sweep sends again", job=job_id, task=missing.task, orders=len(orders))
            _note_sent(JobFolder(bucket, job_id))
            yield Missing(task=missing.task, orders=orders, sent=missing.sent)


def lease_name(task: str, order: JobOrder) -> str:
    """The name under which a step is leased: one for each chunk, one for each candidate and fold, one for each other step of a job."""
    if isinstance(order, CandidateOrder):
        return f"{task}:{order.job_id}:{order.candidate}.{order.fold}"
    return f"{task}:{order.job_id}:{order.index}" if isinstance(order, ChunkOrder) else f"{task}:{order.job_id}"


def _is_lost(missing: Missing, traffic: Traffic, grace: timedelta) -> bool:
    if datetime.now(UTC) - missing.sent < grace:
        return False
    oldest = traffic.waiting_since(QUEUE_OF_TASK[missing.task])
    return oldest is None or oldest > missing.sent + SENDING


def _missing_step(folder: JobFolder, deadline: timedelta) -> Missing | None:
    """The step that the job waits for, or None when it needs nothing.

    Raises:
        RequestError: nobody wrote the job down, or nothing of it can be read, not even how it ended.
    """
    outcome = folder.outcome()
    if outcome is not None:
        return _missing_end(folder, outcome)
    try:
        return _missing_work(folder, deadline)
    except MessageError as error:
        return _failed(folder, error)


def _missing_work(folder: JobFolder, deadline: timedelta) -> Missing | None:
    job = folder.job()
    now = datetime.now(UTC)
    if now - _opened(folder, job.created) > deadline:
        return _failed(folder, JobFailedError(f"the job did not end within {deadline.total_seconds() / 3600:g} hours"))
    if isinstance(job, TrainJob):
        return _missing_training(folder, job)
    if not folder.has("plan.json"):
        return _order(folder, SCORE_PLAN, job.created)
    plan = read_plan(folder)
    missing = missing_chunks(folder, plan)[:CHUNKS_AT_ONCE]
    if not missing:
        return _order(folder, SCORE_FINISH, _last_file(folder, "parts", plan.made))
    orders: list[JobOrder] = [ChunkOrder(job_id=folder.job_id, index=index, of=len(plan.chunks)) for index in missing]
    return Missing(task=SCORE_CHUNK, orders=orders, sent=_last_sent(folder, plan.made))


def _missing_training(folder: JobFolder, job: TrainJob) -> Missing:
    """What a train job waits for: candidates of its search, or the fit, which also goes on with the search."""
    candidates, made = missing_orders(folder)
    if candidates:
        orders: list[JobOrder] = [*candidates[:CHUNKS_AT_ONCE]]
        return Missing(task=TRAIN_CANDIDATE, orders=orders, sent=_last_sent(folder, made or job.created))
    return _order(folder, TRAIN_FIT, _last_file(folder, CANDIDATES, job.created))


def _opened(folder: JobFolder, created: datetime) -> datetime:
    """When the job was asked for, or let go on, last."""
    mark = folder.bucket.stat(f"{OPEN}/{folder.job_id}")
    return max(created, datetime.fromtimestamp(mark.modified, UTC)) if mark else created


def _missing_end(folder: JobFolder, outcome: Outcome) -> Missing | None:
    """What a job that has ended still needs: to be published, to be told of, or nothing."""
    if is_told(folder, outcome):
        folder.close(outcome)
        return None
    if outcome.state == "done" and not folder.has(PUBLISHED):
        return _order(folder, SCORE_FINISH if isinstance(folder.job(), ScoreJob) else TRAIN_FIT, outcome.at)
    return _order(folder, NOTIFY, outcome.at)


def _failed(folder: JobFolder, error: PermanentError) -> Missing:
    """Fail a job that cannot go on; people must be told."""
    log.error("job failed", job=folder.job_id, error=str(error))
    folder.fail(error)
    return Missing(task=NOTIFY, orders=[JobOrder(job_id=folder.job_id)], sent=datetime.fromtimestamp(0, UTC))


def _order(folder: JobFolder, task: str, sent: datetime) -> Missing:
    return Missing(task=task, orders=[JobOrder(job_id=folder.job_id)], sent=_last_sent(folder, sent))


def _last_file(folder: JobFolder, name: str, otherwise: datetime) -> datetime:
    """When the newest part or record of a candidate was there: whoever wrote it sent what comes next."""
    newest = max((info.modified for info in folder.bucket.files(folder.file(name))), default=0.0)
    return max(datetime.fromtimestamp(newest, UTC), otherwise)


def _last_sent(folder: JobFolder, first: datetime) -> datetime:
    """When the messages of the present step were sent last: when the step came up, or by a sweep since."""
    again = folder.bucket.stat(folder.file(SENT_AGAIN))
    return max(first, datetime.fromtimestamp(again.modified, UTC)) if again else first


def _note_sent(folder: JobFolder) -> None:
    try:
        folder.bucket.write(folder.file(SENT_AGAIN), b"")
    except TransientError as error:
        # then the next sweep may send too much, with the same outcome
        log.warning("sending not noted", job=folder.job_id, error=str(error))


def _drop_orphan(bucket: Bucket, job_id: str, why: str) -> None:
    mark = bucket.stat(f"{OPEN}/{job_id}")
    if mark is not None and datetime.now(UTC).timestamp() - mark.modified > ORPHAN_SECONDS:
        log.warning("job that cannot be read is left alone", job=job_id, why=why)
        close_job(bucket, job_id)
