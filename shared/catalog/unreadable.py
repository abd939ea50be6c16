"""Separates an unreadable manifest from an unavailable bucket."""

from shared.bucket.interface import Bucket
from shared.errors import BucketError, PermanentError


def read_or_reason(bucket: Bucket, path: str) -> tuple[bytes | None, str]:
    """The content of a file and an empty reason, or None and why this file cannot be read; None and an empty reason when it does not exist.

    Raises:
        BucketError: the bucket does not answer, so the state of any file is unknown.
    """
    try:
        return bucket.read(path), ""
    except PermanentError as error:  # not a bucket path, or a symbolic link that leads outside the bucket
        return None, error.message
    except BucketError as error:
        if isinstance(error.__cause__, PermissionError):
            return None, error.message
        raise
