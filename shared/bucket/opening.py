"""Opens the bucket at an address."""

from pathlib import Path

from shared.bucket.interface import Bucket
from shared.bucket.local import LocalBucket
from shared.bucket.remote import RemoteBucket
from shared.signatures import NO_SIGNER, Signer


def open_bucket(url: str, signer: Signer = NO_SIGNER) -> Bucket:
    """The bucket at ``url``: a folder (created at the first write), ``s3://...`` or ``gs://...``. Opens no connection yet."""
    remote = url.startswith(("s3://", "gs://"))
    bucket = RemoteBucket(url) if remote else LocalBucket(Path(url.removeprefix("file://")))
    bucket.signer = signer
    return bucket
