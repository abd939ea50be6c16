"""One run of a chunk: finds it in the plan, scores it, and marks it as done."""

from dataclasses import dataclass

import structlog

from model_store.store import releases_kept
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ChunkMessage
from workers.recovery.attempts import Attempt
from workers.scoring import joining
from workers.scoring.chunks.planned_chunks import find_chunk, plan_of_chunk
from workers.scoring.plan import Plan
from workers.scoring.reject_limits import check_so_far
from workers.tasks.chunks.attempts import score_attempt
from workers.tasks.chunks.marks import mark_part

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class ChunkDone:
    """A chunk that was scored and marked, and the progress of its job."""

    folder: JobFolder
    plan: Plan
    chunks_done: int
    rejected: int
    """Rows of the job that are rejected so far."""
    seconds: float
    """Seconds that this chunk took."""

    @property
    def starts_join(self) -> bool:
        """True when the finish step must be sent now."""
        return joining.is_due(self.plan, self.chunks_done, self.seconds)

    def check_rejects(self) -> None:
        """Raises TableError when the job has too many rejects already; the join checks the complete job."""
        if self.rejected and self.chunks_done < len(self.plan.chunks):
            check_so_far(self.folder, self.plan, self.rejected)


def run_chunk(message: ChunkMessage, folder: JobFolder, attempt: Attempt) -> ChunkDone | None:
    """Scores and marks one chunk; returns None if it is left to another process, Redis does not answer, or there is no plan yet."""
    planned, kept_before = find_chunk(folder, message), releases_kept()
    part = score_attempt(message, planned, folder, attempt)
    if part is None:
        return None
    log.info("chunk scored", rows=part.rows_in, seconds=round(part.seconds, 3))
    marked = mark_part(message, part, attempt, release_was_kept=releases_kept() > kept_before)
    plan = None if marked is None else plan_of_chunk(folder, message)
    if marked is None or plan is None:
        return None
    return ChunkDone(folder=folder, plan=plan, chunks_done=marked.chunks, rejected=marked.rejected, seconds=part.seconds)
