"""The Celery tasks: each decodes its message, calls one function that knows no Celery, and says what comes next.

What happens to errors and deaths is said here once. A message that does not decode, or does not fit its job, is logged and dropped. A
transient error is tried again after seconds. A permanent one, and a transient one that lasts, ends the job, and people get a notice. A
step that kills its process, or never ends, is counted (``attempts``); after three deaths the job fails, but for rows and candidates.
"""

import contextlib
import functools
import itertools
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import celery
import redis
import structlog
from billiard.common import terminate_handler_fired  # type: ignore[attr-defined]  # new in billiard 4.3, after its type stubs
from celery import shared_task

from model_store import store
from model_store.definitions import barred_definitions, is_tried, list_definitions, load_definition
from model_store.evaluation.gate import Limits
from model_store.foreign_code import DefinitionHungError
from model_store.store import OWN_COPIES, library_versions, releases_kept
from model_store.trial_import import bar_deadly_definitions
from shared.bucket.interface import Bucket
from shared.bucket.opening import open_bucket
from shared.errors import MessageError, ModelError, PermanentError, ScoringError, StrayOrderError, TransientError
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.messages import CandidateOrder, ChunkOrder, JobOrder, Notice
from shared.jobs.outbox import untold
from shared.logs import log_place
from shared.processes import drop_abandoned
from shared.queue import counters, heartbeat, progress, routes
from shared.queue.backlog import waiting_since
from shared.queue.broker import send
from shared.queue.clusters import Cluster
from shared.queue.killers import Killer, forget_killer, note_killer
from shared.queue.probe import LONGEST_REASON, Answer, Canary, answer, canary_file
from shared.queue.upkeep import Upkeep
from shared.settings import Settings, read_settings
from shared.version import code_version
from workers.notices import delivery, resting, slack
from workers.recovery import sweep as recovery_sweep
from workers.recovery import verdicts
from workers.recovery.attempts import MAX_DEATHS, Attempt, counted, forget_job, note_sent_again, step_name
from workers.recovery.leases import are_leased, leased
from workers.recovery.retention import make_step
from workers.recovery.upkeep import NOTICES, STRAYS, counted_upkeep
from workers.runtime.memory import give_back_freed_memory
from workers.scoring import chunk as chunk_scoring
from workers.scoring import joining, planning, publishing
from workers.scoring.isolation import is_suspect
from workers.scoring.parts import ChunkRecord, missing_chunks
from workers.scoring.plan import Begun, Chunk, Plan, PlannedChunk, read_begun, read_plan
from workers.scoring.reject_limits import check_so_far, count_rejects
from workers.training import releasing
from workers.training.rivals import Places
from workers.training.search import steps

MAX_TRIES = 8
LONGEST_PAUSE_SECONDS = 10
SENDING_PAUSE_SECONDS = 0.05
"""Between two lots of chunks that are sent while the table is being cut."""
LOADING_SECONDS, LOADING_PAUSE_SECONDS = 10, 0.2
"""How long a chunk waits for a release that another process tries to load, and how often it looks."""
TURNS, TURN_SECONDS = 20, 0.5
"""How often and after what pause a notice comes again whose turn at the webhook it is not yet."""

log = structlog.get_logger()

# One of each for the life of a process, made at the first use: no connection survives a fork.
settings: Callable[[], Settings] = functools.cache(read_settings)


@functools.cache
def bucket() -> Bucket:
    """The bucket of this process."""
    return open_bucket(settings().bucket_url, settings().signer)


@functools.cache
def redis_client() -> redis.Redis:
    """The connection of this process for hints and leases; messages have their own."""
    return progress.connect(settings().broker_url)


@functools.cache
def cluster() -> Cluster:
    """The stack of this process."""
    return Cluster(bucket(), redis_client(), settings().cluster)


@functools.lru_cache(maxsize=8)
def plan_of(job_id: str) -> Plan:
    """The plan of a job, read once: it never changes."""
    return read_plan(JobFolder(bucket(), job_id))


@functools.lru_cache(maxsize=8)
def begun_of(job_id: str) -> Begun:
    """What is settled of the plan of a job that is being cut, read once: it never changes. Raises StrayOrderError when nothing is."""
    begun = read_begun(JobFolder(bucket(), job_id))
    if begun is None:
        raise StrayOrderError(f"nothing of job {job_id} is planned")
    return begun


Work = Callable[[celery.Task, Any, JobFolder, Attempt], None]


class _Step(celery.Task):
    """A task whose lost processes are noticed at once."""

    Request = "workers.recovery.lost_processes:Request"


class JobFailedHereError(Exception):
    """Raised at the end of a task that ended its job as failed, so that the dashboard shows it as failed; its message is done with."""


def step(name: str, kind: type[JobOrder], tries: int = MAX_TRIES) -> Callable[[Work], Any]:
    """Register a step of a job as the task ``name`` with messages of this kind."""

    def register(work: Work) -> Any:  # noqa: ANN401 - Celery's own proxy of a task
        @shared_task(name=name, bind=True, max_retries=tries - 1, base=_Step, throws=(JobFailedHereError,))
        @functools.wraps(work)
        def run(self: celery.Task, message: object = None, *_: object, **__: object) -> None:
            try:
                order = kind.decode(message)
            except MessageError as error:
                log.error("message refused", task=name, error=str(error))
                return
            with structlog.contextvars.bound_contextvars(job=order.job_id, **_piece_of(order)):
                _run(self, work, order)

        return run

    return register


def _run(task: celery.Task, work: Work, order: JobOrder) -> None:
    folder = JobFolder(bucket(), order.job_id)
    try:
        _run_leased(task, work, order, folder)
    except celery.exceptions.Retry:
        raise  # the step asked for it
    except (TransientError, OSError) as error:
        _again(task, folder, error)
    except BaseException as error:
        if terminate_handler_fired():
            raise  # the worker stops: its message is given back
        _settle(task, order, folder, error)


def _run_leased(task: celery.Task, work: Work, order: JobOrder, folder: JobFolder) -> None:
    while True:
        with leased(redis_client(), recovery_sweep.lease_name(str(task.name), order)) as is_ours:
            if not is_ours:
                # another process is at it, and if it dies the sweep sends the step again
                log.info("left to another process", task=task.name)
                return
            _work_counted(task, work, order, folder)
        if task.name != routes.SCORE_FINISH or not joining.can_finish(folder):
            return
        # the last part came after we had looked, and whoever wrote it found the step taken


def _settle(task: celery.Task, order: JobOrder, folder: JobFolder, error: BaseException) -> None:
    """Drop a step or fail its job, for an error that another try would give again."""
    if isinstance(error, StrayOrderError):
        log.error("message refused", task=task.name, error=str(error))
    elif isinstance(error, PermanentError):
        _fail(task, folder, error)
    elif isinstance(error, celery.exceptions.SoftTimeLimitExceeded):
        if not isinstance(order, ChunkOrder):
            hung = error.failure if isinstance(error, DefinitionHungError) else None
            _fail(task, folder, hung or verdicts.took_too_long(task.name, folder, task.app.conf.task_soft_time_limit))
            return
        # it counts as a death: the sweep sends the chunk again, until it is tried in pieces or the job fails
        log.error("chunk took too long", seconds=settings().chunk_seconds, error=str(error))
    elif isinstance(error, MemoryError):
        log.error("out of memory", exc_info=error)
        _fail(task, folder, verdicts.out_of_memory(task.name, folder))
    elif isinstance(error, Exception):
        # a defect of ours or of a definition: people must hear of it, and a job must never stand still for it
        log.error("unexpected error", exc_info=error)
        _fail(task, folder, PermanentError(f"unexpected error in {task.name}, see {log_place(settings())}: {error!r}"))
    else:
        # SystemExit of a definition would end this process, and with its message the next one
        log.error("a step was to end its process", exc_info=error)
        _fail(task, folder, verdicts.left_the_process(task.name, folder, error))


def _work_counted(task: celery.Task, work: Work, order: JobOrder, folder: JobFolder) -> None:
    """Do the work of a step, unless it killed its process too often; a chunk, a candidate and a notice know what to do then."""
    knows_what_to_do = isinstance(order, ChunkOrder | CandidateOrder) or task.name == routes.NOTIFY
    with counted(redis_client(), folder, step_name(task.name, order)) as attempt:
        if attempt.deaths >= MAX_DEATHS and not knows_what_to_do:
            raise verdicts.killed_step(task.name, attempt)
        try:
            work(task, order, folder, attempt)
        except celery.exceptions.SoftTimeLimitExceeded:
            if not isinstance(order, ChunkOrder):
                attempt.forget()  # the job fails, and may be resumed
            raise


def _again(task: celery.Task, folder: JobFolder, error: Exception) -> None:
    tried = task.request.retries
    if task.max_retries is None or tried >= task.max_retries:
        _fail(task, folder, error if isinstance(error, ScoringError) else TransientError(f"{task.name}: {error}"))
        return
    pause = min(2**tried, LONGEST_PAUSE_SECONDS)
    log.warning("will try again", task=task.name, seconds=pause, error=str(error))
    raise task.retry(countdown=pause, exc=error)


def _fail(task: celery.Task, folder: JobFolder, error: ScoringError) -> None:
    """End the job as failed and see that people are told; where even that cannot be written, the sweep comes back to it."""
    try:
        if not folder.has("job.json"):
            log.error("message refused: nobody wrote this job down", task=task.name, error=str(error))
            return
        log.error("job failed", task=task.name, error=str(error))
        folder.fail(error)
        if isinstance(error, PermanentError):
            folder.fail_unpublished(error)
            forget_job(redis_client(), folder)
        if task.name != routes.NOTIFY:  # one that fails for good would send itself for ever
            send(task.app, routes.NOTIFY, [JobOrder(job_id=folder.job_id)])
    except ScoringError as problem:
        log.error("the failure could not be written down", error=str(problem))
    if not task.request.called_directly:
        raise JobFailedHereError(error.message)


def _piece_of(order: JobOrder) -> dict[str, int]:
    if isinstance(order, CandidateOrder):
        return {"candidate": order.candidate, "fold": order.fold}
    return {"chunk": order.index} if isinstance(order, ChunkOrder) else {}


@step(routes.SCORE_PLAN, JobOrder)
def score_plan(task: celery.Task, order: JobOrder, folder: JobFolder, _: Attempt) -> None:
    """Cut the table, and send every chunk that has no part yet, most of them while it is still being cut."""
    early = _EarlyOrders(task.app, order.job_id)
    plan = planning.plan_job(folder, early.ready, max_unpacked_ratio=settings().max_unpacked_ratio)
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
        progress.mark_parts(redis_client(), folder.job_id, done, count_rejects(folder))
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
            _note_killer(planned.release, folder, verdict.message)
        raise verdict
    if (attempt.deaths or attempt.has_lost) and planned.release not in _loaded and not _try_to_load(planned.release, folder, attempt):
        return None
    if attempt.deaths >= MAX_DEATHS or (attempt.deaths and is_suspect(folder, order.index)):
        part = _score_in_pieces(planned, folder, attempt)
    else:
        part = chunk_scoring.score_chunk(folder, planned, **_places(), enter=_tell_stages(attempt))
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
    limit = time.monotonic() + min(LOADING_SECONDS, settings().chunk_seconds / 3)
    while time.monotonic() < limit:
        with leased(redis_client(), f"load:{folder.job_id}") as is_ours:
            if is_ours:
                _load_counted(release, folder)
                return True
        time.sleep(LOADING_PAUSE_SECONDS)
    log.info("left to another process, which loads the release", release=release)
    return False


def _load_counted(release: str, folder: JobFolder) -> None:
    with counted(redis_client(), folder, "load") as attempt:
        if attempt.deaths >= MAX_DEATHS:
            verdict = verdicts.killed_loader(release, attempt)
            _note_killer(release, folder, verdict.message)
            raise verdict
        store.load_release(folder.bucket, release, **_places())


def _tell_stages(attempt: Attempt) -> Callable[[chunk_scoring.ChunkStage], None]:
    return lambda stage: attempt.enter(stage, in_isolation=stage is chunk_scoring.ChunkStage.SCORING)


def _note_killer(release: str, folder: JobFolder, what: str) -> None:
    """Remember for ``scoring doctor`` that a release killed its loader."""
    killer = Killer(release=release, at=datetime.now(UTC), job_id=folder.job_id, what=what[:500])
    with contextlib.suppress(redis.RedisError):
        note_killer(redis_client(), killer)


def _forget_killer(release: str) -> None:
    """A release that could be loaded after all, as once its definition was corrected, is named no more."""
    with contextlib.suppress(redis.RedisError):
        forget_killer(redis_client(), release)


def _mark_part(order: ChunkOrder, part: ChunkRecord, attempt: Attempt, *, release_was_kept: bool) -> progress.Marked | None:
    """Say in Redis that a chunk is done; None when that cannot be said."""
    # what was in memory was not loaded
    stages = {stage: seconds for stage, seconds in part.stages.items() if stage != "load" or not release_was_kept}
    counts = counters.of_chunk(rows=part.rows_in, rejects=part.rows_rejected, stages=stages, release_was_kept=release_was_kept)
    try:
        marked = progress.mark_part(redis_client(), order.job_id, order.index, counts=counts, attempts=attempt.key)
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
    with leased(redis_client(), f"pieces:{folder.job_id}:{planned.index}") as is_ours:
        if not is_ours:
            return None  # two at once would take each other's try for a death
        log.warning("chunk killed its worker and is tried in pieces", deaths=attempt.deaths)
        return chunk_scoring.score_chunk(folder, planned, **_places(), suspect=True, enter=_tell_stages(attempt))


def _places() -> dict[str, Any]:
    return {"cache": settings().home / "releases", "definitions": settings().definitions}


@step(routes.SCORE_FINISH, JobOrder)
def score_finish(task: celery.Task, order: JobOrder, folder: JobFolder, _: Attempt) -> None:
    """Join and publish, if all parts are there or about to be; then the notice."""
    # a process that could score the last chunks itself does not wait for others to do it
    outcome = publishing.finish_job(folder, awaits=routes.QUEUE_SCORE not in task.app.amqp.queues.consume_from)
    if outcome is not None:
        log.info("finished", state=outcome.state, result=outcome.result)
        progress.forget(redis_client(), order.job_id)
        if outcome.state == "done":
            _forget_killer(outcome.release)
        send(task.app, routes.NOTIFY, [order])


@step(routes.TRAIN_FIT, JobOrder)
def train_fit(task: celery.Task, order: JobOrder, folder: JobFolder, _: Attempt) -> None:
    """Search for the best parameters, if that is asked for; then train, evaluate and publish a release; then the notice."""
    candidates = steps.next_orders(folder, settings().definitions)
    if candidates:
        log.info("trying candidates", candidates=len(candidates))
        send(task.app, routes.TRAIN_CANDIDATE, candidates)
        return
    steps.forget_table()
    try:
        places = Places(
            **_places(), load_seconds=settings().load_seconds, on_killer=lambda release, what: _note_killer(release, folder, what)
        )
        releasing.train_release(folder, places, _gate_limits(), functools.partial(steps.found, folder))
    finally:
        give_back_freed_memory()
    send(task.app, routes.NOTIFY, [order])


def _gate_limits() -> Limits:
    found = settings()
    return Limits(margin=found.gate_margin, confidence=found.gate_confidence, calibration_error=found.gate_calibration_error)


@step(routes.TRAIN_CANDIDATE, CandidateOrder)
def train_candidate(task: celery.Task, order: CandidateOrder, folder: JobFolder, attempt: Attempt) -> None:
    """Try one candidate on one fold; whoever completes a wave sends the next one, or the fit."""
    if attempt.deaths < MAX_DEATHS:
        _try_candidate(task, order, folder)
    elif order in steps.missing_orders(folder)[0]:
        log.error("candidate killed its worker and is given up", deaths=attempt.deaths)
        steps.give_up(folder, order.candidate, order.fold, f"it killed its worker {attempt.deaths} times")
    else:
        raise verdicts.killed_step(task.name, attempt)
    if folder.outcome() is not None or steps.missing_orders(folder)[0]:
        steps.say_standing(folder)
        return
    candidates = steps.next_orders(folder, settings().definitions)
    send(task.app, routes.TRAIN_CANDIDATE if candidates else routes.TRAIN_FIT, candidates or [JobOrder(job_id=order.job_id)])


def _try_candidate(task: celery.Task, order: CandidateOrder, folder: JobFolder) -> None:
    try:
        record = steps.score_candidate(folder, order.candidate, order.fold, settings().definitions)
    except celery.exceptions.SoftTimeLimitExceeded:
        # unlike a chunk it cannot be cut, and would take as long again
        steps.give_up(folder, order.candidate, order.fold, f"it took longer than {task.app.conf.task_soft_time_limit} seconds")
        return
    if record is not None:
        log.info("candidate tried", seconds=round(record.seconds, 3), **({"failed": record.failed} if record.failed else {}))


@step(routes.NOTIFY, JobOrder)
def notify(task: celery.Task, order: JobOrder, folder: JobFolder, attempt: Attempt) -> None:
    """Tell people how the job ended: one process of all at a time, so that a webhook that hangs holds up no plan and no finish."""
    del order
    if attempt.deaths >= MAX_DEATHS:
        log.error("notice killed its worker and is given up", deaths=attempt.deaths)
        delivery.give_up(folder)
        return
    with leased(redis_client(), "webhook") as is_free:
        if not is_free and task.request.retries < TURNS:
            raise task.retry(countdown=TURN_SECONDS, max_retries=TURNS)
        if not is_free or resting.rests(redis_client()):
            # never a countdown of minutes on Redis: the folder says what is to be told, and the sweep comes back to it
            log.info("notice left to the sweep")
            return
        try:
            outcome = delivery.tell(folder, settings().webhook_url.get_secret_value())
            if outcome is not None:
                _count_end(folder, outcome)
        except resting.NoticeError as error:
            log.warning("will try again", task=task.name, seconds=error.rest_seconds, error=str(error))
            resting.rest(redis_client(), error.rest_seconds)


def _count_end(folder: JobFolder, outcome: Outcome) -> None:
    with contextlib.suppress(redis.RedisError, PermanentError):
        counters.count_end(redis_client(), folder.job().kind, outcome.state)


@shared_task(name=routes.SWEEP, bind=True)
def sweep(self: celery.Task) -> None:
    """Send again what no message is on its way for; one process of all at a time."""
    with leased(redis_client(), "sweep") as is_ours:
        if not is_ours:
            return
        try:
            with counted_upkeep(redis_client(), bucket(), routes.SWEEP) as upkeep:
                if not upkeep.rests:
                    _sweep(self.app, redis_client(), upkeep)
        except (TransientError, redis.RedisError) as error:
            log.warning("sweep not finished, the next one is due soon", error=str(error))


def _sweep(app: celery.Celery, client: redis.Redis, upkeep: Upkeep) -> None:
    # what a sweep looks at is said in Redis only once one died: of thousands of jobs each would cost a round trip
    may_enter = upkeep.may_enter if upkeep.deaths else None
    traffic = recovery_sweep.Traffic(
        waiting_since=lambda queue: waiting_since(client, queue),
        are_leased=lambda names: are_leased(client, names),
    )
    rules = recovery_sweep.Rules(
        grace=timedelta(seconds=settings().stall_seconds),
        deadline=timedelta(hours=settings().job_deadline_hours),
        now=upkeep.now,
    )
    if may_enter is None or may_enter(STRAYS):
        bucket().drop_strays()
        for parent in (_places()["cache"] / OWN_COPIES, releasing.staging(_places()["cache"])):
            drop_abandoned(parent)
        upkeep.leave()
    turn = recovery_sweep.Turn(after=heartbeat.swept_until(client), seconds=recovery_sweep.SWEEP_SECONDS)
    for missing in recovery_sweep.sweep(bucket(), traffic, rules, turn, cluster(), may_enter):
        _send_again(app, missing)
    heartbeat.leave_sign(client, heartbeat.SWEEP)
    heartbeat.note_swept(client, turn.after)
    # else the other stack tells them, whose webhook they are for
    if cluster().claim().is_ours and (may_enter is None or may_enter(NOTICES)):
        _tell_announced(client, upkeep.now)


def _send_again(app: celery.Celery, missing: recovery_sweep.Missing) -> None:
    for job_id, orders in itertools.groupby(missing.orders, lambda order: order.job_id):
        note_sent_again(redis_client(), job_id, [step_name(missing.task, order) for order in orders])
    send(app, missing.task, missing.orders)


@shared_task(name=routes.GC)
def gc(*_: object, **__: object) -> None:
    """Make the next step of the daily round that removes what is old; another process than the one at it leaves it alone."""
    with leased(redis_client(), routes.GC) as is_ours:
        if not is_ours or not cluster().claim().is_ours:  # then the other stack removes what is old, by what it knows of its jobs
            return
        try:
            with counted_upkeep(redis_client(), bucket(), routes.GC) as upkeep:
                if not upkeep.rests:
                    make_step(bucket(), upkeep.now, upkeep.may_enter)
        except redis.RedisError as error:
            log.warning("step of removal not made, the next one is due soon", error=str(error))


@shared_task(name=routes.CANARY)
def canary(message: object = None, queue: object = None, *_: object, **__: object) -> None:
    """Answer whoever asks whether this queue is served."""
    try:
        asked = Canary.decode(message)
    except MessageError as error:
        log.error("message refused", task=routes.CANARY, error=str(error))
        return
    if queue not in routes.QUEUES:
        log.error("message refused", task=routes.CANARY, error=f"{queue!r} is no queue")
        return
    webhook_says = None
    if asked.tell_people:
        webhook_says = _try_webhook()
    # a worker for the control queue alone imports no definition with its libraries
    sources = {} if queue == routes.QUEUE_CONTROL else _sources(settings().definitions)
    given = Answer(
        host=socket.gethostname(),
        libraries=library_versions(),
        definitions=list_definitions(settings().definitions),
        sources=sources,
        left_out=barred_definitions(settings().definitions),
        webhook=webhook_says,
        version=code_version(),
        bucket=bucket().url,
        sees_bucket=_sees_bucket(asked),
    )
    with contextlib.suppress(redis.RedisError):
        answer(redis_client(), asked, str(queue), given)


def _sees_bucket(asked: Canary) -> bool | None:
    try:
        return bucket().exists(canary_file(asked))
    except ScoringError:
        return None


def _sources(definitions: Path | None) -> dict[str, str]:
    """The digest of each definition's code as this process would run it; a broken one is left out."""
    names, found = list_definitions(definitions), {}
    # those that came since the worker was started may do anything to whoever imports them
    bar_deadly_definitions([name for name in names if not is_tried(name, definitions)], definitions)
    for name in names:
        with contextlib.suppress(ModelError):
            found[name] = load_definition(name, definitions).source_sha256
    return found


def _try_webhook() -> str:
    """Empty when the webhook took a message, else why not."""
    url = settings().webhook_url.get_secret_value()
    if not url:
        return "the workers have no WEBHOOK_URL"
    try:
        slack.post(Notice(good=True, title="Notices arrive: this one was asked for with scoring doctor --send", facts={}), url)
    except resting.NoticeError as error:
        return f"it did not take a message: {error}"[:LONGEST_REASON]
    return ""


def _tell_announced(client: redis.Redis, now: datetime) -> None:
    """Tell what belongs to no job, unless somebody else is at the webhook or it rests: then the next sweep does."""
    waiting = untold(bucket())
    if not waiting:
        return
    with leased(client, "webhook") as is_free:
        for folder in waiting:
            if not is_free or resting.rests(client):
                return
            try:
                delivery.tell_announced(folder, settings().webhook_url.get_secret_value(), now)
            except resting.NoticeError as error:
                log.warning("will try again", task=routes.SWEEP, seconds=error.rest_seconds, error=str(error))
                resting.rest(client, error.rest_seconds)
