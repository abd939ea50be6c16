"""Asks a worker about a rate: it has the models, which the command line has not."""

import time

import redis
from kombu.utils.url import maybe_sanitize_url

from shared.errors import BrokerError, ModelError, RequestError, ScoringError, TableError, TransientError
from shared.guard.explanation import Answer, Explanation, Question
from shared.queue.broker import EXPLAIN_SECONDS, make_app, send_question
from shared.queue.client import connect_to_redis
from shared.queue.questions import is_taken, read_answer
from shared.queue.routes import QUEUE_CONTROL, QUEUE_SCORE
from shared.settings import Settings

HEAD_START_SECONDS = 0.5
"""A question goes to the queue ``control`` too if no process that scores takes it within this time, because all of them are busy."""
TAKING_SECONDS = 10.0
ANSWERING_SECONDS = EXPLAIN_SECONDS + 10.0
POLL_SECONDS = 0.01
_ERRORS: dict[int, type[ScoringError]] = {error.exit_code: error for error in (RequestError, TableError, ModelError, TransientError)}


def ask(settings: Settings, question: Question) -> Explanation:
    """Returns the explanation of a rate.

    Raises:
        BrokerError: Redis does not answer.
        TransientError: no worker took the question, or none answered in time.
        RequestError, TableError, ModelError: there is no explanation, and why.
    """
    try:
        with connect_to_redis(settings.broker_url) as client:
            answer = _ask(settings, client, question)
    except redis.RedisError as error:
        raise BrokerError(
            f"Redis at {maybe_sanitize_url(settings.broker_url)} does not answer: {str(error).rstrip('.')}",
            next_step="Start it (for a local stack: scoring up) or check REDIS_URL.",
        ) from error
    if answer.explanation is None:
        raise _ERRORS.get(answer.exit_code, ScoringError)(answer.error, next_step=answer.next_step)
    return answer.explanation


def _ask(settings: Settings, client: redis.Redis, question: Question) -> Answer:
    app, began = make_app(settings), time.monotonic()
    send_question(app, QUEUE_SCORE, question)
    was_sent_again = was_taken = False
    while (answer := read_answer(client, question)) is None:
        waited = time.monotonic() - began
        was_taken = was_taken or is_taken(client, question)
        if not was_taken and not was_sent_again and waited > HEAD_START_SECONDS:
            send_question(app, QUEUE_CONTROL, question)
            was_sent_again = True
        if waited > (ANSWERING_SECONDS if was_taken else TAKING_SECONDS):
            raise _no_answer(waited, was_taken=was_taken)
        time.sleep(POLL_SECONDS)
    return answer


def _no_answer(seconds: float, *, was_taken: bool) -> TransientError:
    if was_taken:
        return TransientError(f"the worker that took the question gave no answer within {seconds:.0f} s", next_step="Ask again.")
    return TransientError(
        f"no worker took the question within {seconds:.0f} s",
        next_step="Start the workers (for a local stack: scoring up), or see what is missing: scoring doctor",
    )
