"""What a step of a job registers, and one run of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import celery
from celery.exceptions import SoftTimeLimitExceeded

from shared.jobs.folder import JobFolder
from shared.jobs.messages import StepMessage
from workers.recovery.attempts import Attempt

Work = Callable[[celery.Task, Any, JobFolder, Attempt], None]
"""What a step does with its message, the folder of its job, and the count of its crashes."""


class TimeLimit(Protocol):
    """What follows when a step is broken off at its time limit."""

    counts_as_crash: bool
    """True to count the run as one that killed its process."""

    def handle(self, run: "StepRun", error: SoftTimeLimitExceeded) -> None:
        """Ends the job or leaves the step to the sweep."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a job as it is registered: its work, and how its policies differ from those of other steps."""

    work: Work
    activity: str
    """What the step does, in words, for the reason of a job that fails."""
    says_stage: bool
    """True when the job's folder describes more exactly than ``activity`` what the step was doing."""
    handles_crashes: Callable[[Any, JobFolder], bool]
    """For a message and its job, whether the work itself handles a step that crashed too often. Otherwise its job fails."""
    repeat_while: Callable[[JobFolder], bool]
    """Called after the lease is returned; True when the step is needed once more, because of a change during its run."""
    time_limit: TimeLimit
    notifies: bool
    """False when a job that this step fails sends no notice."""


@dataclass(frozen=True, kw_only=True)
class StepRun:
    """One run of a step for one message."""

    step: Step
    task: celery.Task
    message: StepMessage
    folder: JobFolder

    @property
    def name(self) -> str:
        """The name of the task."""
        return str(self.task.name)

    def describe(self) -> str:
        """The step by its name and activity; of a step that says its stage, what it said last."""
        stage = self.folder.stage() if self.step.says_stage else None
        return f"{self.name} ({stage.text if stage else self.step.activity})"
