"""Records of steps that started and never ended, ``deaths/<step>.json`` in the job's folder, only for steps that crashed or were resent.

Redis counts every step. A step that died before, or whose message was lost and sent again, is also recorded here, so that an emptied
Redis does not give it more tries.
"""

import structlog
from pydantic import Field

from shared.errors import MessageError, ScoringError
from shared.jobs.files import Subfolder
from shared.jobs.folder import JobFolder
from shared.records import Record, decode

log = structlog.get_logger()


class Beginning(Record):
    """The start of a step, with the number of earlier starts without an end, and what the step was doing."""

    begun: int = Field(ge=1)
    """How often the step started without an end, this start included."""
    doing: str = ""
    """What the step was doing last; empty if the step does not report it."""
    in_isolation: bool = False
    """True while it does the work that is tried in pieces after some crashes, which is scoring rows."""
    deaths_elsewhere: int = 0
    """How many times in a row it died while it did other work."""
    had: str = ""
    """The memory of its process, as text."""
    ran_out_of_time: bool = False
    """True if it was interrupted at its time limit instead of being killed."""


def read_beginning(folder: JobFolder, step: str) -> Beginning | None:
    """Returns the record of a step; None if there is none, or it cannot be read."""
    try:
        text = folder.bucket.read(_file(folder, step))
        return None if text is None else decode(Beginning, text)
    except MessageError:
        return None  # damaged: Redis still counts
    except ScoringError as error:
        log.warning("crash record not read", step=step, error=str(error))
        return None


def write_beginning(folder: JobFolder, step: str, beginning: Beginning) -> None:
    """Records the start of a step, or what it does now."""
    try:
        folder.bucket.write(_file(folder, step), beginning.to_json())
    except ScoringError as error:
        log.warning("crash record not written", step=step, error=str(error))


def forget_beginning(folder: JobFolder, step: str) -> None:
    """Removes the record of a step that has ended."""
    try:
        folder.bucket.delete(_file(folder, step))
    except ScoringError as error:
        log.warning("crash record not removed", step=step, error=str(error))


def forget_beginnings(folder: JobFolder) -> None:
    """Removes the records of all steps of a job that has ended."""
    try:
        for info in folder.bucket.files(folder.file(Subfolder.DEATHS)):
            folder.bucket.delete(info.path)
    except ScoringError as error:
        log.warning("crash records not removed", error=str(error))


def _file(folder: JobFolder, step: str) -> str:
    return folder.file(f"{Subfolder.DEATHS}/{step}.json")
