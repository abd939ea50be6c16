"""Marks finished chunks in Redis, only to save time: the sweep finds finished chunks in the job's folder."""

import redis
import structlog

from shared.jobs.folder import JobFolder
from shared.jobs.messages import ChunkMessage
from shared.queue.state import counters, progress
from workers.recovery.attempts import Attempt
from workers.scoring.parts import PartRecord
from workers.scoring.reject_limits import count_rejects
from workers.tasks import context

log = structlog.get_logger()


def mark_part(message: ChunkMessage, part: PartRecord, attempt: Attempt, *, release_was_kept: bool) -> progress.Marked | None:
    """Marks a chunk as done and ends its attempt, in one round trip; returns None when Redis does not answer."""
    # a release that was already in memory was not loaded
    stages = {stage: seconds for stage, seconds in part.stages.items() if stage != "load" or not release_was_kept}
    counts = counters.of_chunk(rows=part.rows_in, rejects=part.rows_rejected, stages=stages, release_was_kept=release_was_kept)
    try:
        marked = progress.mark_part(context.redis_client(), message.job_id, message.index, counts=counts, attempts=attempt.key)
    except redis.RedisError as error:
        log.warning("part not marked", error=str(error))
        return None
    attempt.is_over = True
    return marked


def mark_present_parts(folder: JobFolder, done: set[int]) -> None:
    """Marks the parts that exist from the start: those of a resumed job, or of the job that a fix corrects."""
    try:
        progress.mark_parts(context.redis_client(), folder.job_id, done, count_rejects(folder))
    except redis.RedisError as error:
        log.warning("parts not marked", error=str(error))
