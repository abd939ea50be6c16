"""Prints jobs in a terminal."""

import re
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from producers.display.facts import print_facts
from producers.display.listing import print_list
from producers.durations import ago
from producers.results.published import outcome_now
from shared.bucket.interface import Bucket
from shared.jobs.files import Subfolder
from shared.jobs.folder import JOBS, JobStatus, Outcome, UnreadableJob
from shared.jobs.messages import Job, ScoreJob

LONGEST_WHY = 160
"""Characters of the reason of a job in a list; ``jobs show`` prints all of it."""


def print_jobs(console: Console, statuses: Sequence[JobStatus | UnreadableJob]) -> None:
    """Prints one record per job: the request, and the reason for its state, shortened to about two lines."""
    rows = []
    for status in statuses:
        if isinstance(status, UnreadableJob):
            rows.append([status.job_id, status.state, "", "", _shortened(status.reason)])
            continue
        job = status.job
        reason = _without_own_path(status.reason, job)
        what = f"{_request_line(job)}: {_shortened(reason)}" if reason else _request_line(job)
        chunks = f"{status.chunks_done}/{status.chunks}" if status.chunks else ""
        rows.append([job.job_id, status.state, ago(status.since), chunks, what])
    print_list(console, ("job", "state", "since", "chunks", "what"), rows, whole=("job", "state", "since", "chunks"))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_WHY else f"{text[: LONGEST_WHY - 3]}..."


def _without_own_path(reason: str, job: Job) -> str:
    """A reason without the folder of the job's own copy of the table; the table's name is enough."""
    return re.sub(rf"{JOBS}/{re.escape(job.job_id)}/{Subfolder.INPUT}/(train/|eval/)?", "", reason)


def _request_line(job: Job) -> str:
    """The request on one line; a table that was copied into the job is shown by its name."""
    if not isinstance(job, ScoreJob):
        return f"train {job.definition}"
    brought = f"{JOBS}/{job.job_id}/{Subfolder.INPUT}/"
    if job.fixes and job.fixed_rows:
        return f"fix {job.fixes} with {job.fixed_rows.removeprefix(brought)}"
    return f"{job.table.removeprefix(brought)} with {job.model}"


def status_now(bucket: Bucket, status: JobStatus) -> JobStatus:
    """The status of a job for people, with the current state of its result."""
    return status if status.outcome is None else replace(status, outcome=outcome_now(bucket, status.job, status.outcome))


def print_job(console: Console, status: JobStatus) -> None:
    """Prints all details of a job."""
    job = status.job
    facts = {"job": job.job_id, "state": status.state, "since": f"{status.since:%Y-%m-%d %H:%M:%S} UTC, {ago(status.since)}"}
    if isinstance(job, ScoreJob):
        facts |= {"table": job.table, "model": job.model, "chunks": f"{status.chunks_done} of {status.chunks or 'not yet known'}"}
        if job.fixes and job.fixed_rows:
            facts |= {"fixes": job.fixes, "fixed rows": job.fixed_rows}
    else:
        facts |= {"definition": job.definition, "train": job.train, "eval": job.eval or "none", "alias": job.alias or "none"}
        if job.config:
            facts |= {"config": job.config, "candidate folds": f"{status.chunks_done} of {status.chunks or 'not yet known'}"}
    if status.reason:
        facts["why" if status.has_ended else "now"] = status.reason
    if status.outcome:
        facts |= outcome_facts(status.outcome)
    print_facts(console, facts)


def outcome_facts(outcome: Outcome) -> dict[str, str]:
    """The facts of an outcome that are not empty."""
    first, *others = outcome.next_step.splitlines() or [""]
    step = "; ".join([first, *(f"{line[:1].lower()}{line[1:]}" for line in others)])  # a fact is one line
    facts = {"release": outcome.release, "result": outcome.result} | outcome.facts | {"next": step}
    return {name: value for name, value in facts.items() if value}
