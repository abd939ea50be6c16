"""Sends the chunks of a job, most of them while the table is still being cut."""

import time
from collections.abc import Sequence

import celery
import structlog

from shared.errors import TransientError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ChunkMessage, StepMessage
from shared.queue import broker, routes
from workers.scoring import joining
from workers.scoring.parts import missing_chunks
from workers.scoring.plan import Chunk, Plan
from workers.tasks.chunks.marks import mark_present_parts

log = structlog.get_logger()

SENDING_PAUSE_SECONDS = 0.05
"""Minimum seconds between two batches of chunks that are sent while the table is being cut."""


class ChunkSender:
    """Sends each chunk of a job that has no part yet, once.

    Sending early only saves time: the other chunks are sent when the plan is written.
    """

    def __init__(self, app: celery.Celery, job_id: str) -> None:
        self._app, self._job_id = app, job_id
        self._next = 0.0
        self.sent = 0
        """How many chunks were sent early: the first ones of the plan."""

    def send_early(self, chunks: Sequence[Chunk]) -> None:
        """Sends the unsent chunks that can be scored, unless a batch was sent within ``SENDING_PAUSE_SECONDS``."""
        count = len(chunks)
        if count <= self.sent or time.monotonic() < self._next:
            return
        messages = [ChunkMessage(job_id=self._job_id, index=index, of=0, cut=chunks[index]) for index in range(self.sent, count)]
        try:
            broker.send(self._app, routes.SCORE_CHUNK, messages)
        except TransientError as error:
            log.warning("chunks not sent before the plan", error=str(error))
            self._next = float("inf")
            return
        self.sent, self._next = count, time.monotonic() + SENDING_PAUSE_SECONDS

    def send_remaining(self, folder: JobFolder, plan: Plan) -> None:
        """Sends the unsent chunks of a written plan that have no part, and the finish step if few or none are missing."""
        missing = missing_chunks(folder, plan)
        log.info("planned", chunks=len(plan.chunks), missing=len(missing), sent_before=self.sent, release=plan.release)
        if missing and not self.sent:
            mark_present_parts(folder, set(range(len(plan.chunks))) - set(missing))
        if not missing or len(missing) <= joining.awaited_chunks(plan):
            broker.send(self._app, routes.SCORE_FINISH, [StepMessage(job_id=self._job_id)])
        if missing:
            messages = [ChunkMessage(job_id=self._job_id, index=index, of=len(plan.chunks)) for index in missing if index >= self.sent]
            broker.send(self._app, routes.SCORE_CHUNK, messages)
