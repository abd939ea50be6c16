"""Signs releases that are already in the store: those from before the store had a key, and those signed with an older key."""

from shared.bucket.interface import Bucket
from shared.bucket.unchanged import has_content
from shared.catalog.advice import how_to_retrain
from shared.catalog.manifests import ReleaseManifest
from shared.catalog.paths import MANIFEST, release_folder
from shared.catalog.releases import read_release
from shared.errors import ModelError, RequestError
from shared.signatures import Signature


def sign_release(bucket: Bucket, release: str) -> None:
    """Signs a release with the first key of ``SCORING_STORE_KEY``, after its files were checked against its manifest.

    Raises:
        RequestError: no key is set.
        ModelError: the release does not exist, its files were changed, or it is signed with an unknown key.
    """
    if not bucket.signer.keys:
        raise RequestError("SCORING_STORE_KEY is not set, so nothing can be signed", next_step="Set it as it is set for the workers.")
    folder, retrain = release_folder(release), how_to_retrain(release)
    text, manifest = checked_manifest(bucket, release)
    if manifest.signature is not None and bucket.signer.check(text) is not Signature.RIGHT:
        raise ModelError(
            f"the release {release} was signed with another key, or changed since",
            next_step=f"Put the other key after the new one in SCORING_STORE_KEY, separated by a comma. {retrain}",
        )
    for name, digest in manifest.files.items():
        if not has_content(bucket, bucket.stored_at(folder, name, digest.sha256), digest):
            problem = f"the file {name} of the release {release} is missing, or was changed after it was published"
            raise ModelError(problem, next_step=retrain)
    unsigned = manifest.model_copy(update={"signature": None})
    bucket.write(f"{folder}/{MANIFEST}", bucket.signer.sign(unsigned.to_json()), durable=True)


def checked_manifest(bucket: Bucket, release: str) -> tuple[bytes, ReleaseManifest]:
    """The manifest of a release, as bytes in the bucket and decoded.

    Raises:
        ModelError: the manifest does not exist, is malformed, or belongs to another release.
    """
    found = read_release(bucket, release)
    return found.text, found.manifest
