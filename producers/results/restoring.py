"""How to restore a revision at its place: the command that makes it again, or the reason why none can."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.bucket.interface import Bucket, FileInfo
from shared.bucket.unchanged import has_content
from shared.catalog.manifests import INPUTS, OUTPUTS, PREDICTIONS, ResultManifest
from shared.catalog.releases import inspect_release
from shared.errors import PermanentError
from shared.jobs.files import JobFile
from shared.jobs.folder import JobFolder
from shared.jobs.messages import REJECT_SHARE, ScoreJob
from shared.records import FileDigest
from shared.table_files import find_files

MAX_HASHED_BYTES = 256 << 20
"""The largest file that is read to compare its content when its stamp differs; a larger one counts as changed."""

_DATED = re.compile(r"[^/]+/(\d{4})/(\d\d)/(\d\d)(?:/|$)")


@dataclass(frozen=True, kw_only=True)
class RestoreAdvice:
    """The command that restores a revision, or why scoring again would not give it."""

    command: str = ""
    why_not: str = ""
    """What is missing or was changed, and what remains, as a sentence; empty when there is a command."""


def restore_advice(bucket: Bucket, folder: str, manifest: ResultManifest) -> RestoreAdvice:
    """Returns how to restore a revision of the place ``folder``."""
    job = _job_of(bucket, manifest.job_id)
    missing = next(_missing(bucket, manifest, job), "")
    if missing:
        return RestoreAdvice(why_not=f"{missing}. Its rates remain in {manifest.revision}/{PREDICTIONS}, which can be copied by hand.")
    return RestoreAdvice(command=shlex.join([*_request(folder, manifest, job), *_limits(bucket, manifest, job), "--again"]))


def _request(folder: str, manifest: ResultManifest, job: ScoreJob | None) -> list[str]:
    if manifest.fixes and job is not None and job.fixed_rows:
        return ["scoring", "score", job.fixed_rows, "--fix", manifest.fixes]
    words = ["scoring", "score", manifest.table.path, "--model", manifest.release]
    dated = _DATED.match(folder.removeprefix(f"{OUTPUTS}/"))
    if dated and not manifest.table.path.startswith(f"{INPUTS}/"):
        words += ["--date", "-".join(dated.groups())]
    return [*words, "--interval"] if manifest.interval else words


def _limits(bucket: Bucket, manifest: ResultManifest, job: ScoreJob | None) -> list[str]:
    """The limits of rejects of the original job as options; no limit if a person accepted its rejects."""
    share, number = (job.max_reject_share, job.max_rejects) if job else (REJECT_SHARE, None)
    rejected = manifest.rows_rejected
    is_over = rejected > share * manifest.rows_in or (number is not None and rejected > number)
    if is_over or (job is not None and bucket.exists(JobFolder(bucket, job.job_id).file(JobFile.REJECTS_ACCEPTED))):
        return ["--max-reject-share", "1"]
    words = ["--max-reject-share", f"{share!r}"] if share != REJECT_SHARE or manifest.fixes else []
    return words if number is None else [*words, "--max-rejects", str(number)]


def _missing(bucket: Bucket, manifest: ResultManifest, job: ScoreJob | None) -> Iterator[str]:
    """Yields what is needed to make a result again but is gone or changed, in words."""
    if inspect_release(bucket, manifest.release) is None:
        yield f"the release {manifest.release} is no longer in the store"
    yield from _changes_of_table(bucket, manifest)
    if manifest.fixes is None:
        return
    if job is None or job.fixed_rows is None:
        yield f"the request of job {manifest.job_id}, which names the corrected rows, was removed"
        return
    rows = bucket.stat(job.fixed_rows)
    if rows is None:
        yield f"the corrected rows {job.fixed_rows} are gone"
    elif manifest.fixed_rows and not _is_seen_to_hold(bucket, rows, manifest.fixed_rows):
        yield f"the corrected rows {job.fixed_rows} were changed since"
    earlier = JobFolder(bucket, manifest.fixes)
    if not earlier.has(JobFile.REQUEST) or not earlier.has(JobFile.PLAN):
        yield f"the files of job {manifest.fixes}, whose rejects it fixes, were removed"


def _changes_of_table(bucket: Bucket, manifest: ResultManifest) -> Iterator[str]:
    table = manifest.table
    try:
        found = {info.path: info for info, _ in find_files(bucket, table.path)}
    except PermanentError:
        yield f"the table {table.path} is gone"
        return
    gone, new = sorted(table.files.keys() - found.keys()), sorted(found.keys() - table.files.keys())
    if gone:
        yield f"{gone[0]} of its table is gone"
    if new:
        yield f"{new[0]} was added to its table since"
    stamps, versions = _stamps(bucket, manifest.job_id), JobFolder(bucket, manifest.job_id).table_versions()
    for path, digest in table.files.items():
        info = found.get(path)
        is_as_it_was = info is not None and info.size == digest.size and stamps.get(path) == info.stamp
        if is_as_it_was and (path not in versions or (info is not None and versions[path] == info.version)):
            continue
        if info is not None and not _is_seen_to_hold(bucket, info, digest):
            yield f"{path} was changed since it was scored"


def _is_seen_to_hold(bucket: Bucket, info: FileInfo, digest: FileDigest) -> bool:
    return digest.size <= MAX_HASHED_BYTES and has_content(bucket, info.path, digest)


def _stamps(bucket: Bucket, job_id: str) -> Mapping[str, str]:
    """The stamp of each file of the table, from the plan of a job; empty when the plan was removed."""
    try:
        files: list[dict[str, Any]] = json.loads(bucket.read(JobFolder(bucket, job_id).file(JobFile.PLAN)) or b"{}").get("files", [])
        return {str(file["path"]): str(file["stamp"]) for file in files}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _job_of(bucket: Bucket, job_id: str) -> ScoreJob | None:
    try:
        return JobFolder(bucket, job_id).score_job()
    except PermanentError:
        return None
