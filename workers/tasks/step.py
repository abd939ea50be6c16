"""The registration of a step of a job, and one run of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import celery
from celery.exceptions import SoftTimeLimitExceeded

from shared.jobs.folder import JobFolder
from shared.jobs.messages import StepMessage
from workers.recovery.attempts import Attempt

Work = Callable[[celery.Task, Any, JobFolder, Attempt], None]
"""The work of a step, called with the task, its message, the folder of its job, and the count of its crashes."""


class TimeLimit(Protocol):
    """What happens when a step is interrupted at its time limit."""

    counts_as_crash: bool
    """True to count the run as one that killed its process."""

    def handle(self, run: "StepRun", error: SoftTimeLimitExceeded) -> None:
        """Ends the job or leaves the step to the sweep."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A registered step of a job: its work, and how its policies differ from those of other steps."""

    work: Work
    activity: str
    """What the step does, for the reason of a job that fails."""
    writes_stage: bool
    """True if the stage in the job's folder describes the step more precisely than ``activity``."""
    handles_crashes: Callable[[Any, JobFolder], bool]
    """Whether the work itself handles a step that crashed too often, by message and job. Otherwise its job fails."""
    repeat_while: Callable[[JobFolder], bool]
    """Called after the lease is released; returns True if the step must run again, because of a change during its run."""
    time_limit: TimeLimit
    notifies: bool
    """False if a job that this step fails sends no notice."""


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
        """Describes the step by its name and its activity, or by its last stage if the step writes stages."""
        stage = self.folder.stage() if self.step.writes_stage else None
        return f"{self.name} ({stage.text if stage else self.step.activity})"
