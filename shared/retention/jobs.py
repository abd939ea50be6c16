"""Applies the retention rules to the folder of a job, from its listing: a file is read only if its times contradict its name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from shared.bucket.interface import Bucket, FileInfo
from shared.catalog.paths import MANIFEST, revision_folder
from shared.errors import ScoringError
from shared.jobs.files import JobFile, Subfolder
from shared.jobs.folder import JOBS, JobFolder
from shared.jobs.ids import ABANDONED_AFTER, time_of_job
from shared.retention.assessments import Assessment, Kind, day, newest, to_keep, to_remove
from shared.retention.config import Retention
from shared.retention.needs import Needs, needed_by
from shared.text.durations import in_words

RECORDS: frozenset[str] = frozenset(
    {
        JobFile.REQUEST,
        JobFile.OUTCOME,
        JobFile.MANIFEST,
        JobFile.PUBLISHED,
        JobFile.CLEARED,
        JobFile.VERSIONS,
        JobFile.GUARD,
        JobFile.HELD,
        JobFile.DECISION,
    }
)
"""The files that stay when the others are removed. A repeated request uses the versions to check that its table has not changed.

What the guard found and what a person decided stay, so that a refused result remains refused.
"""


@dataclass(kw_only=True)
class Inspection:
    """One examination of the jobs of a bucket."""

    bucket: Bucket
    rules: Retention
    now: datetime
    needs: Needs
    kept_for: dict[str, str] = field(default_factory=dict)
    """Job -> a fix of it whose files stay. A fix is newer than its original job, so jobs are examined from the newest on."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    inspection: Inspection
    job_id: str
    files: Mapping[str, FileInfo]
    """By path inside the folder."""

    def path(self, name: str) -> str:
        """The bucket path of a file in the folder."""
        return f"{JOBS}/{self.job_id}/{name}"

    def ended_for(self, age: timedelta | None) -> bool:
        """Returns True when the job ended at least this long ago."""
        if age is None:
            return False
        limit = self.inspection.now - age
        if self._written <= limit:
            return True
        made = time_of_job(self.job_id)
        if made is None or made > limit:
            return False
        # requested long ago, but with a recent outcome: copied files have the time of the copy
        return self._read_end() <= limit

    def until(self, age: timedelta) -> str:
        """The day on which the job will have this age."""
        return day(self._written + age)

    @property
    def _written(self) -> datetime:
        return newest([self.files[JobFile.OUTCOME]])

    def _read_end(self) -> datetime:
        try:
            outcome = JobFolder(self.inspection.bucket, self.job_id).outcome()
        except ScoringError:
            return self._written
        return self._written if outcome is None else min(outcome.at, self._written)

    def some(self, wanted: Callable[[str], bool]) -> list[FileInfo]:
        """The files whose path satisfies ``wanted``."""
        return [info for name, info in self.files.items() if wanted(name)]


def assess_job(inspection: Inspection, job_id: str, found: Sequence[FileInfo]) -> list[Assessment]:
    """Assesses a job folder with these files: one Assessment for each part to remove, and one for what stays."""
    own = f"{JOBS}/{job_id}/"
    job = _Job(inspection=inspection, job_id=job_id, files={info.path.removeprefix(own): info for info in found})
    if time_of_job(job_id) is None:
        return [to_keep(Kind.UNKNOWN, f"{JOBS}/{job_id}", found, "its name is not that of a job")]
    reason = inspection.needs.reason(job_id)
    if reason is not None:
        return [to_keep(Kind.JOB_FILES, job_id, found, reason)]
    if JobFile.REQUEST not in job.files:
        return [_leftover(inspection, job_id, found)]
    if JobFile.OUTCOME not in job.files:
        return [to_keep(Kind.UNKNOWN, job_id, found, "it has not ended and is not open: scoring jobs show says more")]
    if not job.some(lambda name: name not in RECORDS):
        return [_assess_record(job)]
    return _assess_files(job)


def _assess_files(job: _Job) -> list[Assessment]:
    """Assesses a job that has more than its records."""
    inspection, rules = job.inspection, job.inspection.rules.jobs
    is_done = JobFile.PUBLISHED in job.files
    age = rules.done if is_done else rules.failed
    ended = "done" if is_done else "failed or cancelled"
    needed = inspection.kept_for.get(job.job_id)
    if job.ended_for(age) and needed is None and age is not None:
        gone = job.some(lambda name: name not in RECORDS)
        rest = job.some(lambda name: name in RECORDS)
        return [
            to_remove(
                Kind.JOB_FILES,
                job.job_id,
                gone,
                f"{ended} more than {in_words(age)} ago",
                mark="" if is_done else job.path(JobFile.CLEARED),
            ),
            to_keep(Kind.JOB_RECORD, job.job_id, rest, "request, outcome and manifest stay for a year"),
        ]
    _note_fixed(job)
    things = []
    staying = set(job.files)
    for kind, subfolder, applies in ((Kind.SLICES, Subfolder.SLICES, True), (Kind.PARTS, Subfolder.PARTS, is_done)):
        files = job.some(lambda name, subfolder=subfolder: name.startswith(f"{subfolder}/"))  # type: ignore[misc]
        if files and applies and job.ended_for(rules.parts):
            things.append(to_remove(kind, job.job_id, files, f"{ended} more than {in_words(rules.parts)} ago"))
            staying -= {name for name in staying if name.startswith(f"{subfolder}/")}
    why = f"fix {needed} needs it" if needed else f"{ended}, stays for ever" if age is None else f"{ended}, stays until {job.until(age)}"
    return [*things, to_keep(Kind.JOB_FILES, job.job_id, job.some(lambda name: name in staying), why)]


def _note_fixed(job: _Job) -> None:
    """Keeps the jobs whose folders this one needs to be fixed or resumed: only fixes, and jobs that failed before they had a plan."""
    is_fix = any(name.startswith(f"{Subfolder.FIXES}/") for name in job.files)
    may_need = is_fix or (JobFile.PUBLISHED not in job.files and JobFile.PLAN not in job.files)
    for other in (needed_by(job.inspection.bucket, job.job_id) or ()) if may_need else ():
        job.inspection.kept_for.setdefault(other, job.job_id)


def _assess_record(job: _Job) -> Assessment:
    """Assesses a job of which only request, outcome and manifest are left."""
    files = list(job.files.values())
    age = job.inspection.rules.records_stay
    if age is None:
        return to_keep(Kind.JOB_RECORD, job.job_id, files, "stays for ever: config/retention.yaml sets no age for jobs")
    made = time_of_job(job.job_id) or datetime.now(UTC)
    if job.inspection.now - made < age or not job.ended_for(age):
        return to_keep(Kind.JOB_RECORD, job.job_id, files, f"request, outcome and manifest stay until {job.until(age)}")
    try:
        if JobFile.MANIFEST in job.files and _has_revision(job):
            return to_keep(Kind.JOB_RECORD, job.job_id, files, "its result is still there")
    except ScoringError as error:
        return to_keep(Kind.UNKNOWN, job.job_id, files, f"whether its result is there is unknown: {error.message}")
    return to_remove(Kind.JOB_RECORD, job.job_id, files, f"asked for more than {in_words(age)} ago")


def _has_revision(job: _Job) -> bool:
    outcome = JobFolder(job.inspection.bucket, job.job_id).outcome()
    result = outcome.result if outcome else ""
    return bool(result) and job.inspection.bucket.exists(f"{revision_folder(result, job.job_id)}/{MANIFEST}")


def _leftover(inspection: Inspection, job_id: str, found: Sequence[FileInfo]) -> Assessment:
    """Assesses a folder without a request: an enqueue died, or a removal was interrupted."""
    if not inspection.rules.is_set:
        return to_keep(Kind.LEFTOVER, job_id, found, "it has no request; stays for ever without config/retention.yaml")
    if inspection.now - newest(found) < ABANDONED_AFTER:
        return to_keep(Kind.LEFTOVER, job_id, found, "it has no request yet")
    return to_remove(Kind.LEFTOVER, job_id, found, "it has no request: the process that wrote it died")
