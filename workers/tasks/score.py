"""The tasks of a score job."""

import contextlib

import celery
import redis
import structlog

from shared.guard.verdict import GuardVerdict
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ChunkMessage, StepMessage
from shared.jobs.states import SETTLED_STATES
from shared.queue import broker, routes
from shared.queue.state import counters, progress
from workers.recovery.attempts import Attempt
from workers.runtime.work_caches import drop_caches_of_other_work
from workers.scoring import joining, planning, publishing
from workers.tasks import context
from workers.tasks.chunks.run import run_chunk
from workers.tasks.chunks.sender import ChunkSender
from workers.tasks.crashing_releases import forget_crashing_release
from workers.tasks.policies.time_limit import CountTimeLimit
from workers.tasks.runner import step

log = structlog.get_logger()

WORK = "score"
"""The kind of work whose caches the steps of a score job keep."""


@step(routes.SCORE_PLAN, StepMessage, activity="cutting the table into chunks")
def score_plan(task: celery.Task, message: StepMessage, folder: JobFolder, _: Attempt) -> None:
    """Cuts the table, and sends every chunk that has no part yet, most of them while the table is still being cut."""
    sender = ChunkSender(task.app, message.job_id)
    plan = planning.plan_job(folder, sender.send_early, max_unpacked_ratio=context.settings().max_unpacked_ratio)
    if plan is None:
        broker.send(task.app, routes.NOTIFY, [message])
        return
    sender.send_remaining(folder, plan)


@step(
    routes.SCORE_CHUNK,
    ChunkMessage,
    handles_crashes=lambda *_: True,
    time_limit=CountTimeLimit("chunk", lambda: context.settings().chunk_seconds),
)
def score_chunk(task: celery.Task, message: ChunkMessage, folder: JobFolder, attempt: Attempt) -> None:
    """Scores one chunk; the chunk that completes the job sends the finish step."""
    drop_caches_of_other_work(WORK)
    done = run_chunk(message, folder, attempt)
    if done is None:
        return
    if done.starts_join:
        broker.send(task.app, routes.SCORE_FINISH, [StepMessage(job_id=message.job_id)])
    done.check_rejects()


@step(routes.SCORE_FINISH, StepMessage, activity="joining the parts and publishing the result", repeat_while=joining.can_finish)
def score_finish(task: celery.Task, message: StepMessage, folder: JobFolder, _: Attempt) -> None:
    """Joins and publishes, if all parts exist or are about to; then sends the notice."""
    # a process that could score the last chunks itself does not wait for other processes to do it
    outcome = publishing.finish_job(folder, awaits=routes.QUEUE_SCORE not in task.app.amqp.queues.consume_from, when_judged=_count_checks)
    if outcome is None:
        return
    log.info("finished", state=outcome.state, result=outcome.result)
    progress.forget(context.redis_client(), message.job_id)
    if outcome.state in SETTLED_STATES:
        forget_crashing_release(outcome.release)
    broker.send(task.app, routes.NOTIFY, [message])


def _count_checks(verdict: GuardVerdict) -> None:
    """Counts the outcomes of the guard's checks; a lost count costs nothing but a figure."""
    with contextlib.suppress(redis.RedisError):
        counters.count_checks(context.redis_client(), verdict.channel, [(check.check, check.outcome) for check in verdict.checks])
