"""Prints the id of an enqueued job, or follows it to its end."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from producers.display.terminal import command_line, console, print_json, say
from shared.errors import HeldError, JobFailedError, RequestError
from shared.settings import Settings

# rich, celery and redis are imported by the commands that use them, so that --help is fast
if TYPE_CHECKING:
    from producers.enqueue.sending import Enqueued
    from shared.bucket.interface import Bucket


wait_option = click.option("--wait/--no-wait", default=True, help="Follow the job to its end (the default), or return at once.")
again_option = click.option("--again", is_flag=True, help="Run a request again that is already done.")


def after_enqueue(settings: Settings, bucket: "Bucket", done: "Enqueued", *, wait: bool, as_json: bool) -> None:
    """Reports the result of a request, and follows its job to the end if ``wait`` is set.

    Raises:
        RequestError: the request was made before, and the result of its job is out of date.
    """
    if not done.fresh:
        say(f"The same request was made before: it is job {done.job_id}. To run it once more when it is done, add --again.", err=True)
        _refuse_outdated(settings, bucket, done.job_id, wait=wait, as_json=as_json)
    if done.problem is not None:
        say(f"Job {done.job_id} is written but not sent; it runs by itself once Redis is back.", err=True)
        _print_id(done, as_json=as_json)
        raise done.problem
    if not wait:
        _print_id(done, as_json=as_json)
        return
    if done.fresh:
        say(f"Job {done.job_id}", err=True)
    follow_job(settings, bucket, done.job_id, as_json=as_json, joined=not done.fresh, copies=done.copies)


def _refuse_outdated(settings: Settings, bucket: "Bucket", job_id: str, *, wait: bool, as_json: bool) -> None:
    """Raises RequestError when the result of a repeated request's job has been replaced since."""
    from producers.enqueue.repeated_requests import changes_since

    changes = changes_since(settings, bucket, job_id)
    if not changes:
        return
    if as_json:
        print_json({"job_id": job_id, "fresh": False, "changed_since": [vars(change) for change in changes]})
    elif not wait:
        say(job_id)
    steps = [f"Run it once more: {command_line('--again')}", *(change.next_step for change in changes if change.next_step)]
    raise RequestError(
        f"job {job_id} is done, but since then {'; '.join(change.sentence for change in changes)}", next_step="\n".join(steps)
    )


def _print_id(done: "Enqueued", *, as_json: bool) -> None:
    if as_json:
        print_json({"job_id": done.job_id, "fresh": done.fresh})
    else:
        say(done.job_id)


def follow_job(
    settings: Settings,
    bucket: "Bucket",
    job_id: str,
    *,
    as_json: bool,
    joined: bool = False,
    copies: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Follows a job to its end and prints its result.

    The error of a failed job that names one of the ``copies`` in its folder also names the file on this machine.

    Raises:
        RequestError: the job was ``joined`` by a repeated request, and its result is out of date.
    """
    from producers.channels.refused import with_refusal
    from producers.display import facts
    from producers.display import jobs as display_jobs
    from producers.display import releases as display_releases
    from producers.display.follow import follow
    from producers.releases import finding as releases_finding
    from producers.results.published import figures_of, outcome_data, outcome_now
    from shared.jobs.folder import JobFolder

    try:
        outcome = follow(bucket, job_id, settings.broker_url, console(stderr=True))
    except (JobFailedError, HeldError) as error:
        error.message = _with_own_path(error.message, copies)
        folder = JobFolder(bucket, job_id)
        if as_json and (ended := folder.outcome()):
            print_json({"job_id": job_id, **outcome_data(job_id, with_refusal(folder, ended))})
        raise
    except KeyboardInterrupt:
        say(f"\nStopped following; the job goes on. Look again with: scoring jobs show {job_id} --follow", err=True)
        raise
    if joined:  # unknown while the job was running
        _refuse_outdated(settings, bucket, job_id, wait=True, as_json=as_json)
    if as_json:
        figures = figures_of(bucket, JobFolder(bucket, job_id).job(), outcome)
        print_json({"job_id": job_id, **outcome.encode(), **({"figures": figures} if figures else {})})
    else:
        facts.print_facts(console(), display_jobs.outcome_facts(outcome_now(bucket, JobFolder(bucket, job_id).job(), outcome)))
        if trained := releases_finding.trained_by(bucket, job_id, outcome):
            display_releases.print_metrics(console(), trained, trained.judged_on)


def _with_own_path(message: str, copies: Mapping[str, str]) -> str:
    """The message, followed by the file on this machine if it names the copy of one in the job's folder."""
    for copy in sorted(copies, key=len, reverse=True):
        # not as the beginning of another path
        if re.search(rf"{re.escape(copy)}(?![\w/-]|\.\w)", message):
            return f"{message}; {copy.rpartition('/')[2]} is a copy of {copies[copy]}"
    return message
