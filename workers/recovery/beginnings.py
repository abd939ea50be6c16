"""What a job's folder says of a step that was begun without an end: ``deaths/<step>.json``, only of steps that have a reason for it.

Redis counts every step. A step that died before, or whose message was lost and sent again, is written down here as well, so that an
emptied Redis does not give it its tries back.
"""

import structlog
from pydantic import Field

from shared.errors import MessageError, ScoringError
from shared.jobs.files import Subfolder
from shared.jobs.folder import JobFolder
from shared.records import Record, decode

log = structlog.get_logger()


class Beginning(Record):
    """That a step was begun, how often before without an end, and what it was doing."""

    begun: int = Field(ge=1)
    """How often it was begun without an end, this time included."""
    doing: str = ""
    """What it was doing last; empty where the step does not tell."""
    in_isolation: bool = False
    """True while it does what is tried in pieces after some deaths: scoring rows."""
    deaths_elsewhere: int = 0
    """How often in a row it died while it did something else than that."""
    had: str = ""
    """The memory that its process had, in words."""
    ran_out_of_time: bool = False
    """True when it was broken off at its time limit, and was not killed."""


def read_beginning(folder: JobFolder, step: str) -> Beginning | None:
    """What is written of a step; None where nothing is, or it cannot be read."""
    try:
        text = folder.bucket.read(_file(folder, step))
        return None if text is None else decode(Beginning, text)
    except MessageError:
        return None  # damaged: Redis counts all the same
    except ScoringError as error:
        log.warning("deaths not read", step=step, error=str(error))
        return None


def write_beginning(folder: JobFolder, step: str, beginning: Beginning) -> None:
    """Write down that a step was begun, or what it does now."""
    try:
        folder.bucket.write(_file(folder, step), beginning.to_json())
    except ScoringError as error:
        log.warning("beginning not written down", step=step, error=str(error))


def forget_beginning(folder: JobFolder, step: str) -> None:
    """Take away what is written of a step that came to an end."""
    try:
        folder.bucket.delete(_file(folder, step))
    except ScoringError as error:
        log.warning("beginning not forgotten", step=step, error=str(error))


def forget_beginnings(folder: JobFolder) -> None:
    """Take away what is written of all steps of a job that has ended."""
    try:
        for info in folder.bucket.files(folder.file(Subfolder.DEATHS)):
            folder.bucket.delete(info.path)
    except ScoringError as error:
        log.warning("beginnings not forgotten", error=str(error))


def _file(folder: JobFolder, step: str) -> str:
    return folder.file(f"{Subfolder.DEATHS}/{step}.json")
