"""Takes back the starts of running steps when their worker is stopped: a deployment that kills them must not fail their jobs."""

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import redis

from shared.errors import MessageError
from shared.jobs.messages import CandidateMessage, ChunkMessage, StepMessage
from shared.queue.routes import SCORE_CHUNK, TRAIN_CANDIDATE
from workers.recovery.attempts import step_name, uncount_start

KINDS: dict[str, type[StepMessage]] = {SCORE_CHUNK: ChunkMessage, TRAIN_CANDIDATE: CandidateMessage}


class Request(Protocol):
    """A received message, as Celery keeps it."""

    @property
    def name(self) -> str:
        """The name of its task."""

    @property
    def args(self) -> Any:  # noqa: ANN401 - whatever was sent
        """The arguments of its task."""


def step_of(request: Request) -> tuple[StepMessage, str]:
    """Returns the decoded message, and the name under which its step is counted; raises MessageError if it is not a step of a job."""
    message = KINDS.get(request.name, StepMessage).decode(request.args[0] if request.args else None)
    return message, step_name(request.name, message)


def uncount_running_steps(client: redis.Redis, requests: Iterable[Request]) -> None:
    """Takes back one start of each running step; if Redis is unreachable, the starts stay counted."""
    for request in requests:
        try:
            message, step = step_of(request)
        except MessageError:
            continue  # not a step of a job, but for example a sweep
        uncount_start(client, message.job_id, step)


class ShutdownUncounter:
    """Takes back the starts of the running steps when the worker is stopped, in a thread.

    The thread is started in advance: one that starts inside a signal handler may wait for a lock that its own thread holds, and Redis may
    be slow.
    """

    def __init__(self, connect: Callable[[], redis.Redis], requests_in_hand: Callable[[], Iterable[Request]]) -> None:
        self._connect, self._requests_in_hand = connect, requests_in_hand
        self._reading, self._writing = os.pipe()
        threading.Thread(target=self._wait, name="shutdown uncounter", daemon=True).start()

    def wake(self, **_: Any) -> None:  # noqa: ANN401 - Celery's signals
        """Wakes the thread; may be called in a signal handler."""
        os.write(self._writing, b"x")

    def _wait(self) -> None:
        os.read(self._reading, 1)
        uncount_running_steps(self._connect(), self._requests_in_hand())
