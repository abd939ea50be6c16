"""Takes back the beginnings of steps in hand when their worker is told to stop: a deploy that kills them must not fail their jobs."""

from collections.abc import Iterable
from typing import Any, Protocol

import redis

from shared.errors import MessageError
from shared.messages import CandidateOrder, ChunkOrder, JobOrder
from shared.routes import SCORE_CHUNK, TRAIN_CANDIDATE
from workers.attempts import forgive, step_name

KINDS: dict[str, type[JobOrder]] = {SCORE_CHUNK: ChunkOrder, TRAIN_CANDIDATE: CandidateOrder}


class Request(Protocol):
    """A message in hand, as Celery keeps it."""

    @property
    def name(self) -> str:
        """The name of its task."""

    @property
    def args(self) -> Any:  # noqa: ANN401 - whatever was sent
        """What its task is given."""


def step_of(request: Request) -> tuple[JobOrder, str]:
    """The order in a message, and the name under which its step is counted; raises MessageError when it is no step of a job."""
    order = KINDS.get(request.name, JobOrder).decode(request.args[0] if request.args else None)
    return order, step_name(request.name, order)


def forgive_work_in_hand(client: redis.Redis, requests: Iterable[Request]) -> None:
    """Take back one beginning of each step that is worked on; where Redis is away they count."""
    for request in requests:
        try:
            order, step = step_of(request)
        except MessageError:
            continue  # no step of a job, like a sweep
        forgive(client, order.job_id, step)
