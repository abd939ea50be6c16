"""The results at their places and their revisions, read from their manifests. One that cannot be read is named, and hides no other."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from shared.bucket.interface import Bucket
from shared.catalog.aliases import MANIFEST
from shared.catalog.manifests import OUTPUTS, ResultManifest
from shared.catalog.unreadable import read_or_reason
from shared.errors import MessageError, PermanentError, RequestError
from shared.records import check_bucket_path, decode_long
from shared.signatures import Signature

REVISIONS = "revisions"
"""Folder of a place that keeps every result which was ever made there, each in a folder named by its job."""


@dataclass(frozen=True, kw_only=True)
class FoundResult:
    """A result, or a revision of one, whose manifest can be read."""

    folder: str
    """Of the manifest: ``data/predict/output/<definition>/<place>``, or a folder below its ``revisions``."""
    manifest: ResultManifest
    signed: Signature


@dataclass(frozen=True, kw_only=True)
class UnreadableResult:
    """A result, or a revision of one, whose manifest cannot be read."""

    folder: str
    path: str
    """Of the manifest."""
    reason: str


def list_results(bucket: Bucket) -> Iterator[FoundResult | UnreadableResult]:
    """Yields what is published at each place, by definition and place."""
    yield from _below(bucket, OUTPUTS)


def list_revisions(bucket: Bucket, place: str) -> Iterator[FoundResult | UnreadableResult]:
    """Yields the revisions of one place (``data/predict/output/...``) that have a manifest, the newest first."""
    for name in reversed(_folders(bucket, f"{place}/{REVISIONS}")):
        found = inspect_result(bucket, f"{place}/{REVISIONS}/{name}")
        if found is not None:
            yield found


def find_revision(bucket: Bucket, job_id: str) -> FoundResult | None:
    """The revision that a job made, wherever it lies: it outlives the folder of the job. None when there is none that can be read."""
    for place in _places(bucket, OUTPUTS):
        found = inspect_result(bucket, f"{place}/{REVISIONS}/{job_id}")
        if isinstance(found, FoundResult):
            return found
    return None


def inspect_result(bucket: Bucket, folder: str) -> FoundResult | UnreadableResult | None:
    """The result in a folder, why it cannot be read, or None when there is no manifest."""
    path = f"{folder}/{MANIFEST}"
    text, reason = read_or_reason(bucket, path)
    if text is None:
        return UnreadableResult(folder=folder, path=path, reason=reason) if reason else None
    try:
        manifest = decode_long(ResultManifest, text)
    except MessageError as error:
        return UnreadableResult(folder=folder, path=path, reason=error.message)
    return FoundResult(folder=folder, manifest=manifest, signed=bucket.signer.check(text))


def read_result(bucket: Bucket, folder: str) -> FoundResult | None:
    """The result in a folder, or None when there is none.

    Raises:
        RequestError: the folder is no path inside the bucket, or its manifest cannot be read; the sentence names the file.
    """
    try:
        check_bucket_path(folder)
    except ValueError as error:
        raise RequestError(f"the path {folder!r} {error}", next_step="Name a path inside the bucket.") from None
    found = inspect_result(bucket, folder)
    if isinstance(found, UnreadableResult):
        raise RequestError(
            f"{found.path} is not a result manifest: {found.reason}",
            next_step="Score its table again with --again; older results of the place are listed by: "
            f"scoring results revisions {folder.removeprefix(f'{OUTPUTS}/').partition(f'/{REVISIONS}/')[0]}",
        )
    return found


def _below(bucket: Bucket, folder: str) -> Iterator[FoundResult | UnreadableResult]:
    for name in _folders(bucket, folder):
        if name == REVISIONS:
            continue
        found = inspect_result(bucket, f"{folder}/{name}")
        if found is not None:
            yield found
        yield from _below(bucket, f"{folder}/{name}")


def _places(bucket: Bucket, folder: str) -> Iterator[str]:
    """The folders that have revisions."""
    names = _folders(bucket, folder)
    if REVISIONS in names:
        yield folder
    for name in names:
        if name != REVISIONS:
            yield from _places(bucket, f"{folder}/{name}")


def _folders(bucket: Bucket, folder: str) -> list[str]:
    """The folders in a folder; none in one whose name is no path of the bucket, which its manifest was reported for."""
    with contextlib.suppress(PermanentError):
        return bucket.folders(folder)
    return []
