"""The releases of the store, read from their manifests. An unreadable manifest is reported and hides no other release."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from shared.bucket.interface import Bucket
from shared.catalog.advice import how_to_retrain
from shared.catalog.aliases import ALIASES
from shared.catalog.manifests import ReleaseManifest
from shared.catalog.paths import MANIFEST, MODELS, release_folder
from shared.catalog.unreadable import read_or_reason
from shared.errors import MessageError, ModelError, PermanentError
from shared.records import decode_long
from shared.signatures import Signature

NEEDED_FIGURES = ("log_loss_per_click", "mae_by_click")
"""Figures of a release that every list and comparison shows."""


@dataclass(frozen=True, kw_only=True)
class FoundRelease:
    """A release whose manifest can be read."""

    manifest: ReleaseManifest
    signed: Signature
    text: bytes
    """The bytes of the manifest in the bucket."""

    @property
    def release(self) -> str:
        """The id of the release."""
        return self.manifest.release

    @property
    def is_trusted(self) -> bool:
        """False when a key is set here and the signature is missing or wrong: workers refuse the release."""
        return self.signed.is_trusted


@dataclass(frozen=True, kw_only=True)
class UnreadableRelease:
    """A release whose manifest cannot be read."""

    release: str
    path: str
    """Path of the manifest."""
    reason: str


def list_releases(bucket: Bucket) -> Iterator[FoundRelease | UnreadableRelease]:
    """Yields every release that has a manifest, by definition and id."""
    for definition in bucket.folders(MODELS):
        if f"{MODELS}/{definition}" != ALIASES:
            yield from releases_of(bucket, definition)


def releases_of(bucket: Bucket, definition: str) -> Iterator[FoundRelease | UnreadableRelease]:
    """Yields the releases of one definition that have a manifest, by id."""
    names: list[str] = []
    with contextlib.suppress(PermanentError):  # a folder whose name is not a bucket path holds no release
        names = bucket.folders(f"{MODELS}/{definition}")
    for name in names:
        found = inspect_release(bucket, name) if name.startswith(f"{definition}@") else None
        if found is not None:
            yield found


def inspect_release(bucket: Bucket, release: str) -> FoundRelease | UnreadableRelease | None:
    """A release; UnreadableRelease when its manifest cannot be read; None when it has no manifest."""
    path = f"{release_folder(release)}/{MANIFEST}"
    text, reason = read_or_reason(bucket, path)
    if text is None:
        return UnreadableRelease(release=release, path=path, reason=reason) if reason else None
    try:
        manifest = decode_long(ReleaseManifest, text)
        _check(manifest, release)
    except MessageError as error:
        return UnreadableRelease(release=release, path=path, reason=error.message)
    return FoundRelease(manifest=manifest, signed=bucket.signer.check(text), text=text)


def read_release(bucket: Bucket, release: str) -> FoundRelease:
    """A release by its id.

    Raises:
        ModelError: the release does not exist, or its manifest cannot be read; the message names the file.
    """
    found = inspect_release(bucket, release)
    if found is None:
        raise ModelError(f"there is no release {release} in the bucket {bucket.url}", next_step="List them with: scoring models list")
    if isinstance(found, UnreadableRelease):
        raise unreadable(found)
    return found


def unreadable(found: UnreadableRelease) -> ModelError:
    """The error for a command that needs this release."""
    return ModelError(f"{found.path} is not a release manifest: {found.reason}", next_step=how_to_retrain(found.release))


def _check(manifest: ReleaseManifest, release: str) -> None:
    """Raises MessageError when a manifest lacks a field that every reader needs."""
    if manifest.release != release:
        raise MessageError(f"it belongs to the release {manifest.release}")
    if "train" not in manifest.tables:
        raise MessageError("it does not name the table that the release was trained on")
    figures = manifest.metrics.get(manifest.judged_on, {}).get(manifest.definition, {})
    missing = [name for name in NEEDED_FIGURES if name not in figures]
    if missing:
        raise MessageError(f"it lacks the figure {missing[0]} of {manifest.definition}")
