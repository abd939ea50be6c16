"""The task that answers ``scoring why``.

A worker that scores has the definitions in memory and answers in its own process. Any other worker starts a process for the answer, and so
do all while a release is known that killed its process. The message is acknowledged before the work begins, so nothing is repeated.
"""

import contextlib
import time
from datetime import UTC, datetime
from typing import Any

import celery
import redis
import structlog
from billiard.exceptions import WorkerLostError
from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded

import workers.runtime.expiry
from shared.errors import MessageError, ModelError
from shared.guard.explanation import Answer, Question
from shared.processes import process_token
from shared.queue import questions, routes
from shared.queue.broker import EXPLAIN_SECONDS
from shared.queue.client import connect_to_redis
from shared.queue.state.crashing_releases import CrashingRelease, read_crashing_releases, record_crashing_release
from shared.settings import read_settings
from workers.explaining.answering import answer, refusal
from workers.explaining.isolated import answer_isolated, crashed
from workers.tasks import context

log = structlog.get_logger()


class Request(workers.runtime.expiry.Request):
    """A question in the main process of a worker, which answers it if the process that works on it is lost."""

    def on_failure(self, exc_info: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - Celery's own signature
        error = getattr(exc_info, "exception", None)
        if isinstance(getattr(error, "exc", error), WorkerLostError):
            self._give_up("killed the process that explained a rate")
        return super().on_failure(exc_info, *arguments, **options)

    def on_timeout(self, soft: Any, timeout: Any) -> Any:  # noqa: ANN401 - Celery's own signature
        if not soft:
            self._give_up("hung when it explained a rate")
        return super().on_timeout(soft, timeout)

    def _give_up(self, how: str) -> None:
        with contextlib.suppress(MessageError, redis.RedisError, IndexError), connect_to_redis(read_settings().broker_url) as client:
            question = Question.decode(self.args[0])
            release = questions.running_release(client, question)
            note_crash(client, release, question, how)
            questions.write_answer(client, question, crashed(release, how))


class QuestionTask(celery.Task):
    """A task that answers a question; it is never repeated."""

    Request = "workers.tasks.explain:Request"
    acks_late = False
    reject_on_worker_lost = False


@shared_task(name=routes.EXPLAIN, bind=True, base=QuestionTask)
def answer_question(self: celery.Task, message: object = None, *_: object, **__: object) -> None:
    """Answers a question about a rate, unless another process took it."""
    try:
        question = Question.decode(message)
    except MessageError as error:
        log.error("message refused", task=routes.EXPLAIN, error=str(error))
        return
    client = context.redis_client()
    try:
        if questions.take_question(client, question, process_token()):
            began = time.monotonic()
            has_definitions = routes.QUEUE_SCORE in self.app.amqp.queues.consume_from
            questions.write_answer(client, question, _answer(client, question, has_definitions=has_definitions))
            log.info("question answered", job=question.job_id, seconds=round(time.monotonic() - began, 3))
    except redis.RedisError as error:
        log.warning("question not answered", task=routes.EXPLAIN, error=str(error))


def _answer(client: redis.Redis, question: Question, *, has_definitions: bool) -> Answer:
    if not has_definitions or read_crashing_releases(client):
        given, release = answer_isolated(context.settings(), question, EXPLAIN_SECONDS - 2)
        note_crash(client, release, question, given.error)
        return given
    try:
        return answer(
            context.bucket(), context.library(), question, enter=lambda release: questions.note_running(client, question, release)
        )
    except SoftTimeLimitExceeded:
        return refusal(
            ModelError(f"the answer took longer than {EXPLAIN_SECONDS} s", next_step="Ask again when the workers are less busy.")
        )


def note_crash(client: redis.Redis, release: str, question: Question, what: str) -> None:
    """Records a release that killed a process, if one did: later questions are answered in processes of their own."""
    if release:
        found = CrashingRelease(release=release, at=datetime.now(UTC), job_id=question.job_id, what=what[:500])
        record_crashing_release(client, found)
