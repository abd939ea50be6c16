"""One run of the sweep: what a worker asks Redis for, and what it sends again."""

import itertools
from datetime import datetime, timedelta

import celery
import redis
import structlog

from shared.catalog.channel_notices import announce_ended_change
from shared.catalog.channels import end_interrupted_changes
from shared.errors import ScoringError
from shared.processes import drop_abandoned
from shared.queue import broker
from shared.queue.backlog import waiting_since
from shared.queue.state import heartbeat
from shared.queue.state.leases import are_leased
from shared.queue.state.maintenance_crashes import Maintenance
from workers.recovery import sweep
from workers.recovery.attempts import note_sent_again, step_name
from workers.recovery.held_results import look_after_held
from workers.recovery.maintenance import CHANNELS, NOTICES, ORPHANS
from workers.tasks import context
from workers.tasks.delivering import deliver_announced

log = structlog.get_logger()


def sweep_once(app: celery.Celery, maintenance: Maintenance) -> None:
    """Drops abandoned files, sends again what open jobs lack, and delivers announced notices; takes a bounded time."""
    client = context.redis_client()
    # a sweep records in Redis what it inspects only after a crash, because this costs a round trip for each of thousands of jobs
    may_enter = maintenance.may_enter if maintenance.crashes else None
    if may_enter is None or may_enter(ORPHANS):
        _remove_orphans()
        maintenance.leave()
    turn = sweep.Turn(after=heartbeat.swept_until(client), seconds=sweep.SWEEP_SECONDS)
    for missing in sweep.sweep(context.bucket(), _traffic(client), _rules(maintenance), turn, context.stack(), may_enter):
        send_again(app, missing)
    heartbeat.update_heartbeat(client, heartbeat.SWEEP)
    heartbeat.note_swept(client, turn.after)
    if may_enter is None or may_enter(CHANNELS):
        _look_after_channels(maintenance.now)
    # another stack delivers its own notices to its own webhook
    if context.stack().claim().is_ours and (may_enter is None or may_enter(NOTICES)):
        deliver_announced(client, maintenance.now)


def _look_after_channels(now: datetime) -> None:
    """Ends changes of channels that a process left half done, and reminds people of held results."""
    try:
        for name in end_interrupted_changes(context.bucket(), now):
            log.info("interrupted change of a channel ended", channel=name)
            announce_ended_change(context.bucket(), name, now)
        look_after_held(context.bucket(), now)
    except ScoringError as error:
        log.warning("channels not inspected, the next sweep is due soon", error=str(error))


def send_again(app: celery.Celery, missing: sweep.Missing) -> None:
    """Sends the messages that a job lacks; their crashes are counted in the job's folder from now on."""
    for job_id, messages in itertools.groupby(missing.messages, lambda message: message.job_id):
        note_sent_again(context.redis_client(), job_id, [step_name(missing.task, message) for message in messages])
    broker.send(app, missing.task, missing.messages)


def _remove_orphans() -> None:
    context.bucket().drop_orphans()
    for parent in context.library().temporary_folders:
        drop_abandoned(parent)


def _traffic(client: redis.Redis) -> sweep.Traffic:
    return sweep.Traffic(waiting_since=lambda queue: waiting_since(client, queue), are_leased=lambda names: are_leased(client, names))


def _rules(maintenance: Maintenance) -> sweep.Rules:
    return sweep.Rules(
        grace=timedelta(seconds=context.settings().stall_seconds),
        deadline=timedelta(hours=context.settings().job_deadline_hours),
        now=maintenance.now,
    )
