"""Assesses everything that may be removed, group by group, so that a survey can stop after any group and continue later."""

import functools
from collections.abc import Callable, Iterator
from datetime import datetime

from shared.bucket.interface import Bucket, FileInfo
from shared.jobs.folder import JOBS
from shared.retention.assessments import Assessment
from shared.retention.config import Retention
from shared.retention.jobs import Inspection, assess_job
from shared.retention.marks import assess_notices, assess_requests
from shared.retention.needs import in_groups, read_needs
from shared.retention.results import assess_place, places_in, result_folders

GROUP = 500
"""Jobs per listing."""

Group = tuple[str, Callable[[], list[Assessment]]]
"""The position where the next survey continues, and a function that assesses the group; a group is skipped by not calling it."""


def survey_jobs(inspection: Inspection, after: str = "") -> Iterator[Group]:
    """Yields groups of jobs, the newest first, starting before ``after``."""
    names = [name for name in inspection.bucket.folders(JOBS) if not name.startswith("_") and (not after or name < after)]
    for prefix, group in in_groups(names, GROUP):
        yield group[-1], functools.partial(_assess_jobs, inspection, prefix, group)


def _assess_jobs(inspection: Inspection, prefix: str, group: list[str]) -> list[Assessment]:
    found = files_of_jobs(inspection.bucket, prefix, group)
    return [thing for name in group for thing in assess_job(inspection, name, found.get(name, [])) if found.get(name)]


def files_of_jobs(bucket: Bucket, prefix: str, names: list[str]) -> dict[str, list[FileInfo]]:
    """The files of these jobs; ``prefix`` is the common prefix of their names and of few others."""
    if not bucket.is_remote:  # a local prefix listing would read the names of all jobs for each group
        return {name: bucket.tree(f"{JOBS}/{name}") for name in names}
    found: dict[str, list[FileInfo]] = {name: [] for name in names}
    for info in bucket.tree(JOBS, prefix):
        found.get(info.path.split("/")[1], []).append(info)
    return found


def survey_results(inspection: Inspection, after: str = "") -> Iterator[Group]:
    """Yields groups of results with their revisions, by place, starting after ``after``."""
    for folder in result_folders(inspection.bucket):
        if folder > after:
            yield folder, functools.partial(_assess_results, inspection, folder)


def _assess_results(inspection: Inspection, folder: str) -> list[Assessment]:
    return [thing for place in places_in(inspection.bucket.tree(folder)) for thing in assess_place(inspection, place)]


def survey_requests(inspection: Inspection, after: str = "") -> Iterator[Group]:
    """Yields all requests as one group."""
    del after
    yield "", lambda: list(assess_requests(inspection))


def survey_notices(inspection: Inspection, after: str = "") -> Iterator[Group]:
    """Yields all notices as one group."""
    del after
    yield "", lambda: list(assess_notices(inspection))


SURVEYS: dict[str, Callable[[Inspection, str], Iterator[Group]]] = {
    "jobs": survey_jobs,
    "results": survey_results,
    "requests": survey_requests,
    "notices": survey_notices,
}
"""The phases of a round that judge things, in order."""


def survey(bucket: Bucket, rules: Retention, now: datetime) -> list[Assessment]:
    """Assesses everything in the bucket that the rules cover."""
    inspection = Inspection(bucket=bucket, rules=rules, now=now, needs=read_needs(bucket))
    return [thing for groups in SURVEYS.values() for _, assess in groups(inspection, "") for thing in assess()]
