"""States of a job."""

from enum import StrEnum
from typing import Literal


class JobState(StrEnum):
    """The state of a job; the values are what ``outcome.json`` holds and what people read."""

    QUEUED = "queued"
    """No step has started."""
    RUNNING = "running"
    """A step has started, and work is left."""
    FINISHING = "finishing"
    """All parts exist, or the outcome is decided, and the result is not published yet."""
    DONE = "done"
    """The result or the release is published."""
    FAILED = "failed"
    """The job ended with an error; it can be resumed."""
    CANCELLED = "cancelled"
    """A person cancelled the job; it can be resumed."""
    HELD = "held"
    """The result is complete but held back from its channel: a person approves or refuses it."""
    UNREADABLE = "unreadable"
    """The request is damaged. Lists show this state; no file holds it."""

    def __repr__(self) -> str:
        """The value alone: pydantic quotes it in the message about a wrong state."""
        return repr(self.value)


FinalState = Literal[JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.HELD]
"""A state that a job leaves only if a person resumes it, or approves its result."""
FINAL_STATES = (JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.HELD)
SETTLED_STATES = (JobState.DONE, JobState.HELD)
"""The final states of a job that has a complete result or release."""
OPEN_STATES = (JobState.QUEUED, JobState.RUNNING, JobState.FINISHING)
