"""Questions of ``scoring why`` on their way: a message with ids, and an answer that stays in Redis for a minute.

The hash ``scoring:why:<token>`` holds who took the question (``taken``), the release whose code runs (``running``), and the ``answer``.
The first process that takes a question answers it; a message on another queue that comes later does nothing.
"""

import redis

from shared.guard.explanation import Answer, Question
from shared.records import decode_long

KEPT_SECONDS = 60
TAKEN, RUNNING, ANSWER = "taken", "running", "answer"


def take_question(client: redis.Redis, question: Question, holder: str) -> bool:
    """Marks a question as taken; returns False if another process took it before, or the answer expired. Raises redis.RedisError."""
    with client.pipeline(transaction=True) as pipe:
        pipe.hsetnx(_key(question), TAKEN, holder)
        pipe.expire(_key(question), KEPT_SECONDS)
        is_first, _ = pipe.execute()
    return bool(is_first)


def is_taken(client: redis.Redis, question: Question) -> bool:
    """Returns True once a process works on a question; raises redis.RedisError."""
    return bool(client.hexists(_key(question), TAKEN))


def note_running(client: redis.Redis, question: Question, release: str) -> None:
    """Records the release whose code runs now, in case it kills the process; raises redis.RedisError."""
    client.hset(_key(question), RUNNING, release)


def running_release(client: redis.Redis, question: Question) -> str:
    """Returns the release whose code ran last; empty if none did. Raises redis.RedisError."""
    release = client.hget(_key(question), RUNNING)
    return release.decode(errors="replace") if isinstance(release, bytes) else ""


def write_answer(client: redis.Redis, question: Question, answer: Answer) -> None:
    """Writes the answer to a question; raises redis.RedisError."""
    with client.pipeline(transaction=True) as pipe:
        pipe.hset(_key(question), ANSWER, answer.to_json())
        pipe.expire(_key(question), KEPT_SECONDS)
        pipe.execute()


def read_answer(client: redis.Redis, question: Question) -> Answer | None:
    """Returns the answer to a question, or None if there is none yet.

    Raises:
        redis.RedisError: Redis does not answer.
        MessageError: a worker of another version wrote it.
    """
    text = client.hget(_key(question), ANSWER)
    return decode_long(Answer, text) if isinstance(text, bytes) else None


def _key(question: Question) -> str:
    return f"scoring:why:{question.token}"
