"""Records of crashing steps, ``deaths/<step>.json`` in the job's folder.

Redis counts every step. A step that crashed before, or whose message was lost and sent again, is also recorded here, so that an emptied
Redis does not give it more tries.
"""

import structlog
from pydantic import ConfigDict, Field

from shared.errors import MessageError, ScoringError
from shared.jobs.files import Subfolder
from shared.jobs.folder import JobFolder
from shared.records import Record, decode

log = structlog.get_logger()


class CrashRecord(Record):
    """The start of a step, with the number of earlier starts without an end, and what the step was doing."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    starts: int = Field(ge=1, alias="begun")
    """How often the step started without an end, this start included."""
    doing: str = ""
    """What the step was doing last; empty if the step does not report it."""
    is_scoring_rows: bool = Field(default=False, alias="in_isolation")
    """True while it scores rows, which is tried in pieces after some crashes."""
    crashes_elsewhere: int = Field(default=0, alias="deaths_elsewhere")
    """Consecutive crashes outside of scoring rows."""
    had: str = ""
    """The memory of its process, as text."""
    ran_out_of_time: bool = False
    """True if it was interrupted at its time limit instead of being killed."""


def read_crash_record(folder: JobFolder, step: str) -> CrashRecord | None:
    """Returns the record of a step; None if there is none, or it cannot be read."""
    try:
        text = folder.bucket.read(_file(folder, step))
        return None if text is None else decode(CrashRecord, text)
    except MessageError:
        return None  # damaged: Redis still counts
    except ScoringError as error:
        log.warning("crash record not read", step=step, error=str(error))
        return None


def write_crash_record(folder: JobFolder, step: str, record: CrashRecord) -> None:
    """Records the start of a step, or what it does now."""
    try:
        folder.bucket.write(_file(folder, step), record.to_json())
    except ScoringError as error:
        log.warning("crash record not written", step=step, error=str(error))


def remove_crash_record(folder: JobFolder, step: str) -> None:
    """Removes the record of a step that has ended."""
    try:
        folder.bucket.delete(_file(folder, step))
    except ScoringError as error:
        log.warning("crash record not removed", step=step, error=str(error))


def remove_crash_records(folder: JobFolder) -> None:
    """Removes the records of all steps of a job that has ended."""
    try:
        for info in folder.bucket.files(folder.file(Subfolder.CRASHES)):
            folder.bucket.delete(info.path)
    except ScoringError as error:
        log.warning("crash records not removed", error=str(error))


def _file(folder: JobFolder, step: str) -> str:
    return folder.file(f"{Subfolder.CRASHES}/{step}.json")
