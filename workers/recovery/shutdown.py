"""Takes back the beginnings of steps in hand when their worker is told to stop: a deploy that kills them must not fail their jobs."""

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import redis

from shared.errors import MessageError
from shared.jobs.messages import CandidateMessage, ChunkMessage, StepMessage
from shared.queue.routes import SCORE_CHUNK, TRAIN_CANDIDATE
from workers.recovery.attempts import forgive, step_name

KINDS: dict[str, type[StepMessage]] = {SCORE_CHUNK: ChunkMessage, TRAIN_CANDIDATE: CandidateMessage}


class Request(Protocol):
    """A message in hand, as Celery keeps it."""

    @property
    def name(self) -> str:
        """The name of its task."""

    @property
    def args(self) -> Any:  # noqa: ANN401 - whatever was sent
        """What its task is given."""


def step_of(request: Request) -> tuple[StepMessage, str]:
    """The order in a message, and the name under which its step is counted; raises MessageError when it is no step of a job."""
    message = KINDS.get(request.name, StepMessage).decode(request.args[0] if request.args else None)
    return message, step_name(request.name, message)


def forgive_work_in_hand(client: redis.Redis, requests: Iterable[Request]) -> None:
    """Take back one beginning of each step that is worked on; where Redis is away they count."""
    for request in requests:
        try:
            message, step = step_of(request)
        except MessageError:
            continue  # no step of a job, like a sweep
        forgive(client, message.job_id, step)


class Forgiver:
    """A thread that waits until the worker is told to stop.

    It is started before: a thread that starts inside a signal handler may wait for a lock that its own thread holds, and Redis may be slow.
    """

    def __init__(self, connect: Callable[[], redis.Redis], requests_in_hand: Callable[[], Iterable[Request]]) -> None:
        self._connect, self._requests_in_hand = connect, requests_in_hand
        self._reading, self._writing = os.pipe()
        threading.Thread(target=self._wait, name="forgiver", daemon=True).start()

    def wake(self, **_: Any) -> None:  # noqa: ANN401 - Celery's signals
        """Take back the beginnings of the work in hand; may be called in a signal handler."""
        os.write(self._writing, b"x")

    def _wait(self) -> None:
        os.read(self._reading, 1)
        forgive_work_in_hand(self._connect(), self._requests_in_hand())
