"""Finds results by job, channel, place or path."""

import gzip
import itertools

from producers.job_names import find_job
from producers.results.rejects import job_of_result, revision_of_gone_job
from producers.results.shown import find_shown
from shared.bucket.interface import Bucket
from shared.catalog.manifests import OUTPUTS, PREDICTIONS, ResultManifest
from shared.catalog.paths import MANIFEST, revision_folder
from shared.catalog.results import FoundResult, UnreadableResult, list_results, read_result
from shared.errors import RequestError
from shared.jobs.states import SETTLED_STATES
from shared.signatures import Signature


def inspect_results(bucket: Bucket) -> tuple[list[FoundResult], list[UnreadableResult]]:
    """Every published result, the newest first, and those whose manifest cannot be read."""
    found: list[FoundResult] = []
    unreadable: list[UnreadableResult] = []
    for result in list_results(bucket):
        if isinstance(result, UnreadableResult):
            unreadable.append(result)
        else:
            found.append(result)
    return sorted(found, key=lambda result: result.manifest.finished, reverse=True), unreadable


def find_result(bucket: Bucket, wanted: str) -> tuple[str, ResultManifest]:
    """The folder and manifest of a result, by its folder, the channel that shows it now, or its job.

    Raises:
        RequestError: the result does not exist, the job has none yet, or the manifest cannot be read.
    """
    folder = wanted.strip("/").removeprefix(f"{OUTPUTS}/")
    published = read_result(bucket, f"{OUTPUTS}/{folder}")
    if published is not None:
        return published.folder, published.manifest
    shown = find_shown(bucket, folder)
    if shown is not None:
        return shown.folder, shown.manifest
    wanted = find_job(bucket, wanted, scores=True)
    kept = revision_of_gone_job(bucket, wanted)
    if kept is not None:
        return kept.folder, kept.manifest
    status = job_of_result(bucket, wanted).status()
    if status.state not in SETTLED_STATES or status.outcome is None:
        raise RequestError(f"job {wanted} has no result: it is {status.state}", next_step=f"See it with: scoring jobs show {wanted}")
    found = read_result(bucket, revision_folder(status.outcome.result, wanted))
    if found is None:
        raise RequestError(
            f"the revision of job {wanted} is no longer in the bucket {bucket.url}", next_step="List results with: scoring results list"
        )
    return found.folder, found.manifest


def signature_of(bucket: Bucket, folder: str) -> Signature:
    """The state of the signature of the result in a folder."""
    return bucket.signer.check(bucket.read(f"{folder}/{MANIFEST}") or b"")


def first_lines(bucket: Bucket, folder: str, count: int) -> list[str]:
    """The header and the first ``count`` rows of a result."""
    with bucket.open(f"{folder}/{PREDICTIONS}") as raw, gzip.open(raw, "rt", encoding="utf-8") as lines:
        return [line.rstrip("\n") for line in itertools.islice(lines, count + 1)]
