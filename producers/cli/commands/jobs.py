"""The commands under ``scoring jobs``."""

import itertools
from typing import Any

import click

from producers.cli.after_enqueue import after_enqueue, follow_job, wait_option
from producers.display.terminal import (
    console,
    json_option,
    open_bucket_here,
    print_json,
    say,
    say_empty,
)
from shared.errors import RequestError
from shared.jobs.states import JobState

job_argument = click.argument("job_id", metavar="JOB")


@click.group()
def jobs() -> None:
    """List, show, cancel and resume jobs."""


STATES = tuple(state.value for state in JobState)


@jobs.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, the newest first.")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only jobs in this state; can be given several times.")
@json_option
def jobs_list(limit: int, states: tuple[str, ...], as_json: bool) -> None:
    """List jobs, the newest first.

    \b
    Example:
        scoring jobs list --limit 5
        scoring jobs list --state failed
    """
    from producers.channels.refused import status_with_refusal
    from producers.display import jobs as display_jobs
    from shared.jobs.folder import JobFolder, JobStatus, inspect_job, list_jobs

    _, bucket = open_bucket_here()
    found = (inspect_job(bucket, job_id) for job_id in list_jobs(bucket))
    wanted = itertools.islice((each for each in found if not states or each.state in states), limit)
    statuses = [status_with_refusal(JobFolder(bucket, one.job.job_id), one) if isinstance(one, JobStatus) else one for one in wanted]
    if as_json:
        print_json([_status_data(status) for status in statuses])
    elif statuses:
        display_jobs.print_jobs(console(), statuses)
    elif states:
        say(f"No job in the bucket {bucket.url} is {' or '.join(states)}")
    else:
        say_empty(bucket, "There is no job yet")


@jobs.command("show")
@job_argument
@click.option("--follow", "-f", "following", is_flag=True, help="Show its progress until it has ended.")
@json_option
def jobs_show(job_id: str, following: bool, as_json: bool) -> None:
    """Show one job.

    JOB is an id, a part of an id that no other job has, or `last`. Every command that takes a JOB accepts these, but `cancel` and
    `resume` take no `last`.

    \b
    Example:
        scoring jobs show last
        scoring jobs show 9bfad3
        scoring jobs show 20261123t101500z-score-9bfad3 --follow
    """
    from producers.channels.refused import status_with_refusal
    from producers.display import jobs as display_jobs
    from producers.job_names import find_job
    from producers.results.published import figures_of
    from shared.jobs.folder import JobFolder

    settings, bucket = open_bucket_here()
    job_id = find_job(bucket, job_id)
    if following:
        follow_job(settings, bucket, job_id, as_json=as_json)
        return
    folder = JobFolder(bucket, job_id)
    status = status_with_refusal(folder, folder.status())
    if as_json:
        figures = figures_of(bucket, status.job, status.outcome)
        print_json(_status_data(status) | ({"figures": figures} if figures else {}))
    else:
        display_jobs.print_job(console(), display_jobs.status_now(bucket, status))


@jobs.command("cancel")
@job_argument
def jobs_cancel(job_id: str) -> None:
    """Cancel a job; chunks in hand are finished, nothing is published.

    \b
    Example:
        scoring jobs cancel 20261123t101500z-score-9bfad3
    """
    from producers.enqueue import sending
    from producers.job_names import find_job_to_change
    from shared.jobs.folder import JobFolder

    settings, bucket = open_bucket_here()
    job_id = find_job_to_change(bucket, job_id, "scoring jobs cancel")
    before = JobFolder(bucket, job_id).outcome()
    state = sending.cancel(settings, bucket, job_id)
    if state != JobState.CANCELLED:
        raise RequestError(f"job {job_id} cannot be cancelled: it is {state} already", next_step=f"See it with: scoring jobs show {job_id}")
    done = f"Cancelled {job_id}" if before is None else f"Job {job_id} was cancelled already"
    say(f"{done}. Let it go on with: scoring jobs resume {job_id}")


@jobs.command("resume")
@job_argument
@click.option("--accept-rejects", is_flag=True, help="Continue without the rejected rows, however many there are.")
@wait_option
@json_option
def jobs_resume(job_id: str, accept_rejects: bool, wait: bool, as_json: bool) -> None:
    """Resume a failed or cancelled job from the parts that it has.

    \b
    Example:
        scoring jobs resume 20261123t101500z-score-9bfad3
        scoring jobs resume 20261123t101500z-score-9bfad3 --accept-rejects
    """
    from producers.enqueue import sending
    from producers.job_names import find_job_to_change

    settings, bucket = open_bucket_here()
    command = f"scoring jobs resume{' --accept-rejects' if accept_rejects else ''}"
    job_id = find_job_to_change(bucket, job_id, command)
    after_enqueue(settings, bucket, sending.resume(settings, bucket, job_id, accept_rejects=accept_rejects), wait=wait, as_json=as_json)


def _status_data(status: Any) -> dict[str, Any]:  # noqa: ANN401 - a JobStatus or an UnreadableJob, imported late
    from producers.results.published import outcome_data
    from shared.jobs.folder import UnreadableJob

    if isinstance(status, UnreadableJob):
        return {"job": {"job_id": status.job_id}, "state": status.state, "reason": status.reason}
    outcome = outcome_data(status.job.job_id, status.outcome) if status.outcome else None
    fields = {name: getattr(status, name) for name in ("state", "since", "reason", "chunks", "chunks_done")}
    return {"job": status.job.encode(), **fields, "outcome": outcome}
