"""The tasks of no job: notices, the sweep, the removal of what is old, the probe."""

import contextlib
import itertools
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import celery
import redis
import structlog
from celery import shared_task

from model_store.definitions import barred_definitions, is_tried, list_definitions, load_definition
from model_store.store import library_versions
from model_store.trial_import import bar_deadly_definitions
from shared.errors import MessageError, ModelError, PermanentError, ScoringError, TransientError
from shared.jobs.folder import JobFolder, Outcome
from shared.jobs.messages import JobOrder, Notice
from shared.jobs.outbox import untold
from shared.processes import drop_abandoned
from shared.queue import counters, heartbeat, routes
from shared.queue.backlog import waiting_since
from shared.queue.broker import send
from shared.queue.leases import are_leased, leased
from shared.queue.probe import LONGEST_REASON, Answer, Canary, answer, canary_file
from shared.queue.upkeep import Upkeep
from shared.version import code_version
from workers.notices import delivery
from workers.notices.event import Event
from workers.notices.resting import NoticeError
from workers.notices.tries import TriesInMemory
from workers.recovery import sweep as recovery_sweep
from workers.recovery.attempts import MAX_DEATHS, Attempt, note_sent_again, step_name
from workers.recovery.retention import make_step
from workers.recovery.upkeep import NOTICES, STRAYS, counted_upkeep
from workers.tasks import context
from workers.tasks.runner import step

log = structlog.get_logger()
TURNS, TURN_SECONDS = 20, 0.5
"""How often and after what pause a notice comes again whose turn at the webhook it is not yet."""
PROBE_TURNS = 8
"""The same for the message of ``scoring doctor --send``, which waits 10 seconds for an answer; a try may take 5 of them."""
PROBE = Notice(good=True, title="Notices arrive: this one was asked for with scoring doctor --send", facts={})


@step(routes.NOTIFY, JobOrder)
def notify(task: celery.Task, order: JobOrder, folder: JobFolder, attempt: Attempt) -> None:
    """Tell people how the job ended: one process of all at a time, so that a webhook that hangs holds up no plan and no finish."""
    del order
    if attempt.deaths >= MAX_DEATHS:
        log.error("notice killed its worker and is given up", deaths=attempt.deaths)
        delivery.give_up(folder)
        return
    with delivery.take_turn(context.redis_client(), context.notifier()) as turn:
        if not turn.is_free and task.request.retries < TURNS:
            raise task.retry(countdown=TURN_SECONDS, max_retries=TURNS)
        if not turn.may_deliver:
            # never a countdown of minutes on Redis: the folder says what is to be told, and the sweep comes back to it
            log.info("notice left to the sweep")
            return
        try:
            outcome = delivery.tell(folder, turn.notifier)
            if outcome is not None:
                _count_end(folder, outcome)
        except NoticeError as error:
            log.warning("will try again", task=task.name, seconds=error.rest_seconds, error=str(error))


def _count_end(folder: JobFolder, outcome: Outcome) -> None:
    with contextlib.suppress(redis.RedisError, PermanentError):
        counters.count_end(context.redis_client(), folder.job().kind, outcome.state)


@shared_task(name=routes.SWEEP, bind=True)
def sweep(self: celery.Task) -> None:
    """Send again what no message is on its way for; one process of all at a time."""
    with leased(context.redis_client(), "sweep") as is_ours:
        if not is_ours:
            return
        try:
            with counted_upkeep(context.redis_client(), context.bucket(), routes.SWEEP) as upkeep:
                if not upkeep.rests:
                    _sweep(self.app, context.redis_client(), upkeep)
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
        grace=timedelta(seconds=context.settings().stall_seconds),
        deadline=timedelta(hours=context.settings().job_deadline_hours),
        now=upkeep.now,
    )
    if may_enter is None or may_enter(STRAYS):
        context.bucket().drop_strays()
        for parent in context.library().temporary_folders:
            drop_abandoned(parent)
        upkeep.leave()
    turn = recovery_sweep.Turn(after=heartbeat.swept_until(client), seconds=recovery_sweep.SWEEP_SECONDS)
    for missing in recovery_sweep.sweep(context.bucket(), traffic, rules, turn, context.cluster(), may_enter):
        _send_again(app, missing)
    heartbeat.leave_sign(client, heartbeat.SWEEP)
    heartbeat.note_swept(client, turn.after)
    # else the other stack tells them, whose webhook they are for
    if context.cluster().claim().is_ours and (may_enter is None or may_enter(NOTICES)):
        _tell_announced(client, upkeep.now)


def _send_again(app: celery.Celery, missing: recovery_sweep.Missing) -> None:
    for job_id, orders in itertools.groupby(missing.orders, lambda order: order.job_id):
        note_sent_again(context.redis_client(), job_id, [step_name(missing.task, order) for order in orders])
    send(app, missing.task, missing.orders)


@shared_task(name=routes.GC)
def gc(*_: object, **__: object) -> None:
    """Make the next step of the daily round that removes what is old; another process than the one at it leaves it alone."""
    with leased(context.redis_client(), routes.GC) as is_ours:
        if not is_ours or not context.cluster().claim().is_ours:  # then the other stack removes what is old, by what it knows of its jobs
            return
        try:
            with counted_upkeep(context.redis_client(), context.bucket(), routes.GC) as upkeep:
                if not upkeep.rests:
                    make_step(context.bucket(), upkeep.now, upkeep.may_enter)
        except redis.RedisError as error:
            log.warning("step of removal not made, the next one is due soon", error=str(error))


@shared_task(name=routes.CANARY, bind=True)
def canary(self: celery.Task, message: object = None, queue: object = None, *_: object, **__: object) -> None:
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
        webhook_says = _try_webhook(self, asked)
    # a worker for the control queue alone imports no definition with its libraries
    sources = {} if queue == routes.QUEUE_CONTROL else _sources(context.settings().definitions)
    given = Answer(
        host=socket.gethostname(),
        libraries=library_versions(),
        definitions=list_definitions(context.settings().definitions),
        sources=sources,
        left_out=barred_definitions(context.settings().definitions),
        webhook=webhook_says,
        version=code_version(),
        bucket=context.bucket().url,
        sees_bucket=_sees_bucket(asked),
    )
    with contextlib.suppress(redis.RedisError):
        answer(context.redis_client(), asked, str(queue), given)


def _sees_bucket(asked: Canary) -> bool | None:
    try:
        return context.bucket().exists(canary_file(asked))
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


def _try_webhook(task: celery.Task, asked: Canary) -> str:
    """Empty when the webhook took a message, else why not; asks for the message again while another process is at the webhook."""
    notifier = context.notifier()
    if notifier is None:
        return "the workers have no WEBHOOK_URL"
    with delivery.take_turn(context.redis_client(), notifier) as turn:
        if not turn.is_free and task.request.retries < PROBE_TURNS and not task.request.called_directly:
            raise task.retry(countdown=TURN_SECONDS, max_retries=PROBE_TURNS)
        if turn.notifier is None or not turn.may_deliver:
            return turn.reason
        try:
            delivery.deliver(Event.of(PROBE, id=f"doctor/{asked.token}", at=datetime.now(UTC)), turn.notifier, TriesInMemory())
        except NoticeError as error:
            return error.message[:LONGEST_REASON]
        return ""


def _tell_announced(client: redis.Redis, now: datetime) -> None:
    """Tell what belongs to no job, unless somebody else is at the webhook or it rests: then the next sweep does."""
    waiting = untold(context.bucket())
    if not waiting:
        return
    with delivery.take_turn(client, context.notifier()) as turn:
        for folder in waiting:
            if not turn.may_deliver:
                return
            try:
                delivery.tell_announced(folder, turn.notifier, now)
            except NoticeError as error:
                log.warning("will try again", task=routes.SWEEP, seconds=error.rest_seconds, error=str(error))
