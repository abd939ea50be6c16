"""Why a manifest cannot be read, where that is a matter of this one file and not of the whole bucket."""

from shared.bucket.interface import Bucket
from shared.errors import BucketError, PermanentError


def read_or_reason(bucket: Bucket, path: str) -> tuple[bytes | None, str]:
    """The content of a file, or why this one file cannot be read; neither when there is none.

    Raises:
        BucketError: the bucket does not answer, so nothing is known of any file.
    """
    try:
        return bucket.read(path), ""
    except PermanentError as error:  # no path inside the bucket, or a symbolic link that leads outside
        return None, error.message
    except BucketError as error:
        if isinstance(error.__cause__, PermissionError):
            return None, error.message
        raise
