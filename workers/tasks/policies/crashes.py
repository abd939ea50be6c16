"""The limit of crashes: a step that killed its process too often fails its job, unless its work handles that."""

from celery.exceptions import SoftTimeLimitExceeded

from workers.recovery.attempts import MAX_CRASHES, counted, step_name
from workers.tasks import context
from workers.tasks.policies import verdicts
from workers.tasks.step import StepRun


def run_counted(run: StepRun) -> None:
    """Does the work of a step and counts the run; a run that does not end counts as a crash.

    Raises:
        JobFailedError: the step killed its process too often, so it is not tried again.
    """
    step = run.step
    with counted(context.redis_client(), run.folder, step_name(run.name, run.message)) as attempt:
        if attempt.crashes >= MAX_CRASHES and not step.handles_crashes(run.message, run.folder):
            raise verdicts.crashed_step(run.describe(), attempt)
        try:
            step.work(run.task, run.message, run.folder, attempt)
        except SoftTimeLimitExceeded:
            if not step.time_limit.counts_as_crash:
                attempt.forget()
            raise
