"""Held results: complete, but held back from their channel until a person approves or refuses them.

    data/predict/output/channels/_held/<job id>    a mark: the result of this job is held

A mark only speeds up the search: the outcome of the job and its decision are authoritative.
"""

from typing import Annotated, Literal

from pydantic import Field

from shared.bucket.interface import Bucket
from shared.catalog.manifests import CHANNELS
from shared.errors import MessageError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.records import Record, Timestamp, decode

_HELD = f"{CHANNELS}/_held"


class Decision(Record):
    """What a person decided about a held result."""

    verdict: Literal["approved", "refused"]
    at: Timestamp
    by: Annotated[str, Field(max_length=200)]
    """``user@host``."""
    reason: Annotated[str, Field(max_length=500)]
    compared_with: Annotated[int, Field(ge=0)] = 0
    """The number of the change of the channel with which the result had been compared when the person decided."""


def mark_held(bucket: Bucket, job_id: str) -> None:
    """Marks the result of a job as held."""
    bucket.write(f"{_HELD}/{job_id}", b"")


def unmark_held(bucket: Bucket, job_id: str) -> None:
    """Removes the mark of a result that is decided."""
    bucket.delete(f"{_HELD}/{job_id}")


def held_jobs(bucket: Bucket) -> list[str]:
    """Returns the jobs whose results are held, the oldest first."""
    return [info.path.rpartition("/")[2] for info in bucket.files(_HELD)]


def how_to_decide(job_id: str, channel: str) -> str:
    """Returns the two commands that decide about a held result, a sentence each."""
    return (
        f"Publish it with: scoring results approve {job_id} --reason TEXT\n"
        f"Or keep what {channel} shows with: scoring results refuse {job_id} --reason TEXT"
    )


def read_decision(folder: JobFolder) -> Decision | None:
    """Returns the decision about the result of a job, or None if there is none or it cannot be read."""
    text = folder.bucket.read(folder.file(JobFile.DECISION))
    try:
        return None if text is None else decode(Decision, text)
    except MessageError:
        return None
