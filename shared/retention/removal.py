"""Removes things whose tombstones are a day old, unless something needs them now.

The process may die at any moment. Marks of completeness are removed first, and files that a job needs to continue are removed last.
So a partly removed thing never looks complete, and the next round removes the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from shared.bucket.interface import Bucket
from shared.catalog.paths import REVISIONS
from shared.jobs.folder import JOBS
from shared.retention.assessments import Assessment, Kind, removal_rank
from shared.retention.config import Retention
from shared.retention.jobs import Inspection, assess_job
from shared.retention.needs import Needs, in_groups, needed_by, read_needs
from shared.retention.results import assess_place, places_in
from shared.retention.survey import GROUP, files_of_jobs, survey_notices, survey_requests
from shared.retention.tombstones import (
    GRACE,
    TOMBSTONES,
    Tombstone,
    drop_finished_marks,
    forget_taken_back,
    name_of,
    read_all,
    read_tombstone,
    removing_mark,
)

CLOCKS_DIFFER = timedelta(hours=1)
"""The largest assumed lag of the clock that named a job."""
OF_JOBS = {Kind.SLICES, Kind.PARTS, Kind.JOB_FILES, Kind.JOB_RECORD}

log = structlog.get_logger()


@dataclass(kw_only=True)
class Removed:
    """The result of a removal."""

    things: list[Assessment] = field(default_factory=list)
    spared: list[Assessment] = field(default_factory=list)
    """Things with a tombstone that stay, because they are needed now or are younger than they were."""
    is_over: bool = True
    """False when due things were left for the next step."""


def remove_due(
    bucket: Bucket,
    rules: Retention,
    now: datetime,
    has_time: Callable[[], bool] = lambda: True,
    may_enter: Callable[[str], bool] = lambda _: True,
) -> Removed:
    """Removes the things of all tombstones that are a day old, one tombstone at a time while ``has_time`` returns True.

    Tombstones that ``may_enter`` rejects are left for another round.
    """
    done = Removed()
    forget_taken_back(bucket, now)
    drop_finished_marks(bucket)
    for path, tombstone in list(read_all(bucket, TOMBSTONES)):
        if now - tombstone.at < GRACE:
            continue
        if not has_time():
            done.is_over = False
            break
        if not may_enter(path):
            continue
        _remove(bucket, path, rules, now, done)
    return done


def _remove(bucket: Bucket, path: str, rules: Retention, now: datetime, done: Removed) -> None:
    bucket.write(removing_mark(path), b"")
    # read after the mark is written: an undo removes the tombstone first and then checks for this mark
    tombstone = read_tombstone(bucket, path)
    if tombstone is not None:
        inspection = Inspection(bucket=bucket, rules=rules, now=now, needs=read_needs(bucket), kept_for=_fixes_since(bucket, tombstone.at))
        if inspection.needs.unclear:
            log.info("removal waits until it is known what a new job needs", tombstone=name_of(path))
            done.is_over = False
            bucket.delete(removing_mark(path))
            return
        marked = {thing.key for thing in tombstone.things}
        found = [thing for thing in _assess_again(inspection, tombstone) if thing.key in marked or thing.kind is Kind.LEFTOVER]
        _delete(bucket, [thing for thing in found if thing.is_removed], done)
        done.spared += [thing for thing in found if not thing.is_removed and thing.key in marked]
        bucket.delete(path)
    bucket.delete(removing_mark(path))


def _fixes_since(bucket: Bucket, at: datetime) -> dict[str, str]:
    """Job -> a job that needs it and was requested since this moment, which is missing from the assessment at the time of the tombstone."""
    young = [name for name in bucket.folders(JOBS) if name >= f"{at - CLOCKS_DIFFER:%Y%m%dt%H%M%S}" and not name.startswith("_")]
    return {other: name for name in young for other in needed_by(bucket, name) or ()}


def _assess_again(inspection: Inspection, tombstone: Tombstone) -> list[Assessment]:
    """Assesses the things of this tombstone again."""
    names: dict[str, set[str]] = {}
    for thing in tombstone.things:
        names.setdefault(_whereabouts(thing.kind, thing.name), set()).add(thing.name)
    found = []
    jobs = names.get("jobs", set())
    if jobs:
        for prefix, group in _their_groups(inspection.bucket, jobs):
            files = files_of_jobs(inspection.bucket, prefix, group)
            for name in sorted(jobs.intersection(group), reverse=True):
                found += assess_job(inspection, name, files.get(name, [])) if files.get(name) else []
    for place in sorted({name.partition(f"/{REVISIONS}/")[0] for name in names.get("results", ())}):
        for one in places_in(inspection.bucket.tree(place)):
            found += [thing for thing in assess_place(inspection, one) if thing.name in names["results"]]
    for where, assess in (("requests", survey_requests), ("notices", survey_notices)):
        if where in names:
            found += [thing for _, assess_group in assess(inspection) for thing in assess_group() if thing.name in names[where]]
    return found


def _their_groups(bucket: Bucket, wanted: set[str]) -> list[tuple[str, list[str]]]:
    """The groups that contain the wanted jobs: an object store lists each group in one call."""
    if not bucket.is_remote:
        return [("", sorted(wanted))]
    names = [name for name in bucket.folders(JOBS) if not name.startswith("_")]
    return [(prefix, group) for prefix, group in in_groups(names, GROUP) if wanted.intersection(group)]


def _whereabouts(kind: str, name: str) -> str:
    if kind == Kind.LEFTOVER:
        return "results" if "/" in name else "jobs"
    return {Kind.REVISION: "results", Kind.RESULT: "results", Kind.REQUEST: "requests", Kind.NOTICE: "notices"}.get(Kind(kind), "jobs")


def _is_needed(needs: Needs, thing: Assessment) -> bool:
    """Returns True if an open job, a held result or a channel needs this, or a revision in it."""
    revisions = {path.partition(f"/{REVISIONS}/")[2].partition("/")[0] for path in thing.paths if f"/{REVISIONS}/" in path}
    if any(needs.reason_of_revision(job_id) is not None for job_id in revisions):
        return True
    return needs.reason(thing.name.rpartition("/")[2]) is not None


def _delete(bucket: Bucket, things: Sequence[Assessment], done: Removed) -> None:
    """Removes the files of these things, unless an open job needs them now."""
    marks = [thing.mark for thing in things if thing.mark]
    for path in marks:
        bucket.write(path, b"")
    needs = read_needs(bucket)
    going = []
    for thing in things:
        if needs.unclear or _is_needed(needs, thing):
            if thing.mark:
                bucket.delete(thing.mark)
            done.spared.append(thing)
        else:
            going.append(thing)
    paths = [path for thing in going for path in thing.paths]
    for rank in sorted({removal_rank(path) for path in paths}):
        bucket.delete_many([path for path in paths if removal_rank(path) == rank])
    done.things += going
