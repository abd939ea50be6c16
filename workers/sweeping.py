"""The sweep: looks at every job that still needs something done, and sends what no message is on its way for.

It runs every few seconds and when a worker starts. It needs nothing but the bucket and Redis, remembers nothing, and may run twice
at the same time: whatever it sends too often finds its work done.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from shared.bucket import Bucket
from shared.errors import JobFailedError, RequestError
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
        folder = JobFolder(bucket, job_id)
        try:
            job = folder.job()
        except RequestError as error:
            _drop_orphan(bucket, job_id, str(error))
            continue
        task = _missing_step(folder, job, grace, deadline)
        if task is None:
            continue
        orders = _missing_chunks(folder) if task == SCORE_CHUNK else [JobOrder(job_id=job_id)]
        if traffic.is_empty(QUEUE_OF_TASK[task]):
            held = traffic.are_leased([lease_name(task, order) for order in orders])
            orders = [order for order, taken in zip(orders, held, strict=True) if not taken]
            if orders:
                log.info("sweep sends again", job=job_id, task=task, orders=len(orders))
                yield Missing(task=task, orders=orders)


def lease_name(task: str, order: JobOrder) -> str:
    """The name under which a step is leased: one for each chunk, one for each other step of a job."""
    return f"{task}:{order.job_id}:{order.index}" if isinstance(order, ChunkOrder) else f"{task}:{order.job_id}"


def _missing_step(folder: JobFolder, job: Job, grace: timedelta, deadline: timedelta) -> str | None:
    """The task that the job waits for, or None when it needs nothing or was given too little time."""
    now = datetime.now(UTC)
    outcome = folder.outcome()
    if outcome is None and now - job.created > deadline:
        reason = f"the job did not end within {deadline.total_seconds() / 3600:g} hours"
        next_step = f"Go on from what is there with: scoring jobs resume {job.job_id}"
        folder.end(Outcome(state="failed", at=now, reason=reason, next_step=next_step, exit_code=JobFailedError.exit_code))
        return NOTIFY
    if outcome is not None:
        return _missing_end(folder, job, outcome) if now - outcome.at >= grace else None
    if now - _last_change(folder, job) < grace:
        return None
    if not folder.has("plan.json"):
        return SCORE_PLAN if isinstance(job, ScoreJob) else TRAIN_FIT
    return SCORE_CHUNK if _missing_chunks(folder) else SCORE_FINISH


def _missing_end(folder: JobFolder, job: Job, outcome: Outcome) -> str | None:
    """What a job that has ended still needs: to be published, to be told of, or nothing."""
    if folder.has("notified.json"):
        close_job(folder.bucket, job.job_id)
        return None
    if outcome.state == "done" and not folder.has("published.json"):
        return SCORE_FINISH if isinstance(job, ScoreJob) else TRAIN_FIT
    return NOTIFY


def _last_change(folder: JobFolder, job: Job) -> datetime:
    files = [*folder.bucket.files(folder.path), *folder.bucket.files(folder.file("parts"))]
    newest = max((info.modified for info in files), default=0.0)
    return max(datetime.fromtimestamp(newest, UTC), job.created)


def _missing_chunks(folder: JobFolder) -> list[JobOrder]:
    plan = read_plan(folder)
    missing = missing_chunks(folder, plan)[:CHUNKS_AT_ONCE]
    return [ChunkOrder(job_id=folder.job_id, index=index, of=len(plan.chunks)) for index in missing]


def _drop_orphan(bucket: Bucket, job_id: str, why: str) -> None:
    mark = bucket.stat(f"{OPEN}/{job_id}")
    if mark is not None and datetime.now(UTC).timestamp() - mark.modified > ORPHAN_SECONDS:
        log.warning("job without a readable request is left alone", job=job_id, why=why)
        close_job(bucket, job_id)
