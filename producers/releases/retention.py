"""Removes releases that nothing needs.

A release is needed by an alias or a possible rollback; by a published result or one of its revisions; by a job that has not ended, or that
failed or was cancelled and may still be resumed; or by the schedule. Each job, result and release is read once, without a lock. So the jobs
are read again just before the manifests are removed, and once more before the files are: without its manifest no new job can use a release,
and a job that started before gets the manifest back.
"""

import json
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from producers.durations import ago
from producers.schedule.run_states import STATE_FOLDER, entries_in
from producers.schedule.schedule_file import SCHEDULE, is_blank
from shared.bucket.interface import Bucket, FileInfo
from shared.bucket.local import ORPHAN_SECONDS
from shared.catalog.aliases import ALIASES, LATEST, damaged_aliases, known_alias, list_aliases, spoken_alias
from shared.catalog.manifests import OUTPUTS, ReleaseManifest
from shared.catalog.paths import MANIFEST, MODELS, release_folder
from shared.catalog.retirements import retired_releases
from shared.errors import MessageError, PermanentError
from shared.jobs.files import JobFile
from shared.jobs.folder import JOBS, JobFolder, open_jobs
from shared.jobs.messages import ScoreJob
from shared.records import decode_long, is_release_id
from shared.retention.assessments import newest
from shared.retention.config import read_retention
from shared.retention.needs import in_groups
from shared.retention.results import places_in, result_folders
from shared.retention.survey import GROUP, files_of_jobs

KEPT = 3
"""The default number of the newest releases of each definition that stay."""

KeepReasons = defaultdict[str, list[str]]
"""Release, or definition (for all its releases), or an empty text (for all releases) -> the reasons to keep it."""
ALL_RELEASES = ""


@dataclass(frozen=True, kw_only=True)
class AssessedRelease:
    """A release, or the remains of one, with the reasons to keep it."""

    release: str
    created: datetime
    size: int
    """The size of all its files, in bytes."""
    needed: list[str]
    """Why it stays; empty when nothing needs it."""
    at: datetime
    """The time of the assessment."""
    whole: bool = True
    """False for files without a manifest, left by an interrupted publication or removal."""
    ended: frozenset[str] = field(default=frozenset(), repr=False)
    """The jobs that had ended by then, whose needs are included."""

    def encode(self) -> dict[str, Any]:
        """The assessment as JSON values."""
        return {name: value for name, value in vars(self).items() if name != "ended"}


def assess_releases(bucket: Bucket, *, keep: int = KEPT, older_than: timedelta = timedelta(0)) -> list[AssessedRelease]:
    """Assesses every release, by definition, the newest first."""
    at = datetime.now(UTC)
    ended, held = _ended_jobs(bucket, at)
    needs = _needs(bucket, ended)
    for job_id, until in held.items():
        for release in _releases_of_job(bucket, job_id):
            needs[release].append(f"job {job_id} failed or was cancelled, and may be resumed until {until:%Y-%m-%d}")
    retired = retired_releases(bucket)
    assessed = [
        replace(one, at=at, ended=ended, needed=_reasons(needs, one.release) + one.needed)
        for definition in bucket.folders(MODELS)
        for one in _assess_definition(bucket, definition, keep, older_than, retired)
    ]
    # only for releases that nothing else needs: there are far more results than releases
    wanted = {one.release.partition("@")[0] for one in assessed if not one.needed}
    of_results = _needs_of_results(bucket, wanted)
    return [replace(one, needed=_reasons(of_results, one.release) + one.needed) for one in assessed]


def remove_release(bucket: Bucket, assessed: AssessedRelease) -> list[str]:
    """Removes a release unless something needs it now; returns the reasons to keep it, empty when it was removed."""
    return remove_releases(bucket, [assessed])[assessed.release]


def remove_releases(bucket: Bucket, unneeded: Sequence[AssessedRelease]) -> dict[str, list[str]]:
    """Removes these releases unless something needs them now; release -> the reasons to keep it, empty when it was removed."""
    ended = frozenset[str].intersection(*(one.ended for one in unneeded)) if unneeded else frozenset()
    needs = _needs(bucket, ended)
    found = {one.release: _reasons(needs, one.release) for one in unneeded}
    texts = {}
    for release in [release for release, needed in found.items() if not needed]:
        texts[release] = bucket.read(_manifest(release))
        bucket.delete(_manifest(release))
    needs = _needs(bucket, ended) if texts else needs
    for release, text in texts.items():
        found[release] = _reasons(needs, release)
        if not found[release]:
            bucket.delete_folder(release_folder(release))
        elif text is not None:
            bucket.create(_manifest(release), text)
    return found


def _manifest(release: str) -> str:
    return f"{release_folder(release)}/{MANIFEST}"


def _reasons(needs: KeepReasons, release: str) -> list[str]:
    return [*needs.get(release, []), *needs.get(release.partition("@")[0], []), *needs.get(ALL_RELEASES, [])]


def _assess_definition(
    bucket: Bucket, definition: str, keep: int, older_than: timedelta, retired: Collection[str]
) -> Iterator[AssessedRelease]:
    """Yields the releases of a definition, the newest first, with the reasons in the releases themselves."""
    at = datetime.now(UTC)
    if f"{MODELS}/{definition}" == ALIASES:
        return
    rank = 0
    for release in reversed(bucket.folders(f"{MODELS}/{definition}")):
        if not (is_release_id(release) and release.startswith(f"{definition}@")):
            continue
        files = bucket.files(release_folder(release))
        text = bucket.read(_manifest(release))
        if text is None:
            yield _left_over(release, files, at)
            continue
        rank += release not in retired
        is_new = rank <= keep and release not in retired
        needed = [f"one of the {keep} newest of {definition}, until newer ones are trained"] if is_new else []
        try:
            created = decode_long(ReleaseManifest, text).created
        except MessageError as error:
            created = newest(files)
            needed.append(f"its manifest cannot be read: {error.message}")
        if datetime.now(UTC) - created < older_than:
            needed.append(f"trained {ago(created)}, goes from {created + older_than:%Y-%m-%d} on")
        yield AssessedRelease(release=release, created=created, size=sum(file.size for file in files), needed=needed, at=at)


def _left_over(release: str, files: list[FileInfo], at: datetime) -> AssessedRelease:
    written = newest(files)
    # the files of a release are published before its manifest
    needed = ["perhaps it is just being published"] if time.time() - written.timestamp() < ORPHAN_SECONDS else []
    size = sum(file.size for file in files)
    return AssessedRelease(release=release, created=written, size=size, needed=needed, at=at, whole=False)


def _ended_jobs(bucket: Bucket, now: datetime) -> tuple[frozenset[str], dict[str, datetime]]:
    """The jobs that have ended, and those of them that may still be resumed, each with the time until which it may."""
    age = read_retention(bucket).held
    ended: set[str] = set()
    held: dict[str, datetime] = {}
    names = [name for name in bucket.folders(JOBS) if not name.startswith("_")]
    for prefix, group in in_groups(names, GROUP):
        for job_id, files in files_of_jobs(bucket, prefix, group).items():
            there = {info.path.rpartition("/")[2]: info for info in files if info.path.count("/") == 2}
            if JobFile.OUTCOME not in there:
                continue
            ended.add(job_id)
            until = newest([there[JobFile.OUTCOME]]) + age
            if JobFile.PUBLISHED not in there and now < until:
                held[job_id] = until
    return frozenset(ended), held


def _needs(bucket: Bucket, ended: frozenset[str]) -> KeepReasons:
    """The needs that are quick to read: open jobs and jobs that are not among the ``ended`` ones, aliases, the schedule.

    A job that has ended since then may have made its result after the results were read. Jobs are read before aliases, because a training
    moves its alias before it ends.
    """
    needs: KeepReasons = defaultdict(list)
    opened = set(open_jobs(bucket))
    since = {name for name in bucket.folders(JOBS) if not name.startswith("_")} - ended - opened
    for job_id in sorted(opened | since):
        reason = f"job {job_id} is open" if job_id in opened else f"job {job_id} has not ended, or ended while releases were looked at"
        for release in _releases_of_job(bucket, job_id):
            needs[release].append(reason)
    _add_aliases(bucket, needs)
    _add_schedule(bucket, needs)
    return needs


def _add_schedule(bucket: Bucket, needs: KeepReasons) -> None:
    """Adds the releases that the schedule names; every release while the file has a problem, since it may name any."""
    text = bucket.read(SCHEDULE)
    entries, problems, _ = entries_in(bucket, text)
    for entry in entries:
        if is_release_id(entry.model):
            needs[entry.model].append(f"{entry.name} in the schedule names it")
    reason = ""
    if problems:
        first = problems[0]
        reason = f"{first.entry}: {f'{first.field}: ' if first.field else ''}{first.wrong}"
    elif text is not None and is_blank(text):
        reason = "it is empty; [] says that there are no entries"
    elif lost := sorted({*bucket.folders(STATE_FOLDER)} - {entry.name for entry in entries}):
        reason = f"{lost[0]} was in force and is not in it; beat forgets an entry 10 minutes after it was taken out"
    if reason:
        needs[ALL_RELEASES].append(f"{SCHEDULE} may name it, and cannot be read whole: {reason}")


def _add_aliases(bucket: Bucket, needs: KeepReasons) -> None:
    retired = retired_releases(bucket)
    for name in list_aliases(bucket):
        alias = known_alias(bucket, name)
        if alias is not None:
            needs[alias.release].append(f"{spoken_alias(name)} points to it")
            for release in alias.back:
                if release not in retired:
                    needs[release].append(f"{name} can be rolled back to it")
    for name in damaged_aliases(bucket):
        definition = name.removesuffix(LATEST) if name.endswith(LATEST) else ALL_RELEASES
        needs[definition].append(f"{spoken_alias(name)} cannot be read, and may point to it")


def _releases_of_job(bucket: Bucket, job_id: str) -> set[str]:
    """The releases that a job made, names or has pinned."""
    found: set[str] = set()
    try:
        folder = JobFolder(bucket, job_id)
        job = folder.job()
    except PermanentError:
        return found  # it cannot continue and needs nothing
    if not isinstance(job, ScoreJob):
        folders = bucket.folders(f"{MODELS}/{job.definition}")
        # the id of the release contains the time of the job
        return {name for name in folders if name.startswith(f"{job.definition}@{job.created:%Y%m%dT%H%M%SZ}-")}
    if is_release_id(job.model):
        found.add(job.model)
    pins = [folder.file(JobFile.PINNED), folder.file(JobFile.PLAN)]
    if job.fixes:
        pins.append(JobFolder(bucket, job.fixes).file(JobFile.PLAN))
    for path in pins:
        release = _release_in(bucket.read(path))
        if release is not None:
            found.add(release)
    return found


def _release_in(text: bytes | None) -> str | None:
    try:
        return str(json.loads(text or b"")["release"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _needs_of_results(bucket: Bucket, definitions: set[str]) -> KeepReasons:
    """The releases of the results of these definitions and of their revisions; each manifest is read once."""
    places: dict[str, list[str]] = {}
    needs: KeepReasons = defaultdict(list)
    for folder in result_folders(bucket):
        definition = folder.removeprefix(f"{OUTPUTS}/").partition("/")[0]
        if definition not in definitions:
            continue
        for place in places_in(bucket.tree(folder)):
            for path in [info.path for info in place.everything if info.path.endswith(f"/{MANIFEST}")]:
                release = _release_in(bucket.read(path))
                shown = path.removeprefix(f"{OUTPUTS}/").removesuffix(f"/{MANIFEST}")
                if release is None:
                    needs[definition].append(f"{path} cannot be read, and may be of it")
                else:
                    places.setdefault(release, []).append(shown)
    for release, shown_places in places.items():
        more = f" and {len(shown_places) - 1:,} more" if len(shown_places) > 1 else ""
        needs[release].append(f"the result {shown_places[0]}{more} is of it")
    return needs
