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
from shared.job_folder import OPEN, JobFolder, Outcome, close_job, open_jobs
from shared.messages import ChunkOrder, Job, JobOrder, ScoreJob
from shared.routes import NOTIFY, QUEUE_OF_TASK, SCORE_CHUNK, SCORE_FINISH, SCORE_PLAN, TRAIN_FIT
from workers.scoring import missing_chunks, read_plan

CHUNKS_AT_ONCE = 10_000
ORPHAN_SECONDS = 3600
"""A mark without a request is the trace of an enqueue that died; after this long it goes."""

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Orders that are on no queue and in nobody's hands."""

    task: str
    orders: list[JobOrder]


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What can be asked of Redis about messages."""

    is_empty: Callable[[str], bool]
    """True when nothing waits in the queue of this name."""
    are_leased: Callable[[Sequence[str]], list[bool]]
    """For names of steps, whether somebody works on each."""


def sweep(bucket: Bucket, traffic: Traffic, *, grace: timedelta, deadline: timedelta) -> Iterator[Missing]:
    """What must be sent to make every open job go on; marks of jobs that need nothing more are taken away.

    A job gets ``grace`` after its last change before anything of it is sent again, and is failed when it is older than ``deadline``.
    """
    for job_id in open_jobs(bucket):
        try:
            missing = _missing_step(JobFolder(bucket, job_id), grace, deadline)
        except PermanentError as error:
            _drop_orphan(bucket, job_id, str(error))
            continue
        except TransientError as error:
            log.warning("job not looked at, the next sweep is due soon", job=job_id, error=str(error))
            continue
        if missing is not None and traffic.is_empty(QUEUE_OF_TASK[missing.task]):
            held = traffic.are_leased([lease_name(missing.task, order) for order in missing.orders])
            orders = [order for order, taken in zip(missing.orders, held, strict=True) if not taken]
            if orders:
                log.info("sweep sends again", job=job_id, task=missing.task, orders=len(orders))
                yield Missing(task=missing.task, orders=orders)


def lease_name(task: str, order: JobOrder) -> str:
    """The name under which a step is leased: one for each chunk, one for each other step of a job."""
    return f"{task}:{order.job_id}:{order.index}" if isinstance(order, ChunkOrder) else f"{task}:{order.job_id}"


def _missing_step(folder: JobFolder, grace: timedelta, deadline: timedelta) -> Missing | None:
    """The step that the job waits for, or None when it needs nothing or was given too little time.

    Raises:
        RequestError: nobody wrote the job down, or nothing of it can be read, not even how it ended.
    """
    outcome = folder.outcome()
    if outcome is not None:
        return _missing_end(folder, outcome) if datetime.now(UTC) - outcome.at >= grace else None
    try:
        return _missing_work(folder, grace, deadline)
    except MessageError as error:
        return _failed(folder, error)


def _missing_work(folder: JobFolder, grace: timedelta, deadline: timedelta) -> Missing | None:
    job = folder.job()
    now = datetime.now(UTC)
    if now - job.created > deadline:
        return _failed(folder, JobFailedError(f"the job did not end within {deadline.total_seconds() / 3600:g} hours"))
    if now - _last_change(folder, job) < grace:
        return None
    if not folder.has("plan.json"):
        return _order(folder, SCORE_PLAN if isinstance(job, ScoreJob) else TRAIN_FIT)
    plan = read_plan(folder)
    missing = missing_chunks(folder, plan)[:CHUNKS_AT_ONCE]
    if not missing:
        return _order(folder, SCORE_FINISH)
    return Missing(task=SCORE_CHUNK, orders=[ChunkOrder(job_id=folder.job_id, index=index, of=len(plan.chunks)) for index in missing])


def _missing_end(folder: JobFolder, outcome: Outcome) -> Missing | None:
    """What a job that has ended still needs: to be published, to be told of, or nothing."""
    if folder.has("notified.json"):
        close_job(folder.bucket, folder.job_id)
        return None
    if outcome.state == "done" and not folder.has("published.json"):
        return _order(folder, SCORE_FINISH if isinstance(folder.job(), ScoreJob) else TRAIN_FIT)
    return _order(folder, NOTIFY)


def _failed(folder: JobFolder, error: PermanentError) -> Missing:
    """Fail a job that cannot go on; people must be told."""
    log.error("job failed", job=folder.job_id, error=str(error))
    next_step = error.next_step or f"Go on from what is there with: scoring jobs resume {folder.job_id}"
    folder.end(Outcome(state="failed", at=datetime.now(UTC), reason=error.message, next_step=next_step, exit_code=error.exit_code))
    return _order(folder, NOTIFY)


def _order(folder: JobFolder, task: str) -> Missing:
    return Missing(task=task, orders=[JobOrder(job_id=folder.job_id)])


def _last_change(folder: JobFolder, job: Job) -> datetime:
    files = [*folder.bucket.files(folder.path), *folder.bucket.files(folder.file("parts"))]
    newest = max((info.modified for info in files), default=0.0)
    return max(datetime.fromtimestamp(newest, UTC), job.created)


def _drop_orphan(bucket: Bucket, job_id: str, why: str) -> None:
    mark = bucket.stat(f"{OPEN}/{job_id}")
    if mark is not None and datetime.now(UTC).timestamp() - mark.modified > ORPHAN_SECONDS:
        log.warning("job that cannot be read is left alone", job=job_id, why=why)
        close_job(bucket, job_id)
