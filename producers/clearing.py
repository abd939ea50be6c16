"""Clears the store of releases that nothing needs.

What needs a release: an alias, or a step back that an alias can take; a published result or one of its revisions; a job that has not
ended; the schedule. Nobody holds a lock meanwhile, so each release is looked at again just before its manifest goes, and once more
before its files do: without the manifest nobody can begin to use it, and who began before gets it back.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from producers.durations import ago
from producers.schedule import SCHEDULE, read_schedule
from shared.aliases import ALIASES, LATEST, MANIFEST, MODELS, damaged_aliases, known_alias, list_aliases, release_folder, spoken_alias
from shared.bucket import STRAY_SECONDS, Bucket, FileInfo
from shared.catalog.retirements import retired_releases
from shared.errors import PermanentError
from shared.job_folder import JOBS, JobFolder, open_jobs
from shared.manifests import OUTPUTS, ReleaseManifest, ResultManifest
from shared.messages import ScoreJob, decode_long, is_release_id

KEPT = 3
"""The newest releases of each definition that stay, if nobody says otherwise."""

CLOCKS_DIFFER = timedelta(hours=1)
"""The clock that named a job may go behind ours by so much."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A release, or what is left of one, with what it is needed for."""

    release: str
    created: datetime
    size: int
    """Bytes of all its files."""
    needed: list[str]
    """Why it stays; empty when nothing needs it."""
    at: datetime
    """When this was found out."""
    whole: bool = True
    """False for files without a manifest, left by a publication or a deletion that was broken off."""


def judge_releases(bucket: Bucket, *, keep: int = KEPT, older_than: timedelta = timedelta(0)) -> list[Judged]:
    """Every release with what it is needed for, by definition, the newest first."""
    at = datetime.now(UTC)
    needs = _needs(bucket, at)
    for release, places in _releases_of_results(bucket).items():
        more = f" and {len(places) - 1:,} more" if len(places) > 1 else ""
        needs[release].append(f"the result {places[0].removeprefix(f'{OUTPUTS}/')}{more} is of it")
    judged = []
    retired = retired_releases(bucket)
    for definition in bucket.folders(MODELS):
        names = [name for name in bucket.folders(f"{MODELS}/{definition}") if is_release_id(name) and name.startswith(f"{definition}@")]
        newest = 0
        for release in reversed(names if f"{MODELS}/{definition}" != ALIASES else []):
            files = bucket.files(release_folder(release))
            text = bucket.read(f"{release_folder(release)}/{MANIFEST}")
            if text is None:
                judged.append(_left_over(release, files, at))
                continue
            newest += release not in retired
            created = decode_long(ReleaseManifest, text).created
            needed = [f"one of the {keep} newest of {definition}"] if newest <= keep and release not in retired else []
            if datetime.now(UTC) - created < older_than:
                needed.append(f"trained {ago(created)}")
            judged.append(
                Judged(release=release, created=created, size=sum(file.size for file in files), needed=needs[release] + needed, at=at)
            )
    return judged


def clear(bucket: Bucket, judged: Judged) -> list[str]:
    """Remove a release unless something has come to need it since it was judged; what does, empty when it is gone."""
    if needed := _needs(bucket, judged.at)[judged.release]:
        return needed
    manifest = f"{release_folder(judged.release)}/{MANIFEST}"
    text = bucket.read(manifest)
    bucket.delete(manifest)
    if needed := _needs(bucket, judged.at)[judged.release]:
        if text is not None:
            bucket.create(manifest, text)
        return needed
    bucket.delete_folder(release_folder(judged.release))
    return []


def _left_over(release: str, files: list[FileInfo], at: datetime) -> Judged:
    newest = max((file.modified for file in files), default=0.0)
    # a release that is just being published has its files before its manifest
    needed = ["perhaps it is just being published"] if time.time() - newest < STRAY_SECONDS else []
    return Judged(
        release=release,
        created=datetime.fromtimestamp(newest, UTC),
        size=sum(file.size for file in files),
        needed=needed,
        at=at,
        whole=False,
    )


def _needs(bucket: Bucket, since: datetime) -> defaultdict[str, list[str]]:
    """Release -> what points to it and can be looked at quickly: aliases, the schedule, open jobs, and those asked for since a moment.

    The latter may have ended in the meantime, so that their results were not there when results were looked at. Jobs come before
    aliases, since a training points its alias before it ends.
    """
    needs: defaultdict[str, list[str]] = defaultdict(list)
    young = {name for name in bucket.folders(JOBS) if name >= f"{since - CLOCKS_DIFFER:%Y%m%dt%H%M%S}"}
    for job_id in sorted(young.union(open_jobs(bucket))):
        for release in _releases_of_job(bucket, job_id):
            needs[release].append(f"job {job_id} is open or new")
    retired = retired_releases(bucket)
    for name in list_aliases(bucket):
        alias = known_alias(bucket, name)
        if alias is not None:
            needs[alias.release].append(f"{spoken_alias(name)} means it")
            for release in alias.back:
                if release not in retired:
                    needs[release].append(f"{name} can be rolled back to it")
    for name in damaged_aliases(bucket):
        for definition in [name.removesuffix(LATEST)] if name.endswith(LATEST) else bucket.folders(MODELS):
            for release in bucket.folders(f"{MODELS}/{definition}"):
                needs[release].append(f"what {spoken_alias(name)} means cannot be read, and it may mean it")
    for entry in read_schedule(bucket.read(SCHEDULE) or b"")[0]:
        if is_release_id(entry.model):
            needs[entry.model].append(f"{entry.name} in the schedule names it")
    return needs


def _releases_of_job(bucket: Bucket, job_id: str) -> set[str]:
    """The releases that a job made, names or has pinned."""
    found: set[str] = set()
    try:
        folder = JobFolder(bucket, job_id)
        job = folder.job()
    except PermanentError:
        return found  # it cannot go on, and needs nothing
    if not isinstance(job, ScoreJob):
        folders = bucket.folders(f"{MODELS}/{job.definition}")
        # the id of the release follows from the time of the job
        return {name for name in folders if name.startswith(f"{job.definition}@{job.created:%Y%m%dT%H%M%SZ}-")}
    if is_release_id(job.model):
        found.add(job.model)
    pins = [folder.file("begun.json"), folder.file("plan.json")]
    if job.fixes:
        pins.append(JobFolder(bucket, job.fixes).file("plan.json"))
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


def _releases_of_results(bucket: Bucket) -> dict[str, list[str]]:
    """Release -> the folders of the results and revisions that were scored with it."""
    found: dict[str, list[str]] = {}
    for folder in _folders_below(bucket, OUTPUTS):
        text = bucket.read(f"{folder}/{MANIFEST}")
        if text is not None:
            found.setdefault(decode_long(ResultManifest, text).release, []).append(folder)
    return found


def _folders_below(bucket: Bucket, folder: str) -> Iterator[str]:
    for name in bucket.folders(folder):
        yield f"{folder}/{name}"
        yield from _folders_below(bucket, f"{folder}/{name}")
