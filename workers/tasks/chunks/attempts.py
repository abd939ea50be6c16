"""Scores a chunk as its earlier crashes require: as a whole, in pieces, or not at all."""

from collections.abc import Callable

import structlog

from shared.errors import ModelError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ChunkMessage
from shared.queue.state.leases import leased
from workers.recovery.attempts import MAX_CRASHES, Attempt
from workers.scoring.chunks import chunk
from workers.scoring.chunks.chunk import ChunkStage
from workers.scoring.chunks.isolation import is_isolated
from workers.scoring.parts import PartRecord
from workers.scoring.plan import PlannedChunk
from workers.tasks import context
from workers.tasks.chunks.loading import has_crashed_loader, has_loaded, load_alone, marked_load, note_loaded
from workers.tasks.crashing_releases import record_crashing_release
from workers.tasks.policies import verdicts

log = structlog.get_logger()


def score_attempt(message: ChunkMessage, planned: PlannedChunk, folder: JobFolder, attempt: Attempt) -> PartRecord | None:
    """Scores a chunk; returns None if the job has ended, or another process works on this chunk or loads its release.

    After ``MAX_CRASHES`` crashes the chunk is scored in pieces. After as many crashes outside of scoring rows it is not scored.

    Raises:
        PermanentError: the chunk or its release crashed so often that the job fails.
    """
    if attempt.crashes_elsewhere >= MAX_CRASHES:
        _refuse(message, planned, folder, attempt)
    if not has_loaded(planned.release) and _needs_care(attempt) and not load_alone(planned.release, folder, attempt):
        return None
    if attempt.crashes >= MAX_CRASHES or (attempt.crashes and is_isolated(folder, message.index)):
        part = _score_in_pieces(planned, folder, attempt)
    else:
        part = _score_whole(planned, folder, attempt)
    note_loaded(planned.release)
    return part


def _refuse(message: ChunkMessage, planned: PlannedChunk, folder: JobFolder, attempt: Attempt) -> None:
    verdict = verdicts.crashed_chunk(message, planned.release, attempt)
    if isinstance(verdict, ModelError):
        record_crashing_release(planned.release, folder, verdict.message)
    raise verdict


def _needs_care(attempt: Attempt) -> bool:
    """Returns True if the release of the job may have killed a process."""
    return bool(attempt.crashes) or attempt.job_has_crashed or has_crashed_loader(attempt)


def _score_whole(planned: PlannedChunk, folder: JobFolder, attempt: Attempt) -> PartRecord | None:
    record = _stage_recorder(attempt)
    with marked_load(planned.release, attempt) as end_of_load:

        def enter(stage: ChunkStage) -> None:
            end_of_load(stage)
            record(stage)

        return chunk.score_chunk(folder, planned, context.library(), enter=enter)


def _score_in_pieces(planned: PlannedChunk, folder: JobFolder, attempt: Attempt) -> PartRecord | None:
    with leased(context.redis_client(), f"pieces:{folder.job_id}:{planned.index}") as is_ours:
        if not is_ours:
            return None  # two concurrent processes would each count the other's attempt as a crash
        log.warning("chunk killed its worker and is tried in pieces", crashes=attempt.crashes)
        return chunk.score_chunk(folder, planned, context.library(), isolated=True, enter=_stage_recorder(attempt))


def _stage_recorder(attempt: Attempt) -> Callable[[ChunkStage], None]:
    return lambda stage: attempt.enter(stage, is_scoring_rows=stage is ChunkStage.SCORING)
