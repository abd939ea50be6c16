"""The files of a release that people and commands read, checked against its manifest."""

import hashlib
from pathlib import Path

from shared.bucket.interface import Bucket
from shared.catalog.manifests import REPORT, ReleaseManifest
from shared.catalog.paths import release_folder
from shared.errors import ModelError, RequestError


def read_file(bucket: Bucket, manifest: ReleaseManifest, name: str) -> bytes:
    """Reads a file of a release and checks it against the manifest.

    Raises:
        ModelError: the release has no such file, or the file was changed.
    """
    digest = manifest.files.get(name)
    if digest is None:
        raise ModelError(
            f"the release {manifest.release} has no {name}: it is of an earlier version, or was judged on no later table",
            next_step=f"Train it again: scoring train {manifest.definition} --again",
        )
    content = bucket.read(bucket.stored_at(release_folder(manifest.release), name, digest.sha256)) or b""
    if hashlib.sha256(content).hexdigest() != digest.sha256:
        raise ModelError(
            f"the file {name} of the release {manifest.release} was changed after it was published",
            next_step=f"Train it again: scoring train {manifest.definition} --again",
        )
    return content


def write_report(bucket: Bucket, manifest: ReleaseManifest, file: Path) -> None:
    """Writes the report of a release to a local file.

    Raises:
        ModelError: the release has no report, or it was changed.
        RequestError: the file cannot be written.
    """
    content = read_file(bucket, manifest, REPORT)
    try:
        file.write_bytes(content)
    except OSError as error:
        raise RequestError(f"{file} cannot be written: {error.strerror}", next_step="Name another file.") from error
