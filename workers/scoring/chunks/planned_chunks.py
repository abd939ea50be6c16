"""Finds the chunk that a message asks for: in the plan, or in the pinned inputs while the table is being cut."""

import functools

from shared.bucket.interface import Bucket
from shared.errors import StaleMessageError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ChunkMessage
from workers.scoring.plan import PinnedInputs, Plan, PlannedChunk, read_pinned_inputs, read_plan

JOBS_IN_MEMORY = 8


@functools.lru_cache(maxsize=JOBS_IN_MEMORY)
def read_plan_once(bucket: Bucket, job_id: str) -> Plan:
    """Returns the plan of a job, cached: it never changes."""
    return read_plan(JobFolder(bucket, job_id))


@functools.lru_cache(maxsize=JOBS_IN_MEMORY)
def read_pinned_once(bucket: Bucket, job_id: str) -> PinnedInputs:
    """Returns the pinned inputs of a job whose table is being cut, cached; raises StaleMessageError if there are none."""
    pinned = read_pinned_inputs(JobFolder(bucket, job_id))
    if pinned is None:
        raise StaleMessageError(f"nothing of job {job_id} is planned")
    return pinned


def find_chunk(folder: JobFolder, message: ChunkMessage) -> PlannedChunk:
    """Returns the chunk that a message asks for; raises StaleMessageError when the job has no such chunk."""
    if message.cut is None or folder.has(JobFile.PLAN):
        planned = read_plan_once(folder.bucket, folder.job_id).chunk(message.index)
        if message.cut not in (None, planned.chunk):
            raise StaleMessageError(f"chunk {message.index} of job {message.job_id} was cut otherwise")
        return planned
    return read_pinned_once(folder.bucket, folder.job_id).chunk(message.index, message.cut)


def plan_of_chunk(folder: JobFolder, message: ChunkMessage) -> Plan | None:
    """Returns the plan of a scored chunk; None while the table is being cut: once the plan is written, its step checks for the parts."""
    if message.cut is not None and not folder.has(JobFile.PLAN):
        return None
    return read_plan_once(folder.bucket, folder.job_id)
