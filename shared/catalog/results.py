"""The results at their places and their revisions, read from their manifests.

An unreadable manifest is reported and hides no other result.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from shared.bucket.interface import Bucket
from shared.catalog.channels import ChannelChange
from shared.catalog.manifests import CHANNELS, OUTPUTS, ResultManifest
from shared.catalog.paths import MANIFEST, REVISIONS, revision_folder
from shared.catalog.unreadable import read_or_reason
from shared.errors import MessageError, PermanentError, RequestError
from shared.records import check_bucket_path, decode_long
from shared.signatures import Signature


@dataclass(frozen=True, kw_only=True)
class FoundResult:
    """A result or revision whose manifest can be read."""

    folder: str
    """Folder of the manifest: ``data/predict/output/<definition>/<place>``, or a folder below its ``revisions``."""
    manifest: ResultManifest
    signed: Signature


@dataclass(frozen=True, kw_only=True)
class UnreadableResult:
    """A result or revision whose manifest cannot be read."""

    folder: str
    path: str
    """Path of the manifest."""
    reason: str


def list_results(bucket: Bucket) -> Iterator[FoundResult | UnreadableResult]:
    """Yields the published result of each place, by definition and place."""
    yield from _below(bucket, OUTPUTS)


def list_revisions(bucket: Bucket, place: str) -> Iterator[FoundResult | UnreadableResult]:
    """Yields the revisions of one place (``data/predict/output/...``) that have a manifest, the newest first."""
    for name in reversed(_folders(bucket, f"{place}/{REVISIONS}")):
        found = inspect_result(bucket, revision_folder(place, name))
        if found is not None:
            yield found


def find_revision(bucket: Bucket, job_id: str) -> FoundResult | None:
    """The revision of a job, at any place; it outlives the folder of the job. None when no readable one exists."""
    for place in _places(bucket, OUTPUTS):
        found = inspect_result(bucket, revision_folder(place, job_id))
        if isinstance(found, FoundResult):
            return found
    return None


def inspect_result(bucket: Bucket, folder: str) -> FoundResult | UnreadableResult | None:
    """The result in a folder; UnreadableResult when its manifest cannot be read; None when it has no manifest."""
    path = f"{folder}/{MANIFEST}"
    text, reason = read_or_reason(bucket, path)
    if text is None:
        return UnreadableResult(folder=folder, path=path, reason=reason) if reason else None
    try:
        manifest = decode_long(ResultManifest, text)
    except MessageError as error:
        return UnreadableResult(folder=folder, path=path, reason=error.message)
    return FoundResult(folder=folder, manifest=manifest, signed=bucket.signer.check(text))


def has_same_rates(bucket: Bucket, revision: str, other: ResultManifest | ChannelChange) -> bool:
    """Returns True if a revision has the same rates as another result, made with the same release."""
    own = inspect_result(bucket, revision)
    return isinstance(own, FoundResult) and (own.manifest.text_sha256, own.manifest.release) == (other.text_sha256, other.release)


def read_result(bucket: Bucket, folder: str) -> FoundResult | None:
    """The result in a folder, or None when the folder has no manifest.

    Raises:
        RequestError: the folder is not a bucket path, or its manifest cannot be read; the message names the file.
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
        if name == REVISIONS or f"{folder}/{name}" == CHANNELS:
            continue
        found = inspect_result(bucket, f"{folder}/{name}")
        if found is not None:
            yield found
        yield from _below(bucket, f"{folder}/{name}")


def _places(bucket: Bucket, folder: str) -> Iterator[str]:
    """The folders that contain revisions."""
    names = _folders(bucket, folder)
    if REVISIONS in names:
        yield folder
    for name in names:
        if name != REVISIONS and f"{folder}/{name}" != CHANNELS:
            yield from _places(bucket, f"{folder}/{name}")


def _folders(bucket: Bucket, folder: str) -> list[str]:
    """The folders in a folder; empty when its name is not a bucket path, which the error for its manifest already reports."""
    with contextlib.suppress(PermanentError):
        return bucket.folders(folder)
    return []
