"""The tasks of a score job."""

import contextlib
import functools
import time
from collections.abc import Callable, Sequence

import celery
import redis
import structlog

from model_store.store import releases_kept
from shared.errors import ModelError, StrayOrderError, TransientError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ChunkOrder, JobOrder
from shared.queue import counters, progress, routes
from shared.queue.broker import send
from shared.queue.killers import forget_killer
from shared.queue.leases import leased
from workers.recovery import verdicts
from workers.recovery.attempts import MAX_DEATHS, Attempt, counted
from workers.scoring import chunk as chunk_scoring
from workers.scoring import joining, planning, publishing
from workers.scoring.isolation import is_suspect
from workers.scoring.parts import ChunkRecord, missing_chunks
from workers.scoring.plan import Begun, Chunk, Plan, PlannedChunk, read_begun, read_plan
from workers.scoring.reject_limits import check_so_far, count_rejects
from workers.tasks import context
from workers.tasks.runner import remember_killer, step
from workers.training.search import steps

log = structlog.get_logger()
SENDING_PAUSE_SECONDS = 0.05
"""Between two lots of chunks that are sent while the table is being cut."""
LOADING_SECONDS, LOADING_PAUSE_SECONDS = 10, 0.2
"""How long a chunk waits for a release that another process tries to load, and how often it looks."""


@functools.lru_cache(maxsize=8)
def plan_of(job_id: str) -> Plan:
    """The plan of a job, read once: it never changes."""
    return read_plan(JobFolder(context.bucket(), job_id))


@functools.lru_cache(maxsize=8)
def begun_of(job_id: str) -> Begun:
    """What is settled of the plan of a job that is being cut, read once: it never changes. Raises StrayOrderError when nothing is."""
    begun = read_begun(JobFolder(context.bucket(), job_id))
    if begun is None:
        raise StrayOrderError(f"nothing of job {job_id} is planned")
    return begun


@step(routes.SCORE_PLAN, JobOrder)
def score_plan(task: celery.Task, order: JobOrder, folder: JobFolder, _: Attempt) -> None:
    """Cut the table, and send every chunk that has no part yet, most of them while it is still being cut."""
    early = _EarlyOrders(task.app, order.job_id)
    plan = planning.plan_job(folder, early.ready, max_unpacked_ratio=context.settings().max_unpacked_ratio)
    if plan is None:
        send(task.app, routes.NOTIFY, [order])
        return
    missing = missing_chunks(folder, plan)
    log.info("planned", chunks=len(plan.chunks), missing=len(missing), sent_before=early.sent, release=plan.release)
    if not missing:
        send(task.app, routes.SCORE_FINISH, [order])
        return
    if not early.sent:
        _mark_parts(folder, set(range(len(plan.chunks))) - set(missing))
    if len(missing) <= joining.awaited_chunks(plan):
        send(task.app, routes.SCORE_FINISH, [order])
    later = [index for index in missing if index >= early.sent]
    send(task.app, routes.SCORE_CHUNK, [ChunkOrder(job_id=order.job_id, index=index, of=len(plan.chunks)) for index in later])


def _mark_parts(folder: JobFolder, done: set[int]) -> None:
    """Let the parts count that are there from the start: those of a resumed job, or taken over from a job that is fixed."""
    try:
        progress.mark_parts(context.redis_client(), folder.job_id, done, count_rejects(folder))
    except redis.RedisError as error:
        # only a hint, as for each part
        log.warning("parts not marked", error=str(error))


class _EarlyOrders:
    """Sends chunks while the table is still being cut, a few at a time. Only makes things quicker: what is not sent goes with the plan."""

    def __init__(self, app: celery.Celery, job_id: str) -> None:
        self._app, self._job_id = app, job_id
        self._next = 0.0
        self.sent = 0

    def ready(self, chunks: Sequence[Chunk]) -> None:
        """Send what can be scored and was not sent, unless something was sent a moment ago."""
        count = len(chunks)
        if count <= self.sent or time.monotonic() < self._next:
            return
        orders = [ChunkOrder(job_id=self._job_id, index=index, of=0, cut=chunks[index]) for index in range(self.sent, count)]
        try:
            send(self._app, routes.SCORE_CHUNK, orders)
        except TransientError as error:
            log.warning("chunks not sent before the plan", error=str(error))
            self._next = float("inf")
            return
        self.sent, self._next = count, time.monotonic() + SENDING_PAUSE_SECONDS


@step(routes.SCORE_CHUNK, ChunkOrder)
def score_chunk(task: celery.Task, order: ChunkOrder, folder: JobFolder, attempt: Attempt) -> None:
    """Score one chunk; whoever completes the job sends the finish."""
    steps.forget_table()
    planned = _planned(order, folder)
    kept_before = releases_kept()
    part = _score_or_give_up(order, planned, folder, attempt)
    if part is None:
        return
    log.info("chunk scored", rows=part.rows_in, seconds=round(part.seconds, 3))
    marked = _mark_part(order, part, attempt, release_was_kept=releases_kept() > kept_before)
    if marked is None:
        return
    if order.cut is not None and not folder.has("plan.json"):
        return  # whoever cuts the table looks for parts once it is cut
    plan = plan_of(order.job_id)
    is_last = marked.chunks >= len(plan.chunks)
    if is_last or (marked.chunks == len(plan.chunks) - joining.awaited_chunks(plan) and part.seconds < joining.AWAITED_SECONDS / 2):
        send(task.app, routes.SCORE_FINISH, [JobOrder(job_id=order.job_id)])
    if marked.rejected and not is_last:
        check_so_far(folder, plan, marked.rejected)


def _score_or_give_up(order: ChunkOrder, planned: PlannedChunk, folder: JobFolder, attempt: Attempt) -> ChunkRecord | None:
    """Score a chunk; one that kills its process in pieces, and one that does so elsewhere than in scoring rows not at all."""
    if attempt.deaths_elsewhere >= MAX_DEATHS:
        verdict = verdicts.killed_chunk(order, planned.release, attempt)
        if isinstance(verdict, ModelError):
            remember_killer(planned.release, folder, verdict.message)
        raise verdict
    if (attempt.deaths or attempt.has_lost) and planned.release not in _loaded and not _try_to_load(planned.release, folder, attempt):
        return None
    if attempt.deaths >= MAX_DEATHS or (attempt.deaths and is_suspect(folder, order.index)):
        part = _score_in_pieces(planned, folder, attempt)
    else:
        part = chunk_scoring.score_chunk(folder, planned, context.library(), enter=_tell_stages(attempt))
    _loaded.add(planned.release)
    return part


_loaded: set[str] = set()
"""The releases that this process has loaded: they kill no loader."""


def _try_to_load(release: str, folder: JobFolder, chunk: Attempt) -> bool:
    """Load the release of a job that lost a process, one process at a time, which is counted; False where another is still at it.

    Raises:
        ModelError: it killed or hung so many processes that another one would fare no better.
    """
    if folder.outcome() is not None:
        return False
    chunk.enter(chunk_scoring.ChunkStage.LOADING)
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


def _tell_stages(attempt: Attempt) -> Callable[[chunk_scoring.ChunkStage], None]:
    return lambda stage: attempt.enter(stage, in_isolation=stage is chunk_scoring.ChunkStage.SCORING)


def _forget_killer(release: str) -> None:
    """A release that could be loaded after all, as once its definition was corrected, is named no more."""
    with contextlib.suppress(redis.RedisError):
        forget_killer(context.redis_client(), release)


def _mark_part(order: ChunkOrder, part: ChunkRecord, attempt: Attempt, *, release_was_kept: bool) -> progress.Marked | None:
    """Say in Redis that a chunk is done; None when that cannot be said."""
    # what was in memory was not loaded
    stages = {stage: seconds for stage, seconds in part.stages.items() if stage != "load" or not release_was_kept}
    counts = counters.of_chunk(rows=part.rows_in, rejects=part.rows_rejected, stages=stages, release_was_kept=release_was_kept)
    try:
        marked = progress.mark_part(context.redis_client(), order.job_id, order.index, counts=counts, attempts=attempt.key)
    except redis.RedisError as error:
        # only a hint: the sweep will see from the folder that all parts are there
        log.warning("part not marked", error=str(error))
        return None
    attempt.is_over = True
    return marked


def _planned(order: ChunkOrder, folder: JobFolder) -> PlannedChunk:
    """What is to be scored; raises StrayOrderError when there is no such chunk."""
    if order.cut is None or folder.has("plan.json"):
        planned = plan_of(order.job_id).chunk(order.index)
        if order.cut not in (None, planned.chunk):
            raise StrayOrderError(f"chunk {order.index} of job {order.job_id} was cut otherwise")
        return planned
    return begun_of(order.job_id).chunk(order.index, order.cut)


def _score_in_pieces(planned: PlannedChunk, folder: JobFolder, attempt: Attempt) -> ChunkRecord | None:
    with leased(context.redis_client(), f"pieces:{folder.job_id}:{planned.index}") as is_ours:
        if not is_ours:
            return None  # two at once would take each other's try for a death
        log.warning("chunk killed its worker and is tried in pieces", deaths=attempt.deaths)
        return chunk_scoring.score_chunk(folder, planned, context.library(), suspect=True, enter=_tell_stages(attempt))


@step(routes.SCORE_FINISH, JobOrder)
def score_finish(task: celery.Task, order: JobOrder, folder: JobFolder, _: Attempt) -> None:
    """Join and publish, if all parts are there or about to be; then the notice."""
    # a process that could score the last chunks itself does not wait for others to do it
    outcome = publishing.finish_job(folder, awaits=routes.QUEUE_SCORE not in task.app.amqp.queues.consume_from)
    if outcome is not None:
        log.info("finished", state=outcome.state, result=outcome.result)
        progress.forget(context.redis_client(), order.job_id)
        if outcome.state == "done":
            _forget_killer(outcome.release)
        send(task.app, routes.NOTIFY, [order])
